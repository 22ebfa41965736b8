"""What the rules of brakes say of counts: how many there must be, how hard, how strict, and when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest

from delivery.brakes import levels
from delivery.brakes.levels import Count, Level, Rule, Step


def _rule(name: str) -> Rule:
    found = levels.rule_named(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "bad", "total", "step"),
    [
        ("bounces", 19, 199, None),  # too few to say anything
        ("bounces", 199, 199, None),
        ("bounces", 19, 200, None),
        ("bounces", 20, 200, Step.SLOW),
        ("bounces", 40, 200, Step.HOLD),
        ("bounces", 70, 200, Step.PAUSE),
        ("complaints", 1, 200, None),  # one person's click
        ("complaints", 2, 401, None),
        ("complaints", 2, 400, Step.SLOW),
        ("complaints", 2, 200, Step.HOLD),
        ("complaints", 4, 200, Step.PAUSE),
        ("carrier_unknown", 9, 200, None),
        ("carrier_unknown", 10, 200, Step.SLOW),
        ("carrier_unknown", 20, 200, Step.HOLD),
        ("carrier_unknown", 200, 200, Step.HOLD),
        ("credential_bounces", 20, 201, None),
        ("credential_bounces", 20, 200, Step.HOLD),
        ("watched_unknown", 11, 150, None),
        ("watched_unknown", 12, 150, Step.HOLD),
        ("watched_bounces", 20, 200, Step.HOLD),
        ("sudden_volume", 999, 1, None),
        ("sudden_volume", 1000, 201, None),
        ("sudden_volume", 1000, 200, Step.SLOW),
    ],
)
def test_a_rule_is_met_from_its_numbers_on(name: str, bad: int, total: int, step: Step | None) -> None:
    found = levels.judge(_rule(name), Count(bad, total), level=Level.STANDARD)

    assert (found.step if found else None) == step


def test_strict_halves_the_shares_and_none_has_no_brakes() -> None:
    rule, count = _rule("bounces"), Count(20, 200)

    strict = levels.judge(rule, count, level=Level.STRICT)
    assert strict is not None and (strict.step, strict.threshold, strict.share) == (Step.HOLD, 0.1, 0.1)
    assert levels.judge(rule, Count(10, 200), level=Level.STRICT) is not None
    assert levels.judge(rule, Count(200, 200), level=Level.NONE) is None
    assert levels.in_flight(Level.STRICT) == levels.in_flight(Level.STANDARD) / 2
    assert levels.slow_rate(Level.STRICT) == levels.slow_rate(Level.STANDARD) / 2


def test_after_a_person_let_go_it_takes_more_but_never_more_than_all() -> None:
    rule = _rule("bounces")

    assert levels.judge(rule, Count(59, 200), level=Level.STANDARD, times=3.0) is None
    again = levels.judge(rule, Count(60, 200), level=Level.STANDARD, times=3.0)
    assert again is not None and again.step is Step.SLOW
    # Three times 35 in 100 are more than there can be.
    most = levels.judge(rule, Count(200, 200), level=Level.STANDARD, times=3.0)
    assert most is not None and most.step is Step.PAUSE


@pytest.mark.parametrize(
    ("name", "bad", "total", "hours", "is_over"),
    [
        ("bounces", 0, 1000, 0.9, False),  # not yet
        ("bounces", 9, 200, 1, True),
        ("bounces", 10, 200, 1, False),  # half of what pulled it
        ("bounces", 0, 199, 23, False),  # too few to see anything
        ("bounces", 199, 199, 24, True),  # next to no mail for a day
        ("bounces", 100, 200, 24, False),
        ("sudden_volume", 0, 200, 1, True),
        ("sudden_volume", 500, 200, 1, False),
    ],
)
def test_what_was_slowed_goes_on_once_it_is_clean(name: str, bad: int, total: int, hours: float, is_over: bool) -> None:
    count, pulled_for = Count(bad, total), timedelta(hours=hours)

    assert levels.is_over(_rule(name), count, level=Level.STANDARD, pulled_for=pulled_for) is is_over
