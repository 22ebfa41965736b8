"""Four new addresses, three receivers, sixty days: warmed up they reach their share unblocked, otherwise they are blocked."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


sys.path.insert(0, str(ROOT))

from bench.warm_up_days import RULES, simulate  # noqa: E402


def test_warmed_up_they_take_their_share_without_a_block() -> None:
    report = simulate(warms_up=True)

    assert (report["blocks"], report["throttled"], report["steps_back"]) == (0, 0, 0)
    assert all(report["ready_on_day"].values())
    assert report["share_of_last_day"] > 0.75
    assert report["waiting"] == 0


def test_without_warm_up_the_same_traffic_is_blocked() -> None:
    report = simulate(warms_up=False)

    assert report["blocks"] > 100_000
    assert report["share_of_last_day"] < 0.1


def test_a_stricter_receiver_takes_them_back_and_gets_used_to_them_all_the_same() -> None:
    strict = [replace(rule, growth=1 + (rule.growth - 1) * 0.6) for rule in RULES]

    report = simulate(warms_up=True, rules=strict)

    assert report["steps_back"] > 0
    assert report["blocks"] == 0
    assert all(report["ready_on_day"].values())
    assert report["share_of_last_day"] > 0.75
