"""Claiming: an owner of a path takes due entries out of lanes. The only file that gives entries to an owner.

A claim is good for as long as the path's fence stays what it was; entries have no lease of their own. ``attempts`` is raised
here, before anything is tried, so that a worker that dies on an entry has still used up an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db.backends.utils import CursorWrapper
from psycopg.rows import class_row

from delivery.queue.enqueue import mark_due
from delivery.queue.rates import keep_within
from delivery.shaping.governor import OPENINGS_IN_ADVANCE

Connection = psycopg.AsyncConnection[Any]

# An entry that was lost this often with its owner, the first time among others and then alone, is parked as poison.
LOSSES_TO_PARK = 4
# A node without a worker's heartbeat for so long counts as gone: others do what its addresses cannot.
NODE_IS_DEAD_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Want:
    """How many entries to take from a lane at most."""

    lane_id: int
    most: int


@dataclass(frozen=True, slots=True)
class ClaimedEntry:
    recipient_id: UUID
    message_id: UUID
    tenant_id: UUID
    lane_id: int
    domain_route_id: int
    accepted_at: datetime
    attempts: int
    losses: int
    credential_id: UUID | None = None

    @property
    def is_suspect(self) -> bool:
        """An owner died while it had this entry."""
        return self.losses > 0

    @property
    def is_grave_suspect(self) -> bool:
        """Owners died with it again and again: that is hardly chance."""
        return self.losses > 1


@dataclass(frozen=True, slots=True)
class Ask:
    """What a path wants. ``most_losses``: nothing is taken that was lost more often. ``writes_use``: count it against the
    path's long windows, before anything of it is tried. ``openings``: of connections that are written down already.
    """

    path_id: int
    fence: int
    wants: tuple[Want, ...]
    most_losses: int
    writes_use: bool = False
    openings: int = 0


# Paths are locked in the order in which leases are renewed: the two would otherwise wait for each other.
_CLAIM = """
WITH asked AS (
    SELECT * FROM unnest(%(paths)s::bigint[], %(fences)s::bigint[], %(most_losses)s::int[])
                  AS asked (path_id, fence, most_losses)
), mine AS (
    SELECT path.id, path.fence, asked.most_losses FROM delivery_path AS path
    JOIN asked ON path.id = asked.path_id AND path.fence = asked.fence
    WHERE path.leased_until > now() ORDER BY path.id FOR SHARE OF path
), want AS (
    SELECT * FROM unnest(%(wanting)s::bigint[], %(lanes)s::bigint[], %(limits)s::int[]) AS want (path_id, lane_id, most)
), suspect AS (
    SELECT mine.id, mine.fence, entry.lane_id, entry.recipient_id FROM mine CROSS JOIN LATERAL (
        SELECT want.lane_id, one.recipient_id FROM want CROSS JOIN LATERAL (
            SELECT recipient_id FROM delivery_queue_entry
            WHERE lane_id = want.lane_id AND next_attempt_at <= now()
              AND path_id IS NULL AND held_reason IS NULL AND losses > 0 AND losses <= mine.most_losses
            ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED
        ) AS one
        WHERE want.path_id = mine.id AND want.most > 0 LIMIT 1
    ) AS entry
), picked AS (
    SELECT mine.id, mine.fence, entry.recipient_id
    FROM mine JOIN want ON want.path_id = mine.id
    LEFT JOIN suspect ON suspect.id = mine.id AND suspect.lane_id = want.lane_id
    CROSS JOIN LATERAL (
        SELECT recipient_id FROM delivery_queue_entry
        WHERE lane_id = want.lane_id AND next_attempt_at <= now()
          AND path_id IS NULL AND held_reason IS NULL AND losses = 0
        ORDER BY next_attempt_at LIMIT want.most - (suspect.id IS NOT NULL)::int FOR UPDATE SKIP LOCKED
    ) AS entry
)
UPDATE delivery_queue_entry AS entry
SET path_id = chosen.id, fence = chosen.fence, claimed_at = now(), attempts = entry.attempts + 1
FROM (SELECT id, fence, recipient_id FROM picked UNION ALL SELECT id, fence, recipient_id FROM suspect) AS chosen
WHERE entry.recipient_id = chosen.recipient_id
RETURNING entry.path_id, entry.recipient_id, entry.message_id, entry.tenant_id, entry.lane_id, entry.domain_route_id,
          entry.accepted_at, entry.attempts, entry.losses, entry.credential_id
