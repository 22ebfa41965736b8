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
from django.utils import timezone

from accounts import quotas
from accounts.models import AuditEntry, QuotaBucket, QuotaPeriod, Tenant, TenantState
from delivery.engine.recovery import POISON
from delivery.models import Node, Path, QueueEntry, SourceAddress, SourcePool, SourceState, Stream, Worker
from delivery.queue import figures as figures_of_queue
from delivery.queue.remembering import Remembered
from delivery.statistics import figures
from delivery.statistics.figures import Totals

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
    wanted = None if pool_ids is None else set(pool_ids)
    found: dict[UUID, Waiting] = {}
    for lane in figures_of_queue.open_by_lane():
        if wanted is None or lane.pool_id in wanted:
            known = found.get(lane.pool_id, Waiting(0, lane.oldest))
            oldest = min(known.oldest or lane.oldest, lane.oldest)
            found[lane.pool_id] = Waiting(known.open + lane.open, oldest)
    return found


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


def others_in_use(source: SourceAddress) -> int:
    """Addresses of its pool that take over what this one may not send."""
    others = SourceAddress.objects.filter(pool_id=source.pool_id, state=SourceState.ACTIVE, node__is_draining=False)
    return others.exclude(pk=source.pk).count()


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


# ---------------------------------------------------------------- queue, nodes and workers


@dataclass(frozen=True, slots=True)
class Parked:
    """A recipient that workers stopped at, again and again. The domain says where to; nobody's address does."""

    recipient_id: UUID
    message_id: UUID
    tenant: Tenant
    domain: str
    accepted_at: datetime
    attempts: int
    losses: int


def parked_page(*, before: UUID | None = None, size: int = PAGE_SIZE) -> tuple[tuple[Parked, ...], UUID | None]:
    """Newest first, and the key that the next page begins before."""
    sql = """SELECT entry.recipient_id, entry.message_id, entry.tenant_id, coalesce(route.domain, ''), entry.accepted_at,
                    entry.attempts, entry.losses
             FROM delivery_queue_entry AS entry LEFT JOIN delivery_domainroute AS route ON route.id = entry.domain_route_id
             WHERE entry.held_reason = %s AND (%s::uuid IS NULL OR entry.recipient_id < %s::uuid)
             ORDER BY entry.recipient_id DESC LIMIT %s"""
    rows = _rows(sql, [POISON, before, before, size + 1])
    more, rows = len(rows) > size, rows[:size]
    owners = Tenant.objects.in_bulk({row[2] for row in rows})
    found = tuple(Parked(row[0], row[1], owners[row[2]], *row[3:]) for row in rows)
    return found, found[-1].recipient_id if more else None


def find_parked(recipient_id: UUID) -> Tenant | None:
    """Whose parked recipient it is; None where there is none."""
    entry = QueueEntry.objects.filter(recipient_id=recipient_id, held_reason=POISON).first()
    return None if entry is None else Tenant.objects.filter(pk=entry.tenant_id).first()


def held_by_reason() -> list[tuple[str, int]]:
    """How many recipients are held, by the reason's machine word. A long list is not counted anew for each look."""
    return _held.get()


def _count_held() -> list[tuple[str, int]]:
    sql = """SELECT held_reason, count(*) FROM delivery_queue_entry WHERE held_reason IS NOT NULL
             GROUP BY held_reason ORDER BY count(*) DESC, held_reason"""
    return [(reason, number) for reason, number in _rows(sql, [])]


_held = Remembered(_count_held, size=lambda held: sum(number for _reason, number in held))


def longest_overdue() -> timedelta | None:
    """For how long the lane that has waited longest could have been served; None where nothing is due."""
    sql = """SELECT now() - min(greatest(next_due_at, suspended_until)) FROM delivery_lane
             WHERE greatest(next_due_at, suspended_until) <= now() AND next_due_at IS NOT NULL"""
    overdue: timedelta | None = _rows(sql, [])[0][0]
    return overdue


