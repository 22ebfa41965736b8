"""The score of an address, over histories that were made up hour by hour: it falls, rises and is capped as the terms say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from delivery.reputation import scoring
from delivery.reputation.scoring import History, Met, Score, score

Hour = dict[str, int]


def _clean(_hour: int) -> Hour:
    return {"accepted": 100, "other": 2}


def _with(day: int, until: int, **trouble: int) -> Callable[[int], Hour]:
    """Clean but for some days, in which each hour has some trouble."""
    return lambda hour: _clean(hour) | (trouble if day <= hour // 24 < until else {})


def _at(day: int, hours: Callable[[int], Hour], **more: Any) -> Score:
    """The score at the end of a day of a history that begins with day 0."""
    now = (day + 1) * 24
    windows = {}
    for length in scoring.windows():
        counts: Counter[str] = Counter()
        for hour in range(max(0, now - length), now):
            counts.update(hours(hour))
        windows[length] = Met(dict(counts))
    return score(History(windows, **more))


def _value(found: Score) -> int:
    assert found.value is not None
    return found.value


def test_a_clean_sender_has_100_and_nothing_to_do() -> None:
    found = _at(59, _clean)

    assert found.value == 100
    assert found.what_would_raise_it == []


@pytest.mark.parametrize(
    ("trouble", "at_most"),
    [
        ({"blocked": 100}, 25),
        ({"blocked": 5}, 95),
        ({"throttled": 100}, 70),
        ({"unknown": 6}, 75),
        ({"complaints": 1}, 75),
        ({"content": 10}, 80),
        ({"policy": 30}, 90),
    ],
)
def test_trouble_lowers_it_within_a_day_and_is_forgotten_within_a_month(trouble: Hour, at_most: int) -> None:
    hours = _with(30, 32, **trouble)

    before, during, after, a_week_later, forgotten = (_value(_at(day, hours)) for day in (29, 30, 32, 40, 62))

    assert before == 100
    assert during <= at_most
    assert during < after <= a_week_later <= forgotten == 100
    assert _at(30, hours).what_would_raise_it[0] == next(iter(trouble))


def test_more_trouble_never_gives_a_better_score() -> None:
    for name in ("blocked", "throttled", "unknown", "complaints", "content", "policy"):
        values = [_value(_at(30, _with(30, 31, **{name: number}))) for number in range(0, 60, 4)]
        assert values == sorted(values, reverse=True)


def test_the_terms_make_up_the_score() -> None:
    found = _at(30, _with(29, 31, blocked=4, unknown=2, complaints=1), passed=0.5)

    assert found.value == round(100 * math.prod(term.factor for term in found.terms))
    assert {term.name for term in found.terms} == {
        *("blocked", "throttled", "unknown", "complaints", "content", "policy", "spike", "age")
    }
    costs = {term.name: term.costs for term in found.terms}
    assert found.what_would_raise_it == sorted(
        (name for name, cost in costs.items() if cost >= 0.5), key=lambda name: -costs[name]
    )


def test_listings_and_reverse_dns_cap_it_and_never_raise_it() -> None:
    listed = _at(30, _clean, has_severe_listing=True, has_broken_reverse_dns=True)
    nameless = _at(30, _clean, has_broken_reverse_dns=True)
    hopeless = _at(30, _with(0, 31, blocked=200), has_broken_reverse_dns=True)

    assert (listed.value, listed.what_would_raise_it) == (20, ["severe_listing"])
    assert nameless.value == 40
    assert _value(hopeless) < 20
    assert hopeless.what_would_raise_it[0] == "blocked"


def test_a_new_address_rises_with_the_stages_it_passes() -> None:
    values = [_value(_at(30, _clean, passed=share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]

    assert values == [30, 48, 65, 82, 100]


def test_a_sudden_volume_costs_and_a_steady_one_does_not() -> None:
    def sudden(hour: int) -> Hour:
        return {"accepted": 500 if hour // 24 == 20 else 100}

    assert [_value(_at(day, sudden)) for day in (19, 20, 27)] == [100, 78, 100]


def test_too_little_says_nothing_and_one_case_is_chance() -> None:
    assert _at(30, lambda hour: {"accepted": 19 if hour == 700 else 0}).value is None
    assert _at(30, lambda hour: {"accepted": 30, "blocked": 1} if hour == 740 else {}).value == 100
    assert score(History({hours: Met() for hours in scoring.windows()})).value is None
