"""The schedules of warm-ups (schedules.toml), and which one is made for which provider group."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from delivery.models.provider import GroupKind
from delivery.shaping.windows import Rate

_DATA = Path(__file__).with_name("schedules.toml")
# A stage lasts this long at least, however soon it is used up.
STAGE_LASTS = timedelta(days=1)
# Who only passes mail on judges no address, and what has no host yet is no receiver.
WARMED_KINDS = (GroupKind.PROVIDER.value, GroupKind.SITE.value)


@dataclass(frozen=True, slots=True)
class Schedule:
    """See schedules.toml for what the numbers mean."""

    key: str
    per: str
    stages: tuple[int, ...]
    used: float
    hold_above: Mapping[str, float]
    back_above: Mapping[str, float]
    back_least: int
    blocked_least: int

    @property
    def is_hourly(self) -> bool:
        return self.per == "hour"

    def limit(self, stage: int) -> Rate:
        """What a stage allows. One behind the last allows what the last does: it is for the caller to know the end."""
        count = self.stages[min(stage, len(self.stages) - 1)]
        return Rate(count, 3_600.0 if self.is_hourly else 86_400.0)

    def daily(self, stage: int) -> int:
        """Messages in a day at the most."""
        count = self.limit(stage).count
        return count * 24 if self.is_hourly else count

    def stage_for(self, daily: int) -> int | None:
        """The first stage that allows so many a day; None where none does."""
        return next((stage for stage in range(len(self.stages)) if self.daily(stage) >= daily), None)

    def is_enough(self, stage: int, target: int | None) -> bool:
        """Whether a stage that was passed ends the warm-up."""
        return stage >= len(self.stages) - 1 or (target is not None and self.daily(stage) >= target)


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


@cache
def schedules() -> Mapping[str, Schedule]:
    return {
        one["key"]: Schedule(
            key=one["key"],
            per=one["per"],
            stages=tuple(one["stages"]),
            used=one["used"],
            hold_above=one["hold_above"],
            back_above=one["back_above"],
            back_least=one["back_least"],
            blocked_least=one["blocked_least"],
        )
        for one in _data()["schedule"]
    }


def schedule_of(key: str) -> Schedule:
    """Raises KeyError."""
    return schedules()[key]


def made_for(group_key: str) -> Schedule:
    """The schedule of a provider group where nobody chose another."""
    assigned = _data()["assigned"]
    return schedule_of(assigned.get(group_key, assigned["default"]))
