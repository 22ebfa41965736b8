"""Which paths this worker drives.

Live workers of a node share its paths by rendezvous hashing: every worker computes the same owner for each path, without
asking anybody. The lease says that the owner is alive, the fence unmasks a former one. A path that belongs to somebody else by
now (a worker came or went) is handed over as soon as nothing is in flight on it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from delivery.engine import recovery

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """``slot`` stays the same from one incarnation to the next: node/worker-1."""

    slot: str
    incarnation: UUID
    node: str
    version: str


@dataclass(frozen=True, slots=True)
class Source:
    """A source address of this node that may be used."""

    id: UUID
    address: str | None
    ehlo_name: str
    pool_id: UUID


@dataclass(frozen=True, slots=True)
class PathRow:
    """A path that was acquired."""

    id: int
    source_id: UUID
    group_id: int
    group_key: str
    group_kind: str
    group_limits: dict[str, Any]
    fence: int


def owner_of(path_id: int, slots: Iterable[str]) -> str | None:
    """The slot that drives a path among the living: the highest hash wins."""
    return max(
        slots, key=lambda slot: hashlib.blake2b(f"{path_id} {slot}".encode(), digest_size=8).digest(), default=None
    )


async def beat(connection: Connection, me: WorkerIdentity, *, is_draining: bool, figures: dict[str, Any]) -> None:
    """Tell the others that this worker lives, and what it is doing."""
    await connection.execute(
        """INSERT INTO delivery_node (name, is_draining, created_at) VALUES (%s, false, now()) ON CONFLICT DO NOTHING""",
        [me.node],
    )
    await connection.execute(
        """INSERT INTO delivery_worker (slot, incarnation, node_id, part, pid, version, started_at, heartbeat_at,
                                        is_draining, figures)
           VALUES (%(slot)s, %(incarnation)s, %(node)s, 'worker', %(pid)s, %(version)s, now(), now(), %(draining)s, %(figures)s)
           ON CONFLICT (slot) DO UPDATE SET heartbeat_at = now(), is_draining = EXCLUDED.is_draining,
               figures = EXCLUDED.figures, pid = EXCLUDED.pid, version = EXCLUDED.version, node_id = EXCLUDED.node_id,
               incarnation = EXCLUDED.incarnation, started_at = CASE
                   WHEN delivery_worker.incarnation = EXCLUDED.incarnation THEN delivery_worker.started_at ELSE now() END""",
        {
            "slot": me.slot,
            "incarnation": me.incarnation,
            "node": me.node,
            "pid": os.getpid(),
            "version": me.version,
            "draining": is_draining,
            "figures": Jsonb(figures),
        },
    )


async def live_slots(connection: Connection, *, node: str, lease: timedelta) -> frozenset[str]:
    sql = """SELECT slot FROM delivery_worker
             WHERE node_id = %s AND part = 'worker' AND NOT is_draining AND heartbeat_at > now() - %s"""
    return frozenset(row[0] for row in await (await connection.execute(sql, [node, lease])).fetchall())


async def usable_sources(connection: Connection, *, node: str) -> list[Source]:
    sql = """SELECT source.id, host(source.address) AS address, source.ehlo_name, source.pool_id
             FROM delivery_sourceaddress AS source JOIN delivery_node AS node ON node.name = source.node_id
             WHERE source.node_id = %s AND source.state = 'active' AND NOT node.is_draining"""
    async with connection.cursor(row_factory=class_row(Source)) as cursor:
        await cursor.execute(sql, [node])
        return await cursor.fetchall()


async def path_ids(connection: Connection, pairs: Collection[tuple[UUID, int]]) -> dict[tuple[UUID, int], int]:
    """The paths of (source, group) pairs; made when they are first needed."""
    ordered = sorted(pairs)
    sources, groups = [source for source, _ in ordered], [group for _, group in ordered]
    select = """SELECT path.source_id, path.group_id, path.id FROM delivery_path AS path
                JOIN unnest(%s::uuid[], %s::bigint[]) AS pair (source_id, group_id)
                  ON pair.source_id = path.source_id AND pair.group_id = path.group_id"""
    found = {(s, g): i for s, g, i in await (await connection.execute(select, [sources, groups])).fetchall()}
    if len(found) < len(ordered):
        await connection.execute(
            """INSERT INTO delivery_path (source_id, group_id, owner, fence, pace_reason, suspended_reason, budget_reserved)
               SELECT source_id, group_id, '', 0, '', '', 0
               FROM unnest(%s::uuid[], %s::bigint[]) AS pair (source_id, group_id) ON CONFLICT DO NOTHING""",
            [sources, groups],
        )
        found = {(s, g): i for s, g, i in await (await connection.execute(select, [sources, groups])).fetchall()}
    return found


async def acquire(
    connection: Connection, me: WorkerIdentity, wanted: Sequence[int], *, lease: timedelta, takes_expired: bool
) -> list[PathRow]:
    """Take the paths that are free; what a former owner left in them is freed in the same transaction.

    ``wanted`` names none that the caller drives already: what stands in our own name was lost sight of, and is free.
    ``takes_expired`` counts leases that ran out as free.
    """
    sql = """UPDATE delivery_path AS path
             SET owner = %(slot)s, owner_incarnation = %(incarnation)s, fence = path.fence + 1,
                 leased_until = now() + %(lease)s
             FROM delivery_providergroup AS grp,
                  (SELECT id FROM delivery_path WHERE id = ANY(%(wanted)s) ORDER BY id FOR UPDATE) AS locked
             WHERE path.id = locked.id AND grp.id = path.group_id
               AND (path.owner IN ('', %(slot)s) OR (%(expired)s AND path.leased_until < now()))
             RETURNING path.id, path.source_id, path.group_id, grp.key AS group_key, grp.kind AS group_kind,
                       grp.limits AS group_limits, path.fence"""
    parameters = {
        "slot": me.slot,
        "incarnation": me.incarnation,
        "lease": lease,
        "wanted": sorted(wanted),
        "expired": takes_expired,
    }
    async with connection.transaction(), connection.cursor(row_factory=class_row(PathRow)) as cursor:
        await cursor.execute(sql, parameters)
        taken = await cursor.fetchall()
        if taken:
            await recovery.free_entries(connection, [path.id for path in taken])
        return taken


async def renew(
    connection: Connection, me: WorkerIdentity, path_ids: Sequence[int], *, lease: timedelta
) -> dict[int, int]:
    """Prolong the leases of these paths; returns the fence of each that is still ours.

    Only what the caller drives: a path that it lost sight of must run out, or nobody would ever drive it again.
    """
    sql = """UPDATE delivery_path AS path SET leased_until = now() + %s
             FROM (SELECT id FROM delivery_path WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS locked
             WHERE path.id = locked.id AND path.owner = %s AND path.owner_incarnation = %s RETURNING path.id, path.fence"""
    cursor = await connection.execute(sql, [lease, list(path_ids), me.slot, me.incarnation])
    return dict(await cursor.fetchall())


async def give_up(connection: Connection, me: WorkerIdentity, path_ids: Sequence[int]) -> None:
    """Hand paths over: nothing of ours is in flight on them. The fence stays, the next owner raises it."""
    await connection.execute(
        """UPDATE delivery_path SET owner = '', owner_incarnation = NULL, leased_until = NULL
           WHERE id = ANY(%s) AND owner = %s AND owner_incarnation = %s""",
        [list(path_ids), me.slot, me.incarnation],
    )


async def leave(connection: Connection, me: WorkerIdentity, path_ids: Sequence[int]) -> None:
    """Hand over everything, with what is still in flight freed as a dead owner's would be; nothing that others took."""
    async with connection.transaction():
        sql = """SELECT id FROM delivery_path WHERE id = ANY(%s) AND owner = %s AND owner_incarnation = %s
                 ORDER BY id FOR UPDATE"""
        cursor = await connection.execute(sql, [list(path_ids), me.slot, me.incarnation])
        ours = [path_id for (path_id,) in await cursor.fetchall()]
        await recovery.free_entries(connection, ours)
        await give_up(connection, me, ours)


async def sign_off(connection: Connection, me: WorkerIdentity) -> None:
    await connection.execute(
        "DELETE FROM delivery_worker WHERE slot = %s AND incarnation = %s", [me.slot, me.incarnation]
    )
