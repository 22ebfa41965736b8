"""What a dead owner held is freed: by its own next incarnation at once, by anybody else when the lease has run out.

An entry whose dot may have gone out is recorded as an ambiguous attempt and tried again at the schedule's next step; one that
was only claimed is due again now. Either was lost with its owner and is next claimed alone; after ``LOSSES_TO_PARK`` losses it
is parked as held with the reason *poison*, for a person to look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import namedtuple_row

from accounts import database
from accounts.identifiers import uuid7
from delivery import schedules, settlement
from delivery.core.outcome import judge
from delivery.core.reply import Origin, Phase, made_up
from delivery.core.states import EventKind, RecipientState
from delivery.queue import claim, wake
from delivery.queue.claim import LOSSES_TO_PARK, ClaimedEntry, OldClaim
from delivery.queue.enqueue import Sender, lane_of
from delivery.settlement import AttemptRecord, Settled

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

POISON = "poison"
_SWEEP_LOCK = 0x72656C61_73776565


async def free_predecessor(connection: Connection, *, slot: str, incarnation: UUID) -> int:
    """A worker that starts frees what the former one in its slot held, without waiting for a lease to run out."""
    sql = "SELECT id FROM delivery_path WHERE owner = %s AND owner_incarnation IS DISTINCT FROM %s ORDER BY id"
    return await _free_paths(connection, sql, [slot, incarnation])


async def sweep(connection: Connection) -> int:
    """Free the paths whose lease ran out, and lanes that forgot their entries. One sweeper at a time; safe at any time."""
    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [_SWEEP_LOCK])).fetchone()
    if row is None or not row[0]:
        return 0
    try:
        sql = "SELECT id FROM delivery_path WHERE owner <> '' AND leased_until < now() ORDER BY id"
        freed = await _free_paths(connection, sql, [])
        freed += await _free_orphans(connection)
        await _unpin(connection)
        repaired = await claim.repair_lanes(connection)
        if repaired:
            log.warning("lanes_repaired", lanes=repaired)
        if freed or repaired:
            await connection.execute(wake.RING, [wake.LANES])
        return freed
    finally:
        await connection.execute("SELECT pg_advisory_unlock(%s)", [_SWEEP_LOCK])


def sweep_now() -> int:
    """``sweep`` for a caller without an event loop, such as the command line; returns how many entries were freed."""

    async def once() -> int:
        connection = await database.connect()
        try:
            return await sweep(connection)
        finally:
            await connection.close()

    return asyncio.run(once())


async def _free_paths(connection: Connection, select: str, parameters: list[Any]) -> int:
    path_ids = [row[0] for row in await (await connection.execute(select, parameters)).fetchall()]
    freed = 0
    for path_id in path_ids:
        async with connection.transaction():
            # The same condition again, now that the row is locked: the owner may have renewed its lease meanwhile.
            again = f"SELECT id FROM ({select}) AS candidate WHERE id = %s"
            locked = await connection.execute("SELECT id FROM delivery_path WHERE id = %s FOR UPDATE", [path_id])
            if await locked.fetchone() is None:
                continue
            if await (await connection.execute(again, [*parameters, path_id])).fetchone() is None:
                continue
            freed += await free_entries(connection, [path_id])
            await connection.execute(
                """UPDATE delivery_path SET owner = '', owner_incarnation = NULL, leased_until = now(), fence = fence + 1
                   WHERE id = %s""",
                [path_id],
            )
    if path_ids:
        log.info("paths_freed", paths=len(path_ids), entries=freed)
    return freed


_ORPHANED = """entry.path_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM delivery_path AS path WHERE path.id = entry.path_id AND path.fence = entry.fence AND path.owner <> '')"""


async def _free_orphans(connection: Connection) -> int:
    """Entries whose claim no path stands for: they cannot exist, and would wait for ever if they did."""
    sql = f"SELECT entry.recipient_id FROM delivery_queue_entry AS entry WHERE {_ORPHANED}"
    orphans = [row[0] for row in await (await connection.execute(sql)).fetchall()]
    if not orphans:
        return 0
    log.warning("orphans_freed", entries=len(orphans))
    async with connection.transaction():
        return await _free(connection, f"entry.recipient_id = ANY(%s) AND {_ORPHANED}", [orphans])


async def _unpin(connection: Connection) -> None:
    """What waits for a source address that is not used any more, or whose node is gone, may leave from others."""
    sql = """SELECT lane.id, lane.pool_id, lane.tenant_id, lane.stream_id, lane.group_id FROM delivery_lane AS lane
             JOIN delivery_sourceaddress AS source ON source.id = lane.pinned_source_id
             JOIN delivery_node AS node ON node.name = source.node_id
             WHERE (source.state NOT IN ('active', 'draining') OR source.pool_id <> lane.pool_id OR node.is_draining
                    OR NOT EXISTS (
                    SELECT 1 FROM delivery_worker AS worker WHERE worker.node_id = node.name AND worker.part = 'worker'
                        AND worker.heartbeat_at > now() - %s::interval))
             AND EXISTS (SELECT 1 FROM delivery_queue_entry AS entry WHERE entry.lane_id = lane.id AND entry.path_id IS NULL)"""
    for lane_id, pool_id, tenant_id, stream_id, group_id in await (
        await connection.execute(sql, [claim.NODE_IS_DEAD_AFTER])
    ).fetchall():
        target = await lane_of(connection, Sender(pool_id, tenant_id, stream_id), group_id)
        async with connection.transaction():
            await connection.execute(
                "UPDATE delivery_queue_entry SET lane_id = %s WHERE lane_id = %s AND path_id IS NULL", [target, lane_id]
            )
            await claim.refresh_lanes(connection, [lane_id, target])


async def free_entries(connection: Connection, path_ids: Sequence[int]) -> int:
    """Free all entries of these paths, in the caller's transaction and before their fences are raised."""
    return await _free(connection, "entry.path_id = ANY(%s)", [list(path_ids)])