"""


async def claim(
    connection: Connection, asks: Sequence[Ask], *, rates: Mapping[UUID, float] | None = None
) -> dict[int, list[ClaimedEntry]]:
    """Take due entries, oldest first in each lane, for several paths at once; by path. None for a path that is not ours.

    At most one suspect is among those of a path, in the place of another entry of its lane: a path that wants four has permits
    for four. No lane may be asked for twice. ``rates`` are those of tenants and
    credentials.
    """
    if not rates and not any(ask.writes_use for ask in asks):
        return await _claim(connection, asks)
    async with connection.transaction():
        claimed = await _claim(connection, asks)
        if claimed and rates:
            claimed = await _within_rates(connection, claimed, rates)
        uses = [
            (ask.path_id, count, openings_for(count, openings=ask.openings))
            for ask in asks
            if ask.writes_use and (count := len(claimed.get(ask.path_id, ())))
        ]
        await write_uses(connection, uses)
        return claimed


def openings_for(claimed: int, *, openings: int) -> int:
    """How many connections are written down with a claim, where so many are written down already."""
    return max(0, min(claimed, OPENINGS_IN_ADVANCE) - openings)


async def write_uses(connection: Connection, uses: Sequence[tuple[int, int, int]]) -> None:
    """Of paths: id, messages, connections. To be committed before any of them is begun."""
    if uses:
        await connection.execute(_WRITE_USES, [list(column) for column in zip(*uses, strict=True)])


_WRITE_USES = """
INSERT INTO delivery_path_use AS used (path_id, minute, messages, connections)
SELECT path_id, date_trunc('minute', now()), messages, connections
FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS new (path_id, messages, connections)
ON CONFLICT (path_id, minute) DO UPDATE SET messages = used.messages + EXCLUDED.messages,
    connections = coalesce(used.connections, used.messages) + EXCLUDED.connections
"""


async def _claim(connection: Connection, asks: Sequence[Ask]) -> dict[int, list[ClaimedEntry]]:
    claimed: dict[int, list[ClaimedEntry]] = {}
    cursor = await connection.execute(_CLAIM, _parameters(asks))
    for path_id, *entry in await cursor.fetchall():
        claimed.setdefault(path_id, []).append(ClaimedEntry(*entry))
    return claimed


def _parameters(asks: Sequence[Ask]) -> dict[str, list[int]]:
    wants = [(ask.path_id, want) for ask in asks for want in ask.wants]
    return {
        "paths": [ask.path_id for ask in asks],
        "fences": [ask.fence for ask in asks],
        "most_losses": [ask.most_losses for ask in asks],
        "wanting": [path_id for path_id, _ in wants],
        "lanes": [want.lane_id for _, want in wants],
        "limits": [want.most for _, want in wants],
    }


async def _within_rates(
    connection: Connection, claimed: dict[int, list[ClaimedEntry]], rates: Mapping[UUID, float]
) -> dict[int, list[ClaimedEntry]]:
    everything = [entry for entries in claimed.values() for entry in entries]
    kept = {entry.recipient_id for entry in await keep_within(connection, everything, rates=rates)}
    return {path_id: [one for one in entries if one.recipient_id in kept] for path_id, entries in claimed.items()}


@dataclass(frozen=True, slots=True)
class DueLane:
    """A lane with something to do, and whose it is."""

    id: int
    pool_id: UUID
    group_id: int
    group_kind: str
    group_key: str
    tenant_id: UUID
    stream_id: UUID
    stream_kind: str
    pinned_source_id: UUID | None
    quiet_from: time | None
    quiet_until: time | None
    quiet_streams: str
    time_zone: str


# A pool that has a stand-by, and no address that could be used at present, has its lanes served by the stand-by.
_DUE_LANES = """
WITH served AS (
    SELECT pool.id, CASE WHEN pool.standby_id IS NULL OR EXISTS (
        SELECT 1 FROM delivery_sourceaddress AS source
        JOIN delivery_node AS node ON node.name = source.node_id AND NOT node.is_draining
        JOIN delivery_worker AS worker ON worker.node_id = node.name AND worker.part = 'worker'
             AND worker.heartbeat_at > now() - %s::interval
        WHERE source.pool_id = pool.id AND source.state = 'active'
    ) THEN pool.id ELSE pool.standby_id END AS by_pool_id
    FROM delivery_sourcepool AS pool
)
SELECT lane.id, CASE WHEN lane.pinned_source_id IS NULL THEN served.by_pool_id ELSE lane.pool_id END AS pool_id,
       lane.group_id, grp.kind AS group_kind, grp.key AS group_key,
       lane.tenant_id, lane.stream_id, stream.kind AS stream_kind, lane.pinned_source_id,
       tenant.quiet_from, tenant.quiet_until, tenant.quiet_streams, tenant.time_zone
