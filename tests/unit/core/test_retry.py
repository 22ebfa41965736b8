from __future__ import annotations

from datetime import timedelta

import pytest

from delivery.core.retry import DEFAULT_BULK_SCHEDULE, DEFAULT_SCHEDULE, RetrySchedule

HOUR = timedelta(hours=1)


def test_the_delays_follow_one_another_and_the_last_repeats() -> None:
    schedule = RetrySchedule.parse("5,10,20", HOUR)

    assert [schedule.delay_after(attempts).total_seconds() for attempts in range(1, 6)] == [5, 10, 20, 20, 20]


def test_jitter_moves_a_delay_by_a_tenth_at_most() -> None:
    schedule = RetrySchedule.parse("100", HOUR)

    assert schedule.delay_after(1, jitter=-1.0) == timedelta(seconds=90)
    assert schedule.delay_after(1, jitter=1.0) == timedelta(seconds=110)
    assert schedule.delay_after(1, jitter=50.0) == timedelta(seconds=110)


def test_an_attempt_that_was_given_back_counts_as_the_first() -> None:
    assert RetrySchedule.parse("5,10", HOUR).delay_after(0) == timedelta(seconds=5)


def test_units_may_be_written() -> None:
    assert RetrySchedule.parse("90s, 5m,2h,1d", HOUR).delays == (
        timedelta(seconds=90),
        timedelta(minutes=5),
        timedelta(hours=2),
        timedelta(days=1),
    )


@pytest.mark.parametrize("text", ["", "5,", "0", "-5", "5x", "five", "5,,6", "1.5", "99999999"])
def test_a_schedule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RetrySchedule.parse(text, HOUR)


def test_a_lifetime_must_be_positive() -> None:
    with pytest.raises(ValueError):
        RetrySchedule.parse("5", timedelta(0))


def test_bulk_mail_gives_up_sooner() -> None:
    assert DEFAULT_BULK_SCHEDULE.lifetime < DEFAULT_SCHEDULE.lifetime == timedelta(days=5)
