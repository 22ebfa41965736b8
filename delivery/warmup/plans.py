"""Warm-ups as operators see and change them: started for an address, set to a stage, stopped; and when they will be done.

Engines learn of a change through a notification in the transaction that makes it, and at the latest with the next renewal
of their leases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery.models import GroupKind, Path, ProviderGroup, SourceAddress, WarmUp, WarmUpPlan, WarmUpState, WarmUpStep
from delivery.queue import wake
from delivery.shaping import overrides
from delivery.warmup import encountered, judging
from delivery.warmup.judging import Figures, Forecast
from delivery.warmup.schedules import WARMED_KINDS, Schedule, made_for, schedule_of, schedules

MOST_TARGET = 1_000_000_000


@dataclass(frozen=True, slots=True)
class WarmUpLine:
    """A warm-up with what it is judged by."""

    warm_up: WarmUp
    schedule: Schedule
    figures: Figures

    @property
    def limit(self) -> int | None:
        """Messages for each ``schedule.per``; None where it is not capped."""
        is_running = self.warm_up.state == WarmUpState.RUNNING
        return self.schedule.limit(self.warm_up.stage).count if is_running else None


# ---------------------------------------------------------------- reading


def list_warm_ups(
    *,
    source: SourceAddress | None = None,
    group_key: str = "",
    only_named: bool = False,
    now: datetime | None = None,
) -> list[WarmUpLine]:
    """By source and provider group, those that are over too. ``only_named``: groups known by name, no sites."""
    found = WarmUp.objects.select_related("source", "source__pool", "group").order_by("source__address", "group__key")
    if source is not None:
        found = found.filter(source=source)
    if group_key:
        found = found.filter(group__key=group_key)
    if only_named:
        found = found.filter(group__kind=GroupKind.PROVIDER)
    return _lines(list(found), now or timezone.now())


def lines_of(pairs: Sequence[tuple[UUID, int]], *, now: datetime) -> list[WarmUpLine]:
    """Those of these (source, provider group), where there are any."""
    found = WarmUp.objects.select_related("source", "source__pool", "group").filter(
        source__in={source for source, _group in pairs}, group__in={group for _source, group in pairs}
    )
    return _lines([one for one in found if (one.source_id, one.group_id) in set(pairs)], now)


def is_planned(source: SourceAddress) -> bool:
    """Whether it is warmed up towards every group it meets."""
    return WarmUpPlan.objects.filter(source=source, is_running=True).exists()


def history_of(warm_up: WarmUp, *, most: int = 100) -> list[WarmUpStep]:
    """The latest first."""
    return list(warm_up.steps.order_by("-at", "-id")[:most])


def forecast(
    source: SourceAddress, group_key: str, *, daily: int, now: datetime | None = None
) -> tuple[WarmUpLine | None, Forecast]:
    """When ``daily`` messages a day may go to the group. Without a warm-up there is no cap: ready now.

    A group that a planned address has not met yet is forecast from the first stage.
    """
    now = now or timezone.now()
    group = _group(group_key)
    warm_up = WarmUp.objects.filter(source=source, group__key=group.key).first()
    plan = WarmUpPlan.objects.filter(source=source, is_running=True).first()
    is_capped = plan is not None if warm_up is None else warm_up.state == WarmUpState.RUNNING
    if not is_capped:
        return None, Forecast(daily, 0, now, waits_for_use=False)
    if warm_up is None:
        assert plan is not None
        schedule = _schedule_for(plan.schedule, group.key)
        return None, judging.forecast(schedule, 0, daily=daily, stage_since=now, now=now, figures=Figures())
    (line,) = _lines([warm_up], now)
    return line, forecast_of(line, daily=daily, now=now)


def forecast_of(line: WarmUpLine, *, daily: int, now: datetime | None = None) -> Forecast:
    """The same for a warm-up that was read already; one that does not run caps nothing."""
    now = now or timezone.now()
    warm_up = line.warm_up
    if warm_up.state != WarmUpState.RUNNING:
        return Forecast(daily, 0, now, waits_for_use=False)
    if warm_up.target is not None and line.schedule.stage_for(warm_up.target) is not None:
        # Behind the target nothing is capped.
        daily_or_target = min(daily, line.schedule.daily(line.schedule.stage_for(warm_up.target) or 0))
    else:
        daily_or_target = daily
    when = judging.forecast(
        line.schedule,
        warm_up.stage,
        daily=daily_or_target,
        stage_since=warm_up.stage_since,
        now=now,
        figures=line.figures,
    )
    return Forecast(daily, when.days, when.ready_at, when.waits_for_use)


def _lines(found: Sequence[WarmUp], now: datetime) -> list[WarmUpLine]:
    figures = encountered.figures_of(found, now=now)
    return [WarmUpLine(one, schedule_of(one.schedule), figures[one.pk]) for one in found]


# ---------------------------------------------------------------- changing


def start(
    source: SourceAddress,
    *,
    actor: Actor,
    schedule: str = "",
    group_keys: Sequence[str] = (),
    target: int | None = None,
) -> list[WarmUp]:
    """Warm an address up: towards these groups, or towards every group it meets. Those that are running go on.

    ``schedule`` empty: the one made for each group. What was stopped or finished begins anew.
    """
    _check_schedule(schedule)
    _check_target(target)
    groups = [_saved_group(key) for key in group_keys]
    with transaction.atomic():
        if not groups:
            WarmUpPlan.objects.update_or_create(
                source=source,
                defaults={"schedule": schedule, "target": target, "is_running": True, "started_at": timezone.now()},
            )
            met = Path.objects.filter(source=source, group__kind__in=WARMED_KINDS).values("group_id")
            groups = list(ProviderGroup.objects.filter(pk__in=met))
        begun = [_begin(source, group, schedule=schedule, target=target, actor=actor) for group in groups]
        audit.record(
            actor,
            "warmup.start",
            object_id=source.id,
            object_name=str(source),
            after={"schedule": schedule or "by provider group", "groups": list(group_keys) or "all", "target": target},
        )
        _tell_engines()
    return begun


def stop(source: SourceAddress, *, actor: Actor, group_keys: Sequence[str] = (), reason: str = "") -> int:
    """The address counts as warm towards these groups, or towards all: no cap any more. Returns how many were running."""
    groups = [_saved_group(key) for key in group_keys]
    with transaction.atomic():
        running = WarmUp.objects.select_for_update().filter(source=source, state=WarmUpState.RUNNING)
        ended_plan = 0
        if groups:
            for group in groups:
                _note_stopped_group(source, group)
            running = running.filter(group__in=groups)
        else:
            ended_plan = WarmUpPlan.objects.filter(source=source, is_running=True).update(is_running=False)
        stopped = list(running)
        if not stopped and not ended_plan:
            raise Refused(
                _("%(source)s is not being warmed up there.") % {"source": source}, reason="warmup_not_running"
            )
        for one in stopped:
            change(one, to_stage=one.stage, state=WarmUpState.STOPPED, why=reason or "stopped by hand", actor=actor)
        audit.record(
            actor,
            "warmup.stop",
            object_id=source.id,
            object_name=str(source),
            before={"groups": list(group_keys) or "all", "running": len(stopped)},
            reason=reason,
        )
        _tell_engines()
    return len(stopped)


def set_stage(source: SourceAddress, group_key: str, *, stage: int, actor: Actor, reason: str = "") -> WarmUp:
    """Put a warm-up at a stage, counted from 1 as people read it; one that was over runs again."""
    group = _saved_group(group_key)
    with transaction.atomic():
        warm_up = WarmUp.objects.select_for_update().filter(source=source, group=group).first()
        if warm_up is None:
            raise NotFound(
                _("%(source)s has no warm-up towards %(group)s.") % {"source": source, "group": group_key},
                field="provider",
            )
        stages = len(schedule_of(warm_up.schedule).stages)
        if not 1 <= stage <= stages:
            raise Refused(
                _("The stages of %(schedule)s go from 1 to %(last)d.") % {"schedule": warm_up.schedule, "last": stages},
                reason="stage_unknown",
                field="stage",
            )
        before = {"stage": warm_up.stage + 1, "state": warm_up.state}
        change(warm_up, to_stage=stage - 1, state=WarmUpState.RUNNING, why=reason or "set by hand", actor=actor)
        audit.record(
            actor,
            "warmup.set",
            object_id=source.id,
            object_name=f"{source} → {group_key}",
            before=before,
            after={"stage": stage, "state": WarmUpState.RUNNING},
            reason=reason,
        )
        _tell_engines()
    return warm_up


def change(
    warm_up: WarmUp,
    *,
    to_stage: int,
    state: WarmUpState,
    why: str,
    actor: Actor,
    figures: Figures | None = None,
    now: datetime | None = None,
) -> None:
    """Write down a step, whoever makes it. What is counted begins anew. To be called in a transaction."""
    now = now or timezone.now()
    WarmUpStep.objects.create(
        warm_up=warm_up,
        at=now,
        from_stage=warm_up.stage,
        to_stage=to_stage,
        state=state,
        why=why[:200],
        figures=figures.as_json() if figures else {},
        actor_name=actor.name[:254],
    )
    warm_up.stage = to_stage
    warm_up.state = state
    warm_up.stage_since = now
    warm_up.counted_before = encountered.counts_of_hour(warm_up, now=now)
    warm_up.judged, warm_up.judged_at = why[:200], now
    warm_up.save()


def write_down_met(*, actor: Actor) -> int:
    """Warm-ups of planned addresses towards groups they have met since; returns how many were missing."""
    plans = WarmUpPlan.objects.select_related("source").filter(is_running=True)
    begun = 0
    for plan in plans:
        missing = ProviderGroup.objects.filter(
            pk__in=Path.objects.filter(source=plan.source, group__kind__in=WARMED_KINDS).values("group_id")
        ).exclude(pk__in=WarmUp.objects.filter(source=plan.source).values("group_id"))
        for group in missing:
            with transaction.atomic():
                _begin(plan.source, group, schedule=plan.schedule, target=plan.target, actor=actor)
            begun += 1
    return begun


def _begin(source: SourceAddress, group: ProviderGroup, *, schedule: str, target: int | None, actor: Actor) -> WarmUp:
    wanted = _schedule_for(schedule, group.key).key
    warm_up, is_new = WarmUp.objects.select_for_update().get_or_create(
        source=source, group=group, defaults={"schedule": wanted, "target": target}
    )
    if is_new:
        change(warm_up, to_stage=0, state=WarmUpState.RUNNING, why="started", actor=actor)
    elif warm_up.state != WarmUpState.RUNNING:
        warm_up.schedule, warm_up.target, warm_up.started_at = wanted, target, timezone.now()
        change(warm_up, to_stage=0, state=WarmUpState.RUNNING, why="started anew", actor=actor)
    return warm_up


def _note_stopped_group(source: SourceAddress, group: ProviderGroup) -> None:
    """A planned address that has not met the group yet must not begin to be warmed up towards it after all."""
    plan = WarmUpPlan.objects.filter(source=source, is_running=True).first()
    if plan is not None:
        WarmUp.objects.get_or_create(
            source=source,
            group=group,
            defaults={"schedule": _schedule_for(plan.schedule, group.key).key, "target": plan.target},
        )


# ---------------------------------------------------------------- small parts


def _schedule_for(schedule: str, group_key: str) -> Schedule:
    return schedule_of(schedule) if schedule else made_for(group_key)


def _check_schedule(key: str) -> None:
    if key and key not in schedules():
        raise Refused(
            _("%(value)s is none of: %(known)s.") % {"value": key, "known": ", ".join(schedules())},
            reason="value_unknown",
            field="schedule",
        )


def _check_target(target: int | None) -> None:
    if target is not None and not 1 <= target <= MOST_TARGET:
        raise Refused(
            _("A target is a number of messages a day, from 1 to %(most)d.") % {"most": MOST_TARGET},
            reason="target_malformed",
            field="target",
        )


def _group(key: str) -> ProviderGroup:
    group = overrides.find_group(key)
    if group is None:
        raise NotFound(_("There is no provider group %(key)s.") % {"key": key}, field="provider")
    if group.kind not in WARMED_KINDS:
        raise Refused(
            _("%(key)s is no receiver that an address could be made known to.") % {"key": key},
            reason="group_not_warmed",
            field="provider",
        )
    return group


def _saved_group(key: str) -> ProviderGroup:
    known = _group(key)
    group, _is_new = ProviderGroup.objects.get_or_create(
        key=known.key, defaults={"kind": known.kind, "title": known.title}
    )
    return group


def _tell_engines() -> None:
    with connection.cursor() as cursor:
        cursor.execute(wake.RING, [wake.PATHS])