async def free_marked(connection: Connection, claims: Sequence[OldClaim]) -> int:
    """Free entries that their own living owner lost sight of after their dots were marked."""
    condition = """(entry.recipient_id, entry.path_id, entry.fence)
                   IN (SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]))"""
    parameters = [
        [old.entry.recipient_id for old in claims],
        [old.path_id for old in claims],
        [old.fence for old in claims],
    ]
    async with connection.transaction():
        return await _free(connection, condition, parameters)


async def _free(connection: Connection, condition: str, parameters: list[Any]) -> int:
    # A mark that is being written just now holds its row: only what is read after that tells whether its dot goes out.
    await connection.execute(
        f"SELECT 1 FROM delivery_queue_entry AS entry WHERE {condition} ORDER BY entry.recipient_id FOR UPDATE",
        parameters,
    )
    lost = await _lost_past_the_dot(connection, condition, parameters)
    if lost:
        await settlement.write(connection, [_ambiguous(row) for row in lost])
    cursor = await connection.execute(
        f"""UPDATE delivery_queue_entry AS entry
            SET path_id = NULL, fence = NULL, claimed_at = NULL, next_attempt_at = now()
            WHERE {condition} RETURNING entry.recipient_id""",
        parameters,
    )
    claimed = [row[0] for row in await cursor.fetchall()]
    await _count_losses(connection, claimed + [row.recipient_id for row in lost])
    return len(claimed) + len(lost)