@dataclass(frozen=True, slots=True)
class NodeLine:
    node: Node
    workers: tuple[tuple[Worker, bool], ...]
    addresses: int
    in_hand: int

    @property
    def is_silent(self) -> bool:
        return not any(worker.part == "worker" and not is_silent for worker, is_silent in self.workers)


def nodes_page(*, after: str = "", size: int = PAGE_SIZE) -> tuple[tuple[NodeLine, ...], str]:
    """By name, each with its processes (and whether they are silent); and the name that the next page begins after."""
    rows = list(Node.objects.filter(name__gt=after).order_by("name")[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    names = [row.name for row in rows]
    silent_before = timezone.now() - SILENT_AFTER
    workers: dict[str, list[tuple[Worker, bool]]] = {}
    for worker in Worker.objects.filter(node_id__in=names).order_by("slot"):
        workers.setdefault(worker.node_id, []).append((worker, worker.heartbeat_at < silent_before))
    addresses = dict(
        SourceAddress.objects.filter(node_id__in=names)
        .exclude(state=SourceState.RETIRED)
        .values_list("node_id")
        .annotate(number=Count("pk"))
        .order_by()
    )
    sql = """SELECT source.node_id, count(*) FROM delivery_queue_entry AS entry
             JOIN delivery_path AS path ON path.id = entry.path_id
             JOIN delivery_sourceaddress AS source ON source.id = path.source_id GROUP BY source.node_id"""
    in_hand = dict(_rows(sql, []))
    lines = tuple(
        NodeLine(row, tuple(workers.get(row.name, ())), addresses.get(row.name, 0), in_hand.get(row.name, 0))
        for row in rows
    )
    return lines, names[-1] if more else ""


def nodes_addresses(node: Node) -> int:
    return SourceAddress.objects.filter(node=node).exclude(state=SourceState.RETIRED).count()


# ---------------------------------------------------------------- tenants


@dataclass(frozen=True, slots=True)
class TenantLine:
    """``today`` and ``month``: recipients accepted (UTC); ``totals``: what became of them within RATES_OF."""

    tenant: Tenant
    today: int
    month: int
    open: int
    totals: Totals


RATES_OF = timedelta(days=7)


def tenants_page(
    *, query: str = "", state: str = "", after: str = "", size: int = PAGE_SIZE
) -> tuple[tuple[TenantLine, ...], str]:
    """By short name, and the one that the next page begins after. ``state``: one of TenantState, or ``approval``."""
    found = Tenant.objects.filter(slug__gt=after)
    if query:
        found = found.filter(Q(slug__icontains=query) | Q(name__icontains=query))
    if state == "approval":
        found = found.filter(awaits_approval=True).exclude(state=TenantState.CLOSED)
    elif state:
        found = found.filter(state=state)
    rows = list(found.order_by("slug")[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    return tenant_lines(rows), rows[-1].slug if more else ""


def tenant_lines(rows: Sequence[Tenant]) -> tuple[TenantLine, ...]:
    keys, now = [row.pk for row in rows], timezone.now()
    starts = {period: quotas.window_start(period, now) for period in (QuotaPeriod.DAY, QuotaPeriod.MONTH)}
    used = {
        (bucket.owner_id, bucket.period): bucket.used
        for bucket in QuotaBucket.objects.filter(owner_id__in=keys, window_start__in=starts.values())
        if bucket.window_start == starts.get(QuotaPeriod(bucket.period))
    }
    waiting = {key: number for key, (number, _oldest) in figures_of_queue.open_by_tenant().items()}
    totals = figures.totals_of_many(keys, now - RATES_OF, now)
    return tuple(
        TenantLine(
            row,
            used.get((row.pk, QuotaPeriod.DAY), 0),
            used.get((row.pk, QuotaPeriod.MONTH), 0),
            waiting.get(row.pk, 0),
            totals.get(row.pk, Totals()),
        )
        for row in rows
    )


def _rows(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
