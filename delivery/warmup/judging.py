"""Whether a stage was passed, is to be kept, or was too much: pure functions, so that sixty days can be simulated in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from delivery.shaping.encounters import ACCEPTED, KINDS
from delivery.warmup.schedules import STAGE_LASTS, Schedule

# An address that did not send for so long is new again: receivers keep about thirty days (SendGrid warms up again after as many).
FORGOTTEN_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was met with since the stage began, within a day. ``by_hour`` are acceptances, the oldest first."""

    counts: Mapping[str, int] = field(default_factory=dict)
    by_hour: Sequence[int] = ()
    complaints: int = 0
    last_used_at: datetime | None = None

    @property
    def accepted(self) -> int:
        return self.counts.get(ACCEPTED, 0)

    @property
    def attempts(self) -> int:
        return sum(self.counts.get(kind, 0) for kind in KINDS)

    def count(self, name: str) -> int:
        return self.complaints if name == "complaints" else self.counts.get(name, 0)

    def share(self, name: str) -> float:
        whole = self.accepted if name == "complaints" else self.attempts
        return self.count(name) / whole if whole else 0.0

    def as_json(self) -> dict[str, int]:
        return {**{kind: self.counts.get(kind, 0) for kind in KINDS}, "complaints": self.complaints}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``stage`` is where to go on; ``is_over``: no cap is needed any more; ``begins_anew``: from now on is counted."""

    stage: int
    why: str
    begins_anew: bool = False
    is_over: bool = False


def judge(
    schedule: Schedule, stage: int, figures: Figures, *, stage_since: datetime, now: datetime, target: int | None = None
) -> Verdict:
    """What to do with a warm-up that is at ``stage``."""
    last = stage_since if figures.last_used_at is None else max(stage_since, figures.last_used_at)
    if stage > 0 and now - last >= FORGOTTEN_AFTER:
        return Verdict(0, f"not used for {FORGOTTEN_AFTER.days} days", begins_anew=True)
    if trouble := _trouble(schedule, figures):
        return Verdict(max(0, stage - 1), trouble, begins_anew=True)
    if now - stage_since < STAGE_LASTS:
        return Verdict(stage, "the stage lasts a day")
    used, allowed = _used(schedule, figures), schedule.limit(stage).count
    if used < schedule.used * allowed:
        return Verdict(
            stage, f"not used: {used} of {allowed} accepted in {_a(schedule)}, {schedule.used:.0%} are needed"
        )
    if doubt := _doubt(schedule, figures):
        return Verdict(stage, doubt)
    why = f"used and clean: {used} of {allowed} accepted in {_a(schedule)}"
    if schedule.is_enough(stage, target):
        return Verdict(stage, why, begins_anew=True, is_over=True)
    return Verdict(stage + 1, why, begins_anew=True)


def is_forgotten(*, finished_at: datetime, last_used_at: datetime | None, now: datetime) -> bool:
    """Whether an address that was warm has to begin again."""
    last = finished_at if last_used_at is None else max(finished_at, last_used_at)
    return now - last >= FORGOTTEN_AFTER


def _trouble(schedule: Schedule, figures: Figures) -> str:
    """Why the stage was too much, or nothing."""
    blocked = figures.count("blocked")
    if blocked >= schedule.blocked_least and figures.share("blocked") > schedule.back_above["blocked"]:
        return f"blocked: {blocked} of {figures.attempts} attempts"
    if figures.attempts < schedule.back_least:
        return ""
    return _above(figures, {name: most for name, most in schedule.back_above.items() if name != "blocked"})


def _doubt(schedule: Schedule, figures: Figures) -> str:
    """Why the stage is not passed although it was used, or nothing."""
    if figures.count("blocked"):
        return f"blocked: {figures.count('blocked')} of {figures.attempts} attempts"
    return _above(figures, schedule.hold_above)


def _above(figures: Figures, most: Mapping[str, float]) -> str:
    """The first share that is too large. One single case is chance, whatever its share."""
    for name, allowed in most.items():
        if figures.count(name) > 1 and figures.share(name) > allowed:
            return f"{name}: {figures.share(name):.1%} ({figures.count(name)}), at most {allowed:.1%} is good"
    return ""


def _used(schedule: Schedule, figures: Figures) -> int:
    """Acceptances that count against the stage. An hour that straddles two of the clock's is found in both together."""
    if not schedule.is_hourly:
        return figures.accepted
    hours = [0, *figures.by_hour]
    return max((before + hour for before, hour in pairwise(hours)), default=0)


def _a(schedule: Schedule) -> str:
    return "an hour" if schedule.is_hourly else "a day"


@dataclass(frozen=True, slots=True)
class Forecast:
    """When an address may send ``daily`` messages a day, if every stage is used and clean from now on.

    ``days`` is None where the schedule never allows so many. ``waits_for_use``: what is sent at present is too little for
    the stage, so that it does not advance until more is sent.
    """

    daily: int
    days: int | None
    ready_at: datetime | None
    waits_for_use: bool


def forecast(
    schedule: Schedule, stage: int, *, daily: int, stage_since: datetime, now: datetime, figures: Figures
) -> Forecast:
    goal = schedule.stage_for(daily)
    if goal is None:
        return Forecast(daily, None, None, waits_for_use=False)
    if goal <= stage:
        return Forecast(daily, 0, now, waits_for_use=False)
    next_step = max(now, stage_since + STAGE_LASTS)
    ready_at = next_step + STAGE_LASTS * (goal - stage - 1)
    is_a_day_old = now - stage_since >= STAGE_LASTS
    lacks_use = is_a_day_old and _used(schedule, figures) < schedule.used * schedule.limit(stage).count
    if lacks_use:
        ready_at += STAGE_LASTS
    days = -(-(ready_at - now) // timedelta(days=1))
    return Forecast(daily, days, ready_at, waits_for_use=lacks_use)
