"""The score of a tenant or sending domain, over histories that were made up hour by hour."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from delivery.reputation import scoring
from delivery.reputation.scoring import History, Met, Score

FORMULA = scoring.formula_of_senders()
Hour = dict[str, int]


def _clean(_hour: int) -> Hour:
    return {"accepted": 200, "unknown": 1}


def _with(day: int, until: int, **trouble: int) -> Callable[[int], Hour]:
    return lambda hour: _clean(hour) | (trouble if day <= hour // 24 < until else {})


def _at(day: int, hours: Callable[[int], Hour], **more: Any) -> Score:
    """The score at the end of a day of a history that begins with day 0."""
    now = (day + 1) * 24
    windows = {}
    for length in scoring.windows(FORMULA):
        counts: Counter[str] = Counter()
        for hour in range(max(0, now - length), now):
            counts.update(hours(hour))
        windows[length] = Met(dict(counts))
    return scoring.score(History(windows, **more), by=FORMULA)


def _value(found: Score) -> int:
    assert found.value is not None
    return found.value


def test_an_ordinary_sender_is_near_100() -> None:
    assert _value(_at(40, _clean)) >= 96


@pytest.mark.parametrize(
    ("trouble", "at_most"),
    [
        ({"unknown": 24}, 65),  # an old list: 12 % unknown users
        ({"complaints": 2}, 55),
        ({"content": 20}, 75),
        ({"blocked": 60}, 80),
        ({"policy": 60}, 85),
        ({"refused": 50}, 90),
        ({"expired": 50}, 92),
        ({"suppressed": 50}, 92),
    ],
)
def test_two_bad_days_cost_at_once_and_are_forgotten_within_a_month(trouble: Hour, at_most: int) -> None:
    hours = _with(35, 37, **trouble)

    before, during, after, later, forgotten = (_value(_at(day, hours)) for day in (34, 36, 37, 46, 67))

    assert during <= at_most < before == forgotten
    assert during < after <= later <= forgotten
    assert _at(36, hours).what_would_raise_it[0] == next(iter(trouble))


def test_a_stolen_credential_shows_within_hours() -> None:
    """5,000 mails in an evening, 12 % to nobody, from a tenant of some 200 a day."""

    def hours(hour: int) -> Hour:
        return {"accepted": 1100, "unknown": 150} if 60 * 24 + 18 <= hour < 60 * 24 + 22 else {"accepted": 8}

    assert _value(_at(59, hours)) == 100
    assert _value(_at(60, hours)) < 40
    assert set(_at(60, hours).what_would_raise_it) == {"unknown", "spike"}


def test_every_term_is_told_and_they_make_up_the_score() -> None:
    found = _at(36, _with(35, 37, unknown=9, complaints=1, suppressed=30), passed=0.5)

    assert found.value == round(100 * math.prod(term.factor for term in found.terms))
    assert {term.name for term in found.terms} == {*(term["name"] for term in FORMULA["term"]), "spike", "age"}


@pytest.mark.parametrize("cap", FORMULA["caps"])
def test_a_cap_keeps_it_down_and_says_so_first(cap: str) -> None:
    found = _at(40, _clean, caps=frozenset({cap}))
    hopeless = _at(40, _with(0, 41, unknown=200, complaints=9, content=90, blocked=90), caps=frozenset({cap}))

    assert (found.value, found.what_would_raise_it[0]) == (FORMULA["caps"][cap], cap)
    assert _value(hopeless) < FORMULA["caps"][cap] and hopeless.what_would_raise_it[0] != cap


def test_a_new_sender_rises_and_one_that_hardly_sends_has_none() -> None:
    assert [_value(_at(40, lambda _hour: {"accepted": 9}, passed=share)) for share in (0.0, 0.5, 1.0)] == [70, 85, 100]
    assert _at(40, lambda hour: {"accepted": 19 if hour == 900 else 0}).value is None