FROM delivery_lane AS lane
JOIN served ON served.id = lane.pool_id
JOIN delivery_providergroup AS grp ON grp.id = lane.group_id
JOIN delivery_stream AS stream ON stream.id = lane.stream_id
JOIN accounts_tenant AS tenant ON tenant.id = lane.tenant_id AND tenant.state <> 'suspended'
WHERE lane.next_due_at <= now() AND (lane.suspended_until IS NULL OR lane.suspended_until <= now())
ORDER BY lane.next_due_at
"""


async def due_lanes(connection: Connection) -> list[DueLane]:
    """A suspended tenant's lanes are left out: its mail waits where it is, and goes on from there."""
    async with connection.cursor(row_factory=class_row(DueLane)) as cursor:
        await cursor.execute(_DUE_LANES, [NODE_IS_DEAD_AFTER])
        return await cursor.fetchall()


async def seconds_to_next_due(connection: Connection) -> float | None:
    """How long until a lane that has nothing due now will have; None when none is waiting."""
    sql = """SELECT extract(epoch FROM min(greatest(next_due_at, suspended_until)) - now())::float8 FROM delivery_lane
             WHERE next_due_at IS NOT NULL AND greatest(next_due_at, suspended_until) > now()"""
    row = await (await connection.execute(sql)).fetchone()
    seconds: float | None = row[0] if row else None
    return seconds


async def refresh_lanes(connection: Connection, lane_ids: Sequence[int]) -> set[int]:
    """Note when these lanes have something due next. The lock comes first: see ``enqueue.mark_due``.

    Returns those that have something to claim at once after all, suspects aside: it came, or was let go, a moment ago.
    """
    async with connection.pipeline(), connection.transaction():
        await connection.execute(
            "SELECT id FROM delivery_lane WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [sorted(lane_ids)]
        )
        cursor = await connection.execute(_REFRESH, [sorted(lane_ids)])
    return {lane_id for lane_id, is_ready in await cursor.fetchall() if is_ready}


# The transaction may have begun before what it waited for: only the clock itself says what is due by now.
_REFRESH = """
UPDATE delivery_lane AS lane SET next_due_at = least(found.ready_at, found.suspect_at)
FROM (
    SELECT id,
        (SELECT next_attempt_at FROM delivery_queue_entry
         WHERE lane_id = known.id AND path_id IS NULL AND held_reason IS NULL AND losses = 0
         ORDER BY next_attempt_at LIMIT 1) AS ready_at,
        (SELECT next_attempt_at FROM delivery_queue_entry
         WHERE lane_id = known.id AND path_id IS NULL AND held_reason IS NULL AND losses > 0
         ORDER BY next_attempt_at LIMIT 1) AS suspect_at
    FROM delivery_lane AS known WHERE id = ANY(%s)
) AS found
WHERE lane.id = found.id
RETURNING lane.id, found.ready_at <= clock_timestamp()
"""


async def repair_lanes(connection: Connection) -> int:
    """Lanes that have something due and do not say so; returns how many there were (none, unless we made a mistake)."""
    sql = """SELECT lane.id FROM delivery_lane AS lane
             WHERE (lane.next_due_at IS NULL OR lane.next_due_at > now()) AND EXISTS (
                 SELECT 1 FROM delivery_queue_entry AS entry
                 WHERE entry.lane_id = lane.id AND entry.next_attempt_at <= now()
                   AND entry.path_id IS NULL AND entry.held_reason IS NULL)"""
    lane_ids = [row[0] for row in await (await connection.execute(sql)).fetchall()]
    if lane_ids:
        await refresh_lanes(connection, lane_ids)
    return len(lane_ids)


@dataclass(frozen=True, slots=True)
class Mark:
    """The final dot of an entry is about to go out."""

    recipient_id: UUID
    path_id: int
    fence: int
    attempt_id: UUID
    host: str


