"""Durations counted in slots that grow by a fourth of an octave, so that percentiles of any period are sums of small counts.

A slot is at most 19 % wide; what is read from it is its middle, and so within 9.1 % of the true value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

SLOTS_PER_OCTAVE = 4
LAST_SLOT = 127  # from 49 days on


def slot_of(duration: timedelta) -> int:
    """Slot 0 is everything below 1.19 ms, also what a stepped clock made negative."""
    milliseconds = duration / timedelta(milliseconds=1)
    if milliseconds <= 1:
        return 0
    return min(LAST_SLOT, int(math.log2(milliseconds) * SLOTS_PER_OCTAVE))


def middle_of(slot: int) -> timedelta:
    return timedelta(milliseconds=2 ** ((slot + 0.5) / SLOTS_PER_OCTAVE))


def percentile(counts: Mapping[int, int], share: float) -> timedelta | None:
    """The duration that ``share`` (0 to 1) of what was counted did not exceed; None when nothing was counted."""
    total = sum(counts.values())
    if total == 0:
        return None
    wanted, seen = max(1, math.ceil(total * share)), 0
    for slot in sorted(counts):
        seen += counts[slot]
        if seen >= wanted:
            return middle_of(slot)
    raise AssertionError("the share is at most 1")
