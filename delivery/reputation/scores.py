"""Scores computed from the tables, written down every hour, and read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from delivery.models import (
    GroupKind,
    Path,
    ReputationScore,
    SourceAddress,
    SourceState,
    WarmUp,
    WarmUpState,
)
from delivery.reputation import scoring
from delivery.reputation.scoring import History, Met, Score
from delivery.shaping.encounters import KINDS
from delivery.source_checks import checks
from delivery.warmup.schedules import WARMED_KINDS, schedule_of

KEPT = timedelta(days=100)
_ADVISORY_LOCK = 7_294_118
_EVERY = timedelta(hours=1)

_Key = tuple[UUID, int]  # source, provider group

_HOURS = f"""
SELECT path.source_id, path.group_id, {", ".join(f"sum(hour.{kind})" for kind in KINDS)}
FROM delivery_path_hour AS hour JOIN delivery_path AS path ON path.id = hour.path_id
WHERE hour.hour > %s AND hour.hour <= %s GROUP BY path.source_id, path.group_id
"""

_COMPLAINTS = """
SELECT recipient.source_id, complaint.group_id, count(*)
FROM delivery_complaint AS complaint JOIN delivery_recipient AS recipient ON recipient.id = complaint.recipient_id
WHERE complaint.received_at > %s AND complaint.received_at <= %s AND recipient.source_id IS NOT NULL
GROUP BY recipient.source_id, complaint.group_id
"""


def write_due(*, now: datetime | None = None) -> int:
    """Write the scores of this hour down, once; returns how many."""
    now = now or timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        # A little less: a task that comes a second early would otherwise wait for the next hour.
        if ReputationScore.objects.filter(scored_at__gt=now - _EVERY * 0.9).exists():
            return 0
        return len(ReputationScore.objects.bulk_create(filter(_is_kept, compute(now=now)), batch_size=500))


def compute(*, now: datetime | None = None) -> list[ReputationScore]:
    """The scores of now, not written down. Addresses that are retired, and groups too little was sent to, have none."""
    now = now or timezone.now()
    met = {hours: _met(now - timedelta(hours=hours), now) for hours in scoring.windows()}
    passed, listed, broken = _passed(), *_troubled()
    paths = (
        Path.objects.filter(group__kind__in=WARMED_KINDS)
        .exclude(source__state=SourceState.RETIRED)
        .select_related("source", "group")
        .order_by("source__address", "group__key")
    )
    found = []
    for path in paths:
        key: _Key = (path.source_id, path.group_id)
        if key not in met[max(met)]:
            continue
        history = History(
            windows={hours: by_key.get(key, Met()) for hours, by_key in met.items()},
            passed=passed.get(key, 1.0),
            has_severe_listing=path.source_id in listed,
            has_broken_reverse_dns=path.source_id in broken,
        )
        result = scoring.score(history)
        if result.value is not None:
            found.append(_row(path, history, result, now))
    return found


def raises(row: ReputationScore) -> list[str]:
    """What would raise a score, the most helpful first."""
    terms = tuple(scoring.Term(**term) for term in row.terms)
    return Score(row.score, terms, row.cap, row.cap_reason).what_would_raise_it


def history_of(source: SourceAddress, group_key: str, *, since: datetime | None = None) -> list[ReputationScore]:
    """The oldest first."""
    found = ReputationScore.objects.filter(source=source, group__key=group_key).select_related("source", "group")
    return list((found.filter(scored_at__gte=since) if since else found).order_by("scored_at", "id"))


def latest_of_named(*, now: datetime | None = None) -> list[ReputationScore]:
    """The last score towards each group known by name, none older than two hours: what is older is no score of now."""
    return list(
        ReputationScore.objects.filter(
            group__kind=GroupKind.PROVIDER, scored_at__gt=(now or timezone.now()) - timedelta(hours=2)
        )
        .select_related("source", "group")
        .order_by("source_id", "group_id", "-scored_at", "-id")
        .distinct("source_id", "group_id")
    )


def forget_old(*, now: datetime | None = None) -> int:
    deleted, _by_table = ReputationScore.objects.filter(scored_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


def _is_kept(row: ReputationScore) -> bool:
    """Sites are any number, and most of them get a mail now and then."""
    if row.group.kind == GroupKind.PROVIDER:
        return True
    met = Met(row.figures[str(max(scoring.windows()))])
    return met.attempts >= int(scoring.formula()["site_kept_from"])


def _row(path: Path, history: History, result: Score, now: datetime) -> ReputationScore:
    assert result.value is not None
    return ReputationScore(
        source=path.source,
        group=path.group,
        scored_at=now,
        score=result.value,
        cap=result.cap,
        cap_reason=result.cap_reason,
        terms=[asdict(term) for term in result.terms],
        figures={str(hours): dict(met.counts) for hours, met in history.windows.items()},
    )


def _met(since: datetime, until: datetime) -> dict[_Key, Met]:
    counts: dict[_Key, dict[str, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(_HOURS, [since, until])
        for source_id, group_id, *sums in cursor.fetchall():
            counts[source_id, group_id] = dict(zip(KINDS, map(int, sums), strict=True))
        cursor.execute(_COMPLAINTS, [since, until])
        for source_id, group_id, number in cursor.fetchall():
            counts[source_id, group_id]["complaints"] = number
    return {key: Met(found) for key, found in counts.items()}


def _passed() -> dict[_Key, float]:
    """How far running warm-ups are; others count as done."""
    found: dict[_Key, float] = {}
    for warm_up in WarmUp.objects.filter(state=WarmUpState.RUNNING):
        schedule = schedule_of(warm_up.schedule)
        goal = schedule.stage_for(warm_up.target) if warm_up.target is not None else None
        last = len(schedule.stages) - 1 if goal is None else goal
        found[warm_up.source_id, warm_up.group_id] = min(1.0, warm_up.stage / max(1, last))
    return found


def _troubled() -> tuple[set[UUID], set[UUID]]:
    """Addresses with a severe listing, and those whose reverse DNS is broken, by their last look."""
    listed: set[UUID] = set()
    broken: set[UUID] = set()
    for check in checks.latest_of_all():
        for result in check.results:
            if result["severity"] == "severe":
                listed.add(check.source_id)
            if result["check"] == "reverse_dns" and result["verdict"] == "bad":
                broken.add(check.source_id)
    return listed, broken
