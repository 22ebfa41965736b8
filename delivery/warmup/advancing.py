"""The regular look at all warm-ups: stages advance, stay or go back by what was met with. Running twice changes nothing.

An address that is capped stays capped while nobody looks: losing a look costs time and no reputation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import connection, transaction
from django.utils import timezone

from accounts import audit
from accounts.audit import Actor
from delivery.models import SourceState, WarmUp, WarmUpState
from delivery.queue import wake
from delivery.warmup import encountered, judging, plans
from delivery.warmup.judging import Figures, Verdict
from delivery.warmup.schedules import schedule_of

log = structlog.get_logger(__name__)

_ADVISORY_LOCK = 7_294_117
_LOOKED = "warm-up"


@dataclass(slots=True)
class Looked:
    """What a look did, in numbers."""

    begun: int = 0
    advanced: int = 0
    stepped_back: int = 0
    finished: int = 0
    begun_anew: int = 0

    @property
    def changes(self) -> int:
        return self.begun + self.advanced + self.stepped_back + self.finished + self.begun_anew


def look(*, now: datetime | None = None) -> Looked:
    """Judge every warm-up. Only one look at a time; another one does nothing."""
    now, looked = now or timezone.now(), Looked()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return looked
        looked.begun = plans.write_down_met(actor=Actor.system(_LOOKED))
        found = list(
            WarmUp.objects.select_related("source", "group")
            .exclude(state=WarmUpState.STOPPED)
            .exclude(source__state=SourceState.RETIRED)
        )
        figures = encountered.figures_of(found, now=now)
        for warm_up in found:
            _judge(warm_up, figures[warm_up.pk], looked, now=now)
        if looked.changes:
            cursor.execute(wake.RING, [wake.PATHS])
    return looked


def _judge(warm_up: WarmUp, figures: Figures, looked: Looked, *, now: datetime) -> None:
    if warm_up.state == WarmUpState.FINISHED:
        last_used = figures.last_used_at
        if judging.is_forgotten(finished_at=warm_up.stage_since, last_used_at=last_used, now=now):
            why = f"not used for {judging.FORGOTTEN_AFTER.days} days"
            _step(warm_up, Verdict(0, why, begins_anew=True), figures, now=now)
            looked.begun_anew += 1
        return
    before = warm_up.stage
    verdict = judging.judge(
        schedule_of(warm_up.schedule),
        before,
        figures,
        stage_since=warm_up.stage_since,
        now=now,
        target=warm_up.target,
    )
    if not verdict.begins_anew:
        # Most of many warm-ups rest and find the same each time: nothing to write down.
        if verdict.why[:200] != warm_up.judged:
            WarmUp.objects.filter(pk=warm_up.pk).update(judged=verdict.why[:200], judged_at=now)
        return
    if not _step(warm_up, verdict, figures, now=now):
        return
    looked.finished += verdict.is_over
    looked.advanced += verdict.stage > before
    looked.stepped_back += verdict.stage <= before and not verdict.is_over


def _step(warm_up: WarmUp, verdict: Verdict, figures: Figures, *, now: datetime) -> bool:
    """False where somebody changed it by hand meanwhile: that counts."""
    actor = Actor.system(_LOOKED)
    with transaction.atomic():
        current = (
            WarmUp.objects.select_for_update(of=("self",))
            .filter(pk=warm_up.pk, state=warm_up.state, stage=warm_up.stage, stage_since=warm_up.stage_since)
            .select_related("source", "group")
            .first()
        )
        if current is None:
            return False
        before = {"stage": current.stage + 1, "state": current.state}
        plans.change(
            current,
            to_stage=verdict.stage,
            state=WarmUpState.FINISHED if verdict.is_over else WarmUpState.RUNNING,
            why=verdict.why,
            actor=actor,
            figures=figures,
            now=now,
        )
        audit.record(
            actor,
            "warmup.step",
            object_id=current.source_id,
            object_name=f"{current.source} → {current.group.key}",
            before=before,
            after={"stage": current.stage + 1, "state": current.state},
            reason=verdict.why,
        )
    log.info(
        "warm_up_step",
        source=str(current.source),
        group=current.group.key,
        stage=current.stage + 1,
        state=current.state,
        why=verdict.why,
    )
    return True
