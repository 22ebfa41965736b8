"""The looks in which every page is examined: language, theme and width in pixels.

Two of them show each language, each theme and each width once. ``RELAY_TEST_LOOKS=all`` examines every pair, in twice the time.
"""

from __future__ import annotations

import os

import pytest

_TWO = (("en", "dark", 360), ("ja", "light", 1280))
_PAIRS = (("en", "light", 360), ("en", "dark", 1280), ("ja", "light", 1280), ("ja", "dark", 360))

LOOKS = _PAIRS if os.environ.get("RELAY_TEST_LOOKS") == "all" else _TWO
in_each_look = pytest.mark.parametrize(("language", "theme", "width"), LOOKS)
