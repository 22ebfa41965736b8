from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from delivery.core.classification import Action, ReplyClass
from delivery.core.suppressing import SOFT, StrikeVerdict, judge_strike, lasts

NOW = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_dead_mailbox_is_suppressed_at_once() -> None:
    verdict = judge_strike(Action.FAIL_AND_SUPPRESS, is_carrier=False, moments=[NOW], now=NOW)

    assert verdict is StrikeVerdict.SUPPRESS


def test_a_carriers_first_550_only_counts() -> None:
    verdict = judge_strike(Action.FAIL_AND_SUPPRESS, is_carrier=True, moments=[NOW], now=NOW)

    assert verdict is StrikeVerdict.COUNT


def test_a_carrier_that_refuses_for_hours_is_one_episode() -> None:
    moments = [NOW - timedelta(hours=hours) for hours in range(20)]

    assert judge_strike(Action.FAIL_AND_SUPPRESS, is_carrier=True, moments=moments, now=NOW) is StrikeVerdict.COUNT


def test_a_carrier_that_refuses_again_another_day_is_believed() -> None:
    moments = [NOW - 2 * DAY, NOW]

    assert judge_strike(Action.FAIL_AND_SUPPRESS, is_carrier=True, moments=moments, now=NOW) is StrikeVerdict.SUPPRESS


@pytest.mark.parametrize(
    ("days_ago", "verdict"),
    [
        ((0,), StrikeVerdict.COUNT),
        ((1, 0), StrikeVerdict.COUNT),
        ((2, 1, 0), StrikeVerdict.SUPPRESS),
        ((40, 35, 0), StrikeVerdict.COUNT),  # too long ago
        ((0.2, 0.1, 0), StrikeVerdict.COUNT),  # one bad day
    ],
)
def test_soft_refusals_count_by_days(days_ago: tuple[float, ...], verdict: StrikeVerdict) -> None:
    moments = [NOW - days * DAY for days in days_ago]

    assert judge_strike(Action.FAIL_AND_COUNT, is_carrier=False, moments=moments, now=NOW) is verdict


def test_the_count_that_people_read_is_the_one_that_decides() -> None:
    assert SOFT.count([NOW - DAY, NOW], now=NOW) == 2


def test_how_long_depends_on_the_class_and_is_shorter_for_carriers() -> None:
    assert lasts(ReplyClass.BAD_MAILBOX, is_carrier=False) > lasts(ReplyClass.MAILBOX_FULL, is_carrier=False)
    assert lasts(ReplyClass.BAD_MAILBOX, is_carrier=True) < lasts(ReplyClass.BAD_MAILBOX, is_carrier=False)
