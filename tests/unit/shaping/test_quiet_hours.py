"""When it is quiet: by the tenant's clock, over midnight, and when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from delivery.quiet_hours import QuietHours

TOKYO = ZoneInfo("Asia/Tokyo")
NIGHT = QuietHours(time(21), time(8), TOKYO)
LUNCH = QuietHours(time(12), time(13, 30), TOKYO)


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        (NIGHT, "2026-11-24T20:59:59+09:00", None),
        (NIGHT, "2026-11-24T21:00:00+09:00", "2026-11-25T08:00:00+09:00"),
        (NIGHT, "2026-11-25T00:30:00+09:00", "2026-11-25T08:00:00+09:00"),
        (NIGHT, "2026-11-25T07:59:59+09:00", "2026-11-25T08:00:00+09:00"),
        (NIGHT, "2026-11-25T08:00:00+09:00", None),
        (LUNCH, "2026-11-24T12:15:00+09:00", "2026-11-24T13:30:00+09:00"),
        (LUNCH, "2026-11-24T00:15:00+09:00", None),
        (NIGHT, "2026-11-24T13:00:00+00:00", "2026-11-24T23:00:00+00:00"),  # 22:00 in Tokyo
    ],
)
def test_the_window_is_the_tenants_own(hours: QuietHours, now: str, end: str | None) -> None:
    found = hours.end_after(datetime.fromisoformat(now))

    assert found == (None if end is None else datetime.fromisoformat(end))


def test_the_night_in_which_clocks_go_forward_ends_when_they_say_so() -> None:
    berlin = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))

    end = berlin.end_after(datetime(2026, 3, 28, 23, 0, tzinfo=UTC))

    assert end == datetime(2026, 3, 29, 5, 0, tzinfo=UTC)  # 07:00 in summer time


def test_an_end_that_the_clock_leaps_over_is_no_end_without_an_end() -> None:
    berlin = QuietHours(time(22), time(2, 30), ZoneInfo("Europe/Berlin"))

    end = berlin.end_after(datetime(2026, 3, 29, 0, 59, tzinfo=UTC))

    assert end == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert berlin.end_after(datetime(2026, 3, 29, 1, 30, tzinfo=UTC)) is None