async def mark_dots(connection: Connection, marks: Sequence[Mark]) -> set[UUID]:
    """Record that the dots go out; returns those whose claim is still good. Only these may be sent.

    The connection may commit asynchronously: when the mark is lost in a crash of the database, so is the claim's owner, and
    the entry is tried again as one whose dot may have gone out or not — the duplicate that is possible here would be possible
    without it.
    """
    sql = """UPDATE delivery_queue_entry AS entry
             SET dot_sent_at = now(), attempt_id = mark.attempt_id, dot_host = mark.host
             FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::uuid[], %s::text[])
                  AS mark (recipient_id, path_id, fence, attempt_id, host)
             JOIN delivery_path AS path ON path.id = mark.path_id AND path.fence = mark.fence
             WHERE entry.recipient_id = mark.recipient_id AND entry.path_id = mark.path_id AND entry.fence = mark.fence
             RETURNING entry.recipient_id"""
    cursor = await connection.execute(
        sql,
        [
            [mark.recipient_id for mark in marks],
            [mark.path_id for mark in marks],
            [mark.fence for mark in marks],
            [mark.attempt_id for mark in marks],
            [mark.host[:255] for mark in marks],
        ],
    )
    return {row[0] for row in await cursor.fetchall()}


async def release(
    connection: Connection,
    entries: Sequence[ClaimedEntry],
    *,
    path_id: int,
    fence: int,
    lane_id: int | None = None,
    delay: timedelta = timedelta(0),
) -> None:
    """Give entries back untried: the attempt that the claim counted is taken back.

    ``lane_id`` moves them to another lane on the way: a domain's mail goes elsewhere now. ``delay`` is for faults of our own,
    which should not be met again at once.
    """
    recipient_ids = [entry.recipient_id for entry in entries]
    sql = """UPDATE delivery_queue_entry AS entry
             SET path_id = NULL, fence = NULL, claimed_at = NULL, attempts = entry.attempts - 1,
                 attempt_id = NULL, dot_sent_at = NULL, dot_host = NULL, lane_id = coalesce(%s, entry.lane_id),
                 next_attempt_at = CASE WHEN %s::interval > '0' THEN now() + %s ELSE entry.next_attempt_at END
             WHERE entry.recipient_id = ANY(%s) AND entry.path_id = %s AND entry.fence = %s
             RETURNING entry.lane_id"""
    async with connection.transaction():
        cursor = await connection.execute(sql, [lane_id, delay, delay, recipient_ids, path_id, fence])
        lane_ids = sorted({row[0] for row in await cursor.fetchall()})
        await mark_due(connection, lane_ids)


async def set_aside(
    connection: Connection, lane_ids: Sequence[int], *, credential_id: UUID, reason: str, most: int
) -> None:
    """Keep what is due of a credential in these lanes out of the sight of claims, until ``let_go``."""
    sql = """UPDATE delivery_queue_entry SET held_reason = %s WHERE recipient_id IN (
                 SELECT recipient_id FROM delivery_queue_entry
                 WHERE lane_id = ANY(%s) AND credential_id = %s AND next_attempt_at <= now()
                   AND path_id IS NULL AND held_reason IS NULL AND losses = 0
                 ORDER BY next_attempt_at LIMIT %s FOR UPDATE SKIP LOCKED)"""
    await connection.execute(sql, [reason, list(lane_ids), credential_id, most])


def let_go(cursor: CursorWrapper, *, credential_id: UUID, reason: str, most: int) -> list[int]:
    """Give back what was set aside, the oldest first; returns its lanes, which whoever calls marks as due."""
    sql = """UPDATE delivery_queue_entry SET held_reason = NULL WHERE recipient_id IN (
                 SELECT recipient_id FROM delivery_queue_entry WHERE credential_id = %s AND held_reason = %s
                 ORDER BY recipient_id LIMIT %s FOR UPDATE SKIP LOCKED)
             RETURNING lane_id"""
    cursor.execute(sql, [credential_id, reason, most])
    return sorted({row[0] for row in cursor.fetchall()})


@dataclass(frozen=True, slots=True)
class OldClaim:
    """A claim of a while ago. ``is_marked``: its dot may have gone out."""

    path_id: int
    fence: int
    is_marked: bool
    entry: ClaimedEntry


async def old_claims(connection: Connection, path_ids: Sequence[int]) -> list[OldClaim]:
    """What was claimed for these paths a while ago: the owner compares it with what it has in hand.

    A claim whose commit was not confirmed, because the connection broke, would otherwise stay until the path changes hands.
    """
    sql = """SELECT path_id, fence, dot_sent_at IS NOT NULL,
                    recipient_id, message_id, tenant_id, lane_id, domain_route_id, accepted_at, attempts, losses
             FROM delivery_queue_entry WHERE path_id = ANY(%s) AND claimed_at < now() - interval '15 s'"""
    rows = await (await connection.execute(sql, [list(path_ids)])).fetchall()
    return [OldClaim(path_id, fence, is_marked, ClaimedEntry(*entry)) for path_id, fence, is_marked, *entry in rows]
