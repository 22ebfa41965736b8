"""Durations in slots: what is read from them is close enough, and sums of periods are exact."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest

from delivery.core.histogram import LAST_SLOT, middle_of, percentile, slot_of


@pytest.mark.parametrize("seconds", [0.002, 0.0119, 0.48, 1, 59.9, 3600, 86_400 * 5])
def test_a_duration_is_read_within_nine_percent(seconds: float) -> None:
    read = middle_of(slot_of(timedelta(seconds=seconds)))

    assert abs(read.total_seconds() / seconds - 1) <= 0.0911


@pytest.mark.parametrize(("seconds", "slot"), [(-3600, 0), (0, 0), (0.001, 0), (86_400 * 365, LAST_SLOT)])
def test_what_no_slot_fits_is_in_the_nearest(seconds: float, slot: int) -> None:
    assert slot_of(timedelta(seconds=seconds)) == slot


def test_percentiles_are_those_of_the_durations() -> None:
    chance = random.Random(7)
    durations = sorted(chance.lognormvariate(0, 2) for _ in range(2000))
    counts = Counter(slot_of(timedelta(seconds=one)) for one in durations)

    for share in (0.5, 0.95):
        read = percentile(counts, share)
        assert read is not None
        assert abs(read.total_seconds() / durations[int(len(durations) * share) - 1] - 1) <= 0.2

    assert percentile({}, 0.5) is None
