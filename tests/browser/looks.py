"""The looks in which every page is examined: language, theme and width in pixels.

Two of them show each language, each theme and each width once; axe-core, which takes longest, then looks at each page in one of
the two. ``RELAY_TEST_LOOKS=all`` examines every pair with everything, in three times the time.
"""

from __future__ import annotations

import os
import zlib

import pytest

_TWO = (("en", "dark", 360), ("ja", "light", 1280))
_PAIRS = (("en", "light", 360), ("en", "dark", 1280), ("ja", "light", 1280), ("ja", "dark", 360))

_ALL = os.environ.get("RELAY_TEST_LOOKS") == "all"
LOOKS = _PAIRS if _ALL else _TWO
in_each_look = pytest.mark.parametrize(("language", "theme", "width"), LOOKS)


def is_turn_of_axe(page: str, language: str) -> bool:
    """Half of the pages are looked at in English and dark, the others in Japanese and light."""
    return _ALL or language == ("en", "ja")[zlib.crc32(page.encode()) % 2]
