"""Which paths this worker drives.

Live workers of a node share its paths by rendezvous hashing: every worker computes the same owner for each path, without
asking anybody. The lease says that the owner is alive, the fence unmasks a former one. A path that belongs to somebody else by
now (a worker came or went) is handed over as soon as nothing is in flight on it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from accounts import clock
from delivery.engine import recovery
from delivery.shaping.governor import PERSISTED_FROM_S, Learnt
from delivery.shaping.pace import Pace, Suspension

Connection = psycopg.AsyncConnection[Any]
_Uses = dict[float, tuple[int, int]]


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
    families: str
    # Its weight over that of the heaviest address of the pool that is in use: what it gets of a group's limits. It changes
    # with the others, and the address stays the same.
    share: float = field(compare=False)
    is_draining: bool = False

    @property
    def speaks(self) -> tuple[int, ...]:
        """The IP versions it can speak, the one to try first in front: its own, or where the system chooses, as it is set."""
        if self.address is None:
            return tuple(int(digit) for digit in self.families)
        return (6,) if ":" in self.address else (4,)


@dataclass(frozen=True, slots=True)
class PathRow:
    """A path that was acquired. ``uses`` holds the age in seconds and the number of messages claimed for it in each minute,
    ``connections`` that of connections opened.
    """

    id: int
    source_id: UUID
    group_id: int
    group_key: str
    group_kind: str
    group_limits: dict[str, Any]
    fence: int
    learnt: Learnt
    was_in_use: bool
    uses: dict[float, int]
    connections: dict[float, int]


@dataclass(frozen=True, slots=True)
class Renewed:
    """A path that is still ours, as the database has it: an operator may have changed it."""

    fence: int
    group_limits: dict[str, Any]
    learnt: Learnt


_LEARNT = """path.pace_share, path.pace_changed_at, path.pace_reason, path.suspended_until, path.suspended_reason,
             path.suspension_s"""


def _learnt(
    share: float,
    changed_at: datetime | None,
    pace_reason: str,
    suspended_until: datetime | None,
    suspended_reason: str,
    suspension_s: float,
) -> Learnt:
    suspension = None
    if suspended_until is not None:
        suspension = Suspension(suspended_until, suspended_reason, timedelta(seconds=suspension_s))
    return Learnt(Pace(share=share, changed_at=changed_at, reason=pace_reason), suspension)


def owner_of(path_id: int, slots: Iterable[str]) -> str | None:
    """The slot that drives a path among the living: the highest hash wins."""
    return max(
        slots, key=lambda slot: hashlib.blake2b(f"{path_id} {slot}".encode(), digest_size=8).digest(), default=None
    )


async def beat(
    connection: Connection, me: WorkerIdentity, *, is_draining: bool, figures: dict[str, Any], part: str = "worker"
) -> None:
    """Tell the others that this worker lives, and what it is doing; and look at the database's clock."""
    await clock.learn(connection)
    await connection.execute(
        """INSERT INTO delivery_node (name, is_draining, created_at) VALUES (%s, false, now()) ON CONFLICT DO NOTHING""",
        [me.node],
    )
    await connection.execute(
        """INSERT INTO delivery_worker (slot, incarnation, node_id, part, pid, version, started_at, heartbeat_at,
                                        is_draining, figures)
           VALUES (%(slot)s, %(incarnation)s, %(node)s, %(part)s, %(pid)s, %(version)s, now(), now(), %(draining)s, %(figures)s)
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
            "part": part,
            "draining": is_draining,
            "figures": Jsonb(figures),
        },
    )


async def live_slots(connection: Connection, *, node: str, lease: timedelta) -> frozenset[str]:
    sql = """SELECT slot FROM delivery_worker
             WHERE node_id = %s AND part = 'worker' AND NOT is_draining AND heartbeat_at > now() - %s"""
    return frozenset(row[0] for row in await (await connection.execute(sql, [node, lease])).fetchall())


async def usable_sources(connection: Connection, *, node: str) -> list[Source]:
    sql = """SELECT source.id, host(source.address) AS address, source.ehlo_name, source.pool_id, source.families, source.share,
                    source.state = 'draining' AS is_draining
             FROM (SELECT one.*, least(1, one.weight::float8 / coalesce(
                              max(one.weight) FILTER (WHERE one.state = 'active') OVER (PARTITION BY one.pool_id),
                              one.weight)) AS share
                   FROM delivery_sourceaddress AS one JOIN delivery_node AS node ON node.name = one.node_id
                   WHERE one.state IN ('active', 'draining') AND NOT node.is_draining) AS source
             WHERE source.node_id = %s"""
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
            """INSERT INTO delivery_path (source_id, group_id, owner, fence, pace_share, pace_reason, suspended_reason,
                                          suspension_s)
               SELECT source_id, group_id, '', 0, 1, '', '', 0
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
    sql = f"""UPDATE delivery_path AS path
             SET owner = %(slot)s, owner_incarnation = %(incarnation)s, fence = path.fence + 1,
                 leased_until = now() + %(lease)s
             FROM delivery_providergroup AS grp,
                  (SELECT id, owner, leased_until FROM delivery_path WHERE id = ANY(%(wanted)s) ORDER BY id FOR UPDATE) AS former
             WHERE path.id = former.id AND grp.id = path.group_id
               AND (path.owner IN ('', %(slot)s) OR (%(expired)s AND path.leased_until < now()))
             RETURNING path.id, path.source_id, path.group_id, grp.key, grp.kind, grp.limits, path.fence,
                       former.owner <> '' OR coalesce(former.leased_until > now() - %(recent)s, false), {_LEARNT}"""
    parameters = {
        "slot": me.slot,
        "incarnation": me.incarnation,
        "lease": lease,
        "wanted": sorted(wanted),
        "expired": takes_expired,
        "recent": timedelta(seconds=PERSISTED_FROM_S),
    }
    async with connection.transaction():
        rows = await (await connection.execute(sql, parameters)).fetchall()
        taken = [row[0] for row in rows]
        uses = await _read_uses(connection, taken)
        if taken:
            await recovery.free_entries(connection, taken)
    return [_path_row(row, uses.get(row[0], {})) for row in rows]


def _path_row(row: tuple[Any, ...], uses: _Uses) -> PathRow:
    path_id, source_id, group_id, key, kind, limits, fence, was_in_use, *learnt = row
    return PathRow(
        id=path_id,
        source_id=source_id,
        group_id=group_id,
        group_key=key,
        group_kind=kind,
        group_limits=limits,
        fence=fence,
        learnt=_learnt(*learnt),
        was_in_use=was_in_use,
        uses={age: messages for age, (messages, _) in uses.items()},
        connections={age: connections for age, (_, connections) in uses.items()},
    )


async def _read_uses(connection: Connection, path_ids: Sequence[int]) -> dict[int, _Uses]:
    """What was written down for each path within a day, by its age in seconds, as young as it can be."""
    sql = """SELECT path_id, greatest(0, extract(epoch FROM now() - minute - interval '1 min'))::float8, messages,
                    coalesce(connections, messages)
             FROM delivery_path_use WHERE path_id = ANY(%s) AND minute > now() - interval '1 day 1 min' ORDER BY minute"""
    found: dict[int, _Uses] = {}
    for path_id, age, messages, connections in await (await connection.execute(sql, [list(path_ids)])).fetchall():
        found.setdefault(path_id, {})[age] = (messages, connections)
    return found


async def renew(
    connection: Connection, me: WorkerIdentity, path_ids: Sequence[int], *, lease: timedelta
) -> dict[int, Renewed]:
    """Prolong the leases of these paths; returns those that are still ours.

    Only what the caller drives: a path that it lost sight of must run out, or nobody would ever drive it again.
    """
    sql = f"""UPDATE delivery_path AS path SET leased_until = now() + %s
             FROM (SELECT id FROM delivery_path WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS locked,
                  delivery_providergroup AS grp
             WHERE path.id = locked.id AND grp.id = path.group_id AND path.owner = %s AND path.owner_incarnation = %s
             RETURNING path.id, path.fence, grp.limits, {_LEARNT}"""
    cursor = await connection.execute(sql, [lease, list(path_ids), me.slot, me.incarnation])
    return {row[0]: Renewed(row[1], row[2], _learnt(*row[3:])) for row in await cursor.fetchall()}


async def save_learnt(connection: Connection, *, path_id: int, fence: int, learnt: Learnt) -> None:
    """Write down what the owner of a path has learnt, so that the next one knows it, and people can read it."""
    suspension = learnt.suspension
    await connection.execute(
        """UPDATE delivery_path SET pace_share = %s, pace_changed_at = %s, pace_reason = %s, suspended_until = %s,
                  suspended_reason = %s, suspension_s = %s
           WHERE id = %s AND fence = %s""",
        [
            learnt.pace.share,
            learnt.pace.changed_at,
            learnt.pace.reason[:200],
            suspension.until if suspension else None,
            suspension.reason[:200] if suspension else "",
            suspension.length.total_seconds() if suspension else 0,
            path_id,
            fence,
        ],
    )


async def give_up(
    connection: Connection, me: WorkerIdentity, path_ids: Sequence[int], *, were_in_use: bool = True
) -> None:
    """Hand paths over: nothing of ours is in flight on them. The fence stays, the next owner raises it.

    Where they were in use the end of the lease is kept: the next owner lets the short windows pass.
    """
    await connection.execute(
        """UPDATE delivery_path SET owner = '', owner_incarnation = NULL,
                  leased_until = CASE WHEN %s THEN now() END
           WHERE id = ANY(%s) AND owner = %s AND owner_incarnation = %s""",
        [were_in_use, list(path_ids), me.slot, me.incarnation],
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
