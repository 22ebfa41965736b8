"""SHOWN to operators: what waits, where, and what drives it. Numbers only, never a word of anybody's mail.

Lists come in keyset pages and are ordered by a key that has an index; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q

from accounts.models import AuditEntry
from delivery.models import Node, Path, SourceAddress, SourcePool, SourceState, Stream

PAGE_SIZE = 50
# A worker that has not been heard of for so long counts as silent (the lease of a path is 15 s).
SILENT_AFTER = timedelta(seconds=20)


# ---------------------------------------------------------------- source addresses and pools


@dataclass(frozen=True, slots=True)
class Waiting:
    """Recipients that are open in the lanes of a pool, and when the oldest of them was accepted."""

    open: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class SourceLine:
    """``in_hand``: being sent from it now; ``pinned``: greylisted mail that comes back from it and no other."""

    source: SourceAddress
    in_hand: int
    pinned: int
    suspended: int
    slowed: int
    is_node_alive: bool


@dataclass(frozen=True, slots=True)
class Sources:
    lines: tuple[SourceLine, ...]
    older: UUID | None
    total: int


@dataclass(frozen=True, slots=True)
class SourceFilter:
    query: str = ""
    state: str = ""
    pool: str = ""
    node: str = ""


def sources_page(wanted: SourceFilter, *, before: UUID | None = None, size: int = PAGE_SIZE) -> Sources:
    """Newest first. Retired ones only where their state is asked for."""
    found = SourceAddress.objects.select_related("pool", "node")
    found = found.filter(state=wanted.state) if wanted.state else found.exclude(state=SourceState.RETIRED)
    if wanted.pool:
        found = found.filter(pool__name=wanted.pool)
    if wanted.node:
        found = found.filter(node_id=wanted.node)
    if wanted.query:
        text = wanted.query
        found = found.filter(Q(ehlo_name__icontains=text) | Q(note__icontains=text) | Q(address__startswith=text))
    total = found.count()
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found.order_by("-pk")[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    return Sources(source_lines(rows), rows[-1].pk if more else None, total)


def source_lines(rows: Sequence[SourceAddress]) -> tuple[SourceLine, ...]:
    keys = [row.pk for row in rows]
    counted = {key: numbers for key, *numbers in _rows(_OF_SOURCES, [keys])}
    alive, lines = live_nodes(), []
    for row in rows:
        in_hand, pinned, suspended, slowed = counted.get(row.pk, (0, 0, 0, 0))
        lines.append(SourceLine(row, in_hand, pinned, suspended, slowed, row.node_id in alive))
    return tuple(lines)


# Few entries are claimed or pinned at a time, and lanes and paths are few.
_OF_SOURCES = """
SELECT source.id,
       (SELECT count(*) FROM delivery_queue_entry AS entry JOIN delivery_path AS path ON path.id = entry.path_id
        WHERE path.source_id = source.id),
       (SELECT count(*) FROM delivery_queue_entry AS entry JOIN delivery_lane AS lane ON lane.id = entry.lane_id
        WHERE lane.pinned_source_id = source.id),
       (SELECT count(*) FROM delivery_path AS path WHERE path.source_id = source.id AND path.suspended_until > now()),
       (SELECT count(*) FROM delivery_path AS path WHERE path.source_id = source.id AND path.pace_share < 1)
FROM delivery_sourceaddress AS source WHERE source.id = ANY(%s)
"""


def live_nodes() -> set[str]:
    """Nodes where a worker has given a sign of life just now."""
    sql = """SELECT DISTINCT node_id FROM delivery_worker
             WHERE part = 'worker' AND heartbeat_at > now() - %s::interval"""
    return {row[0] for row in _rows(sql, [SILENT_AFTER])}


def waiting_by_pool(pool_ids: Iterable[UUID] | None = None) -> dict[UUID, Waiting]:
    """Counted by lane first, as lanes are few."""
    wanted = None if pool_ids is None else list(pool_ids)
    sql = """WITH by_lane AS (SELECT lane_id, count(*) AS open, min(accepted_at) AS oldest
                              FROM delivery_queue_entry GROUP BY lane_id)
             SELECT lane.pool_id, sum(by_lane.open), min(by_lane.oldest)
             FROM by_lane JOIN delivery_lane AS lane ON lane.id = by_lane.lane_id
             WHERE %s::uuid[] IS NULL OR lane.pool_id = ANY(%s::uuid[]) GROUP BY lane.pool_id"""
    return {pool_id: Waiting(int(number), oldest) for pool_id, number, oldest in _rows(sql, [wanted, wanted])}


@dataclass(frozen=True, slots=True)
class PoolLine:
    """``usable``: addresses in use on nodes that live; ``streams``: that were assigned to it."""

    pool: SourcePool
    addresses: int
    usable: int
    streams: int
    waiting: Waiting


def pools_page(*, after: str = "", size: int = PAGE_SIZE) -> tuple[tuple[PoolLine, ...], str]:
    """By name, and the name that the next page begins after (empty: none)."""
    rows = list(
        SourcePool.objects.select_related("tenant", "standby").filter(name__gt=after).order_by("name")[: size + 1]
    )
    more, rows = len(rows) > size, rows[:size]
    return pool_lines(rows), rows[-1].name if more else ""


def pool_lines(rows: Sequence[SourcePool]) -> tuple[PoolLine, ...]:
    keys = [row.pk for row in rows]
    in_use = Q(state=SourceState.ACTIVE, node__is_draining=False, node_id__in=live_nodes())
    addresses = {
        one["pool_id"]: (one["known"], one["usable"])
        for one in SourceAddress.objects.filter(pool_id__in=keys)
        .values("pool_id")
        .annotate(known=Count("pk", filter=~Q(state=SourceState.RETIRED)), usable=Count("pk", filter=in_use))
    }
    streams = dict(
        Stream.objects.filter(pool_id__in=keys).values_list("pool_id").annotate(number=Count("pk")).order_by()
    )
    waiting = waiting_by_pool(keys)
    return tuple(
        PoolLine(row, *addresses.get(row.pk, (0, 0)), streams.get(row.pk, 0), waiting.get(row.pk, Waiting()))
        for row in rows
    )


def is_last_usable(source: SourceAddress) -> bool:
    """Without this address nothing leaves from its pool itself."""
    others = SourceAddress.objects.filter(
        pool_id=source.pool_id, state=SourceState.ACTIVE, node__is_draining=False, node_id__in=live_nodes()
    ).exclude(pk=source.pk)
    return not others.exists()


def paths_of(source: SourceAddress, *, most: int = 100) -> list[Path]:
    """Towards which groups it has sent: the troubled first."""
    found = Path.objects.filter(source=source).select_related("group")
    return list(found.order_by("-suspended_until", "pace_share", "group__title")[:most])


def changes_of(object_id: object, *, noun: str, most: int = 20) -> list[AuditEntry]:
    """What people changed about one thing that belongs to no tenant, newest first."""
    found = AuditEntry.objects.filter(tenant=None, object_id=str(object_id)[:64], action__startswith=f"{noun}.")
    return list(found.order_by("-id")[:most])


def nodes() -> list[str]:
    return list(Node.objects.order_by("name").values_list("name", flat=True))


def _rows(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