async def _count_losses(connection: Connection, recipient_ids: list[UUID]) -> None:
    cursor = await connection.execute(
        """UPDATE delivery_queue_entry
           SET losses = losses + 1, held_reason = CASE WHEN losses + 1 >= %s THEN %s END
           WHERE recipient_id = ANY(%s) RETURNING recipient_id, message_id, tenant_id, lane_id, held_reason""",
        [LOSSES_TO_PARK, POISON, recipient_ids],
    )
    counted = await cursor.fetchall()
    await claim.refresh_lanes(connection, sorted({lane_id for _, _, _, lane_id, _ in counted}))
    parked = [row for row in counted if row[4] == POISON]
    if parked:
        await _tell_parked(connection, parked)


async def _lost_past_the_dot(connection: Connection, condition: str, parameters: list[Any]) -> list[Any]:
    sql = f"""SELECT entry.recipient_id, entry.message_id, entry.tenant_id, entry.lane_id, entry.domain_route_id,
                     entry.accepted_at, entry.attempts, entry.losses, entry.path_id, entry.fence, entry.attempt_id,
                     entry.claimed_at, entry.dot_sent_at, entry.dot_host, path.source_id, path.owner,
                     source.address AS source_address, grp.key AS group_key, stream.kind, stream.retry_delays_s,
                     stream.lifetime_s, now() AS now
              FROM delivery_queue_entry AS entry
              JOIN delivery_lane AS lane ON lane.id = entry.lane_id
              JOIN delivery_providergroup AS grp ON grp.id = lane.group_id
              JOIN delivery_stream AS stream ON stream.id = lane.stream_id
              LEFT JOIN delivery_path AS path ON path.id = entry.path_id
              LEFT JOIN delivery_sourceaddress AS source ON source.id = path.source_id
              WHERE {condition} AND entry.dot_sent_at IS NOT NULL
              ORDER BY entry.recipient_id"""
    async with connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(sql, parameters)
        return await cursor.fetchall()


def _ambiguous(row: Any) -> Settled:
    now: datetime = row.now
    reply = made_up(
        Phase.EOD,
        451,
        "4.4.2",
        "our delivery worker stopped after the last byte and before the answer was recorded",
        Origin.OWN,
    )
    outcome = judge(
        reply,
        provider_group=row.group_key,
        attempts=row.attempts,
        accepted_at=row.accepted_at,
        schedule=schedules.of_stream(kind=row.kind, delays_s=row.retry_delays_s, lifetime_s=row.lifetime_s),
        now=now,
        is_ambiguous=True,
    )
    return Settled(
        entry=ClaimedEntry(
            recipient_id=row.recipient_id,
            message_id=row.message_id,
            tenant_id=row.tenant_id,
            lane_id=row.lane_id,
            domain_route_id=row.domain_route_id,
            accepted_at=row.accepted_at,
            attempts=row.attempts,
            losses=row.losses,
        ),
        path_id=row.path_id,
        fence=row.fence,
        attempt=AttemptRecord(
            id=row.attempt_id or uuid7(),
            started_at=row.claimed_at,
            ended_at=now,
            source_id=row.source_id,
            source_address=str(row.source_address) if row.source_address else None,
            worker=row.owner or "",
            host=row.dot_host or "",
        ),
        outcome=outcome,
        is_lost=True,
    )


async def _tell_parked(connection: Connection, parked: list[Any]) -> None:
    recipient_ids = [row[0] for row in parked]
    await connection.execute(
        """UPDATE delivery_recipient SET state = %s, reason = %s, state_since = now(), next_attempt_at = NULL
           WHERE id = ANY(%s)""",
        [RecipientState.HELD, POISON, recipient_ids],
    )
    await connection.execute(
        """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
           SELECT message_id, event_id, recipient_id, tenant_id, %s, now(), jsonb_build_object('reason', %s::text)
           FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[]) AS row (message_id, event_id, recipient_id, tenant_id)""",
        [
            EventKind.HELD,
            POISON,
            [row[1] for row in parked],
            [uuid7() for _ in parked],
            recipient_ids,
            [row[2] for row in parked],
        ],
    )
    log.error("entries_parked", reason=POISON, recipients=[str(one) for one in recipient_ids[:20]], count=len(parked))
