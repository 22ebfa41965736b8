"""Signed-in members, as the console's tests have them."""

from __future__ import annotations

from tests.integration.console.conftest import _catalogues, _no_tries_counted, alice, cast, charlie, signed_in

__all__ = ["_catalogues", "_no_tries_counted", "alice", "cast", "charlie", "signed_in"]
