"""How source addresses stand with receivers, as operators read it: score and warm-up side by side. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection
from django.utils import timezone

from delivery.models import Path, ProviderGroup, ReputationScore, SourceAddress, SourceState
from delivery.warmup import plans
from delivery.warmup.plans import WarmUpLine
from delivery.warmup.schedules import WARMED_KINDS

# Scores are written down every hour; an older one is no score of now.
_SCORE_LASTS = timedelta(hours=2)
LOW = 70


@dataclass(frozen=True, slots=True)
class Wanted:
    """``show``: low (score below LOW) or warming, else everything. ``query`` is part of an address or a provider's name."""

    query: str = ""
    show: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One address towards one provider group. Without a score too little was sent; without a warm-up nothing is capped."""

    source: SourceAddress
    group: ProviderGroup
    score: ReputationScore | None
    warm_up: WarmUpLine | None

    @property
    def is_low(self) -> bool:
        return self.score is not None and self.score.score < LOW

    @property
    def is_warming(self) -> bool:
        return self.warm_up is not None and self.warm_up.limit is not None

    @property
    def key(self) -> str:
        return f"{self.source.pk}.{self.group.pk}"


_Known = tuple[dict[tuple[UUID, int], ReputationScore], dict[tuple[UUID, int], WarmUpLine]]

# Pairs come from paths that were used and from warm-ups that were asked for; the keyset is the pair itself.
_PAIRS = """
WITH pair AS (SELECT source_id, group_id FROM delivery_path UNION SELECT source_id, group_id FROM delivery_warmup)
SELECT pair.source_id, pair.group_id
FROM pair JOIN delivery_sourceaddress AS source ON source.id = pair.source_id AND source.state <> %(retired)s
     JOIN delivery_providergroup AS grp ON grp.id = pair.group_id AND grp.kind = ANY(%(kinds)s)
     LEFT JOIN LATERAL (SELECT score FROM delivery_reputationscore AS found
                        WHERE found.source_id = pair.source_id AND found.group_id = pair.group_id
                          AND found.scored_at > %(since)s
                        ORDER BY found.scored_at DESC LIMIT 1) AS latest ON true
WHERE (pair.source_id, pair.group_id) > (%(source)s, %(group)s)
  AND (%(query)s = '' OR host(source.address) LIKE %(like)s OR grp.key ILIKE %(like)s OR grp.title ILIKE %(like)s)
  AND (%(show)s <> 'low' OR latest.score < %(low)s)
  AND (%(show)s <> 'warming' OR EXISTS (SELECT 1 FROM delivery_warmup AS running WHERE running.state = 'running'
       AND running.source_id = pair.source_id AND running.group_id = pair.group_id))
ORDER BY pair.source_id, pair.group_id LIMIT %(limit)s
"""


def page(
    wanted: Wanted, *, after: tuple[UUID, int] | None = None, size: int = 50, now: datetime | None = None
) -> tuple[list[Standing], str]:
    """By address, then by provider group; and the key that the next page begins after, or nothing."""
    now = now or timezone.now()
    source, group = after or (UUID(int=0), 0)
    escaped = wanted.query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values: dict[str, Any] = {
        "retired": SourceState.RETIRED.value,
        "kinds": list(WARMED_KINDS),
        "since": now - _SCORE_LASTS,
        "source": source,
        "group": group,
        "query": wanted.query,
        "like": f"%{escaped}%",
        "show": wanted.show,
        "low": LOW,
        "limit": size + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PAIRS, values)
        pairs = [(row[0], int(row[1])) for row in cursor.fetchall()]
    found = _standings(pairs[:size], now=now)
    return found, found[-1].key if len(pairs) > size else ""


def one(source: SourceAddress, group: ProviderGroup, *, now: datetime | None = None) -> Standing:
    """With the score as it was last written down, within two hours."""
    key = (source.pk, group.pk)
    return _standing(source, group, _known([key], now=now or timezone.now()))


def of_source(source: SourceAddress, *, most: int = 20) -> list[Standing]:
    """Groups with a name first, the lowest score first among them."""
    now = timezone.now()
    paths = Path.objects.filter(source=source, group__kind__in=WARMED_KINDS).select_related("group")
    warm_ups = plans.list_warm_ups(source=source, now=now)
    groups = {path.group.pk: path.group for path in paths.order_by("group__kind", "group_id")[:most]}
    groups |= {line.warm_up.group.pk: line.warm_up.group for line in warm_ups[:most]}
    latest = _latest_scores([(source.pk, key) for key in groups], now=now)
    known: _Known = (
        {(row.source_id, row.group_id): row for row in latest},
        {(source.pk, line.warm_up.group_id): line for line in warm_ups},
    )
    found = [_standing(source, group, known) for group in groups.values()]
    return sorted(found, key=lambda one: (one.group.kind != "provider", one.score.score if one.score else 101))[:most]


def _standings(pairs: Sequence[tuple[UUID, int]], *, now: datetime) -> list[Standing]:
    sources = SourceAddress.objects.select_related("pool").in_bulk({source for source, _group in pairs})
    groups = ProviderGroup.objects.in_bulk({group for _source, group in pairs})
    known = _known(pairs, now=now)
    return [_standing(sources[source], groups[group], known) for source, group in pairs]


def _known(pairs: Sequence[tuple[UUID, int]], *, now: datetime) -> _Known:
    return (
        {(row.source_id, row.group_id): row for row in _latest_scores(pairs, now=now)},
        {(line.warm_up.source_id, line.warm_up.group_id): line for line in plans.lines_of(pairs, now=now)},
    )


def _standing(source: SourceAddress, group: ProviderGroup, known: _Known) -> Standing:
    latest, warm_ups = known
    return Standing(source, group, latest.get((source.pk, group.pk)), warm_ups.get((source.pk, group.pk)))


def _latest_scores(pairs: Sequence[tuple[UUID, int]], *, now: datetime) -> Iterable[ReputationScore]:
    return (
        ReputationScore.objects.filter(
            source__in={source for source, _group in pairs},
            group__in={group for _source, group in pairs},
            scored_at__gt=now - _SCORE_LASTS,
        )
        .select_related("source", "group")
        .order_by("source_id", "group_id", "-scored_at", "-id")
        .distinct("source_id", "group_id")
    )


@dataclass(frozen=True, slots=True)
class Day:
    """The scores of a day in a zone: the last one, and the lowest."""

    day: date
    last: int
    lowest: int


def days_of(source: SourceAddress, group: ProviderGroup, *, zone: ZoneInfo, days: int = 100) -> list[Day]:
    """The oldest first; days without a score are left out."""
    since = timezone.now() - timedelta(days=days)
    found: dict[date, list[int]] = {}
    rows = ReputationScore.objects.filter(source=source, group=group, scored_at__gte=since)
    for at, score in rows.order_by("scored_at", "id").values_list("scored_at", "score"):
        found.setdefault(at.astimezone(zone).date(), []).append(score)
    return [Day(day, values[-1], min(values)) for day, values in found.items()]
