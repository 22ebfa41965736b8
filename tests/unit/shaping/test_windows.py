"""Rates hold in every stretch of their length, wherever it begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.shaping.windows import Rate, Windows


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2/s", Rate(2, 1)), ("100/min", Rate(100, 60)), ("50/10min", Rate(50, 600)), ("7/h", Rate(7, 3600))],
)
def test_a_rate_is_read_and_written_the_same_way(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert str(rate) == text


@pytest.mark.parametrize("text", ["", "0/s", "2", "2/", "/s", "2/week", "-1/s", "2/0s", "1e3/s"])
def test_what_is_no_rate_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        Rate.parse(text)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=3),
    st.lists(st.floats(0, 0.4), max_size=80),
)
def test_no_window_ever_holds_more_turns_than_its_rate(rates: list[tuple[int, float]], steps: list[float]) -> None:
    windows = Windows([Rate(count, seconds) for count, seconds in rates])
    now, taken = 0.0, []
    for step in steps:
        now += step
        if windows.take(now) == 0:
            taken.append(now)

    for count, seconds in rates:
        for begin in taken:
            assert sum(begin <= turn < begin + seconds for turn in taken) <= count


def test_waiting_as_long_as_it_says_is_long_enough() -> None:
    windows = Windows([Rate(1, 1), Rate(2, 10)])
    windows.take(0.0)
    windows.take(1.0)

    wait = windows.take(1.5)

    assert windows.take(1.5 + wait) == 0
    assert 1.5 + wait == 10.0


def test_without_rates_everybody_goes() -> None:
    windows = Windows()

    assert windows.available(0.0) is None
    assert all(windows.take(0.0) == 0 for _ in range(1000))


def test_turns_stay_counted_when_the_rate_changes() -> None:
    windows = Windows([Rate(10, 60)])
    for _ in range(10):
        windows.take(0.0)

    windows.set_rates([Rate(5, 60)])

    assert windows.available(1.0) == 0
    assert windows.available(61.5) == 5


def test_a_filled_window_lets_nobody_in_until_it_has_passed() -> None:
    windows = Windows([Rate(3, 10)])

    windows.fill(0.0, up_to=10)

    assert windows.take(9.9) > 0
    assert windows.take(10.1) == 0


def test_a_scaled_rate_grows_its_window_below_one_turn() -> None:
    assert Rate(8, 1).scaled(0.25) == Rate(2, 1)
    assert Rate(1, 1).scaled(0.25) == Rate(1, 4)


def test_a_long_window_is_never_too_generous_and_little_too_strict() -> None:
    windows = Windows([Rate(100, 3600)])
    taken, now = [], 0.0
    while now < 3 * 3600:
        if windows.take(now) == 0:
            taken.append(now)
        now += 7.0

    for begin in taken:
        assert sum(begin <= turn < begin + 3600 for turn in taken) <= 100
    assert len(taken) >= 290


def test_turns_of_a_former_owner_are_counted_where_they_still_matter() -> None:
    windows = Windows([Rate(2, 1), Rate(10, 60)])

    windows.count(0.0, 8, longer_than=10)

    assert windows.available(0.5) == 2
    assert sum(windows.take(moment) == 0 for moment in (1.0, 2.0, 3.0, 4.0)) == 2
