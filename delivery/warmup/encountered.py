"""What was met with on paths, read for those who judge: by warm-up, within the last day of its stage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from delivery.models import GroupKind, Path, PathHour, WarmUp
from delivery.shaping.encounters import ACCEPTED, KINDS
from delivery.warmup.judging import Figures

KEPT = timedelta(days=100)
# Sites are any number: their hours are kept as long as a score looks back.
KEPT_OF_SITES = timedelta(days=31)
_WINDOW = timedelta(days=1)

_HOURS = f"""
SELECT warm_up.id, hour.hour, {", ".join(f"hour.{kind}" for kind in KINDS)}
FROM delivery_warmup AS warm_up
JOIN delivery_path AS path ON path.source_id = warm_up.source_id AND path.group_id = warm_up.group_id
JOIN delivery_path_hour AS hour ON hour.path_id = path.id
     AND hour.hour >= date_trunc('hour', greatest(warm_up.stage_since, %(since)s)) AND hour.hour <= %(now)s
WHERE warm_up.id = ANY(%(ids)s) ORDER BY hour.hour
"""

_LAST_USED = """
SELECT warm_up.id, (SELECT hour.hour FROM delivery_path_hour AS hour
                    WHERE hour.path_id = path.id AND hour.accepted > 0 ORDER BY hour.hour DESC LIMIT 1)
FROM delivery_warmup AS warm_up
JOIN delivery_path AS path ON path.source_id = warm_up.source_id AND path.group_id = warm_up.group_id
WHERE warm_up.id = ANY(%s)
"""

_COMPLAINTS = """
SELECT warm_up.id, count(*)
FROM delivery_warmup AS warm_up
JOIN delivery_complaint AS complaint ON complaint.group_id = warm_up.group_id
     AND complaint.received_at >= greatest(warm_up.stage_since, %(since)s) AND complaint.received_at <= %(now)s
JOIN delivery_recipient AS recipient ON recipient.id = complaint.recipient_id AND recipient.source_id = warm_up.source_id
WHERE warm_up.id = ANY(%(ids)s) GROUP BY warm_up.id
"""


def figures_of(warm_ups: Sequence[WarmUp], *, now: datetime | None = None) -> dict[int, Figures]:
    """By warm-up: since its stage began, at most a day back. Hours are the clock's, so that a day may be one longer."""
    if not warm_ups:
        return {}
    now = now or timezone.now()
    by_id = {one.pk: one for one in warm_ups}
    parameters: dict[str, Any] = {"ids": list(by_id), "since": now - _WINDOW, "now": now}
    hours: dict[int, list[tuple[datetime, dict[str, int]]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_HOURS, parameters)
        for warm_up_id, hour, *counts in cursor.fetchall():
            hours[warm_up_id].append((hour, dict(zip(KINDS, counts, strict=True))))
        cursor.execute(_LAST_USED, [list(by_id)])
        last_used = dict(cursor.fetchall())
        cursor.execute(_COMPLAINTS, parameters)
        complaints = dict(cursor.fetchall())
    return {
        key: _figures(one, hours[key], complaints=complaints.get(key, 0), last_used_at=last_used.get(key))
        for key, one in by_id.items()
    }


def _figures(
    warm_up: WarmUp,
    hours: Sequence[tuple[datetime, dict[str, int]]],
    *,
    complaints: int,
    last_used_at: datetime | None,
) -> Figures:
    first = _hour_of(warm_up.stage_since)
    before: dict[str, Any] = warm_up.counted_before
    counts = dict.fromkeys(KINDS, 0)
    accepted: dict[datetime, int] = {}
    for hour, found in hours:
        own = {kind: max(0, found[kind] - before.get(kind, 0)) for kind in KINDS} if hour == first else found
        accepted[hour] = own[ACCEPTED]
        for kind in KINDS:
            counts[kind] += own[kind]
    return Figures(counts, _without_gaps(accepted), complaints, last_used_at)


def _without_gaps(accepted: dict[datetime, int]) -> list[int]:
    if not accepted:
        return []
    hour, last, found = min(accepted), max(accepted), []
    while hour <= last:
        found.append(accepted.get(hour, 0))
        hour += timedelta(hours=1)
    return found


def counts_of_hour(warm_up: WarmUp, *, now: datetime) -> dict[str, int]:
    """What the hour of ``now`` holds already: it belongs to the stage before."""
    path = Path.objects.filter(source_id=warm_up.source_id, group_id=warm_up.group_id).values("id")
    row = PathHour.objects.filter(hour=_hour_of(now), path_id__in=path).values(*KINDS).first()
    return {kind: count for kind, count in (row or {}).items() if count}


def forget_old(*, now: datetime | None = None) -> int:
    """Returns how many hours went."""
    now = now or timezone.now()
    old, _by_table = PathHour.objects.filter(hour__lt=now - KEPT).delete()
    named = Path.objects.filter(group__kind=GroupKind.PROVIDER).values("id")
    of_sites, _by_table = PathHour.objects.filter(hour__lt=now - KEPT_OF_SITES).exclude(path_id__in=named).delete()
    return old + of_sites


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
