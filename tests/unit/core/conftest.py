"""Generated examples run without a deadline: a shared machine must not decide whether a parser is correct."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")
