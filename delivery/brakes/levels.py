"""The rules of brakes, read from the data beside this file, and what they say of a count. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).with_name("levels.toml")
UNKNOWN_CLASSES = frozenset({"bad_mailbox", "bad_domain", "inactive"})


class Level(StrEnum):
    """How strictly a tenant is watched. ``NONE``: not at all."""

    NONE = "none"
    STANDARD = "standard"
    STRICT = "strict"


class Step(StrEnum):
    """What a brake does, the softest first."""

    SLOW = "slow"
    HOLD = "hold"
    PAUSE = "pause"

    @property
    def hardness(self) -> int:
        return list(Step).index(self)


@dataclass(frozen=True, slots=True)
class Rule:
    """``of``: tenant, carrier, credential, watched or volume. ``steps``: each with its share, the softest first.

    ``window`` is 0 where counting began with the watch.
    """

    name: str
    of: str
    counts: str
    window: timedelta
    fewest: int
    least: int
    steps: tuple[tuple[Step, float], ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """``bad`` of ``total``; of volume: mails of the hour, and of the busiest hour before."""

    bad: int
    total: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is met: the step it asks for, and from which share on it does."""

    rule: Rule
    step: Step
    count: Count
    share: float
    threshold: float


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


def rules(of: str | None = None) -> Sequence[Rule]:
    return [rule for rule in _rules() if of is None or rule.of == of]


def rule_named(name: str) -> Rule | None:
    return next((rule for rule in _rules() if rule.name == name), None)


@cache
def _rules() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            row["name"], row["of"], row["counts"], timedelta(hours=row["window_hours"]), row["fewest"], row["least"],
            tuple((Step(one["step"]), one["at"]) for one in row["steps"]), tuple(row.get("groups", ())),
        )
        for row in _data()["rule"]
    )  # fmt: skip


def in_flight(level: Level) -> int:
    """How many recipients of a watched credential may be without a judged result."""
    return int(_data()["level"][Level.STANDARD if level is Level.NONE else level]["in_flight"])


def in_flight_together(level: Level) -> int:
    """The same of all watched credentials of a tenant."""
    return int(_data()["level"][Level.STANDARD if level is Level.NONE else level]["in_flight_together"])


def room(level: Level, *, own: int, others: int) -> int:
    """How many more recipients of a watched credential may be attempted, beside those of its own and of its tenant's others."""
    return max(0, min(in_flight(level) - own, in_flight_together(level) - own - others))


def strikes() -> int:
    """How many stopped credentials stop their tenant."""
    return int(_data()["watch"]["strikes"])


def slow_rate(level: Level) -> float:
    """Recipients a second."""
    return float(_data()["slow"]["per_second"] / _divisor(level))


def established_after() -> int:
    return int(_data()["watch"]["established_after"])


def quiet_after() -> timedelta:
    return timedelta(days=_data()["watch"]["quiet_days"])


def grace() -> tuple[timedelta, float]:
    """After a person let go: for how long a rule needs how many times its share."""
    return timedelta(hours=_data()["released"]["hours"]), float(_data()["released"]["times"])


def judge(rule: Rule, count: Count, *, level: Level, times: float = 1.0) -> Finding | None:
    """None where the rule is not met. ``times``: how much more it needs, because a person let go not long ago."""
    if level is Level.NONE or count.bad < rule.least:
        return None
    if rule.of != "volume" and count.total < rule.fewest:
        return None
    share = share_of(count)
    # Of shares there are no more than all.
    met = [
        (step, at)
        for step, at in _thresholds(rule, level=level, times=times)
        if share >= (at if rule.of == "volume" else min(at, 1.0))
    ]
    if not met:
        return None
    step, at = met[-1]
    return Finding(rule, step, count, share, at)


def share_of(count: Count) -> float:
    return count.bad / count.total if count.total else 0.0


def is_half_met(rule: Rule, count: Count, *, level: Level) -> bool:
    """Whether a watched credential is too near a rule to be trusted."""
    return share_of(count) >= _thresholds(rule, level=level)[0][1] * _data()["slow"]["clean_share"]


def is_over(rule: Rule, count: Count, *, level: Level, pulled_for: timedelta) -> bool:
    """Whether what was slowed may go at full speed again, by what was counted since."""
    data = _data()["slow"]
    if pulled_for < timedelta(hours=data["least_hours"]):
        return False
    if level is Level.NONE or (pulled_for >= timedelta(hours=data["longest_hours"]) and count.total < rule.fewest):
        return True
    if rule.of == "volume":
        return not is_half_met(rule, count, level=level)
    return count.total >= rule.fewest and not is_half_met(rule, count, level=level)


def _thresholds(rule: Rule, *, level: Level, times: float = 1.0) -> list[tuple[Step, float]]:
    # Rounded, as 0.1 * 3 is more than 0.3 here, and who has exactly 30 in 100 is meant.
    return [(step, round(at * times / _divisor(level), 9)) for step, at in rule.steps]


def _divisor(level: Level) -> float:
    return 1.0 if level is Level.NONE else float(_data()["level"][level]["divide_by"])
