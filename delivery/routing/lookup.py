"""Looking up the recipient domains that wait in unrouted lanes, and moving their entries to the lanes they belong in.

The result is only a group: which hosts take the mail is asked again at each attempt. A domain whose look-up says that nothing
can be delivered, or that fails, goes to the *unreachable* group; there an attempt looks again and its reply is judged like any
other, so that NXDOMAIN bounces and SERVFAIL is deferred with the same history as an answer of a host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from delivery.core.reply import Reply
from delivery.dns import Resolver
from delivery.queue import wake
from delivery.queue.enqueue import Sender, lane_of, mark_due
from delivery.routing.table import RouteTable
from delivery.shaping.providers import Recognised, recognise
from delivery.transport.hops import MxHosts, find_mx_hosts

Connection = psycopg.AsyncConnection[Any]

UNREACHABLE_KEY = "unreachable"


@dataclass(frozen=True, slots=True)
class WaitingDomain:
    id: int
    domain: str


async def take_waiting(connection: Connection, lane_ids: Sequence[int], *, most: int) -> list[WaitingDomain]:
    """Domains that wait in these unrouted lanes; they are ours to look up for the next 30 seconds."""
    sql = """UPDATE delivery_domainroute AS route SET resolving_until = now() + interval '30 s'
             FROM (SELECT id FROM delivery_domainroute
                   WHERE id IN (SELECT domain_route_id FROM delivery_queue_entry
                                WHERE lane_id = ANY(%s) AND path_id IS NULL AND next_attempt_at <= now())
                     AND (resolving_until IS NULL OR resolving_until < now())
                   ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) AS waiting
             WHERE route.id = waiting.id
             RETURNING route.id, route.domain"""
    async with connection.cursor(row_factory=class_row(WaitingDomain)) as cursor:
        await cursor.execute(sql, [list(lane_ids), most])
        return await cursor.fetchall()


async def look_up(domain: str, resolver: Resolver) -> Recognised | None:
    """The group of a domain; None when no host takes its mail, or nobody could say."""
    found = await find_mx_hosts(domain, resolver)
    return None if isinstance(found, Reply) else group_of(found)


def group_of(mx_hosts: MxHosts) -> Recognised:
    return recognise(mx_hosts.domain, mx_hosts.best_names)


async def group_id_of(connection: Connection, group: Recognised | None) -> int:
    """The row of a group; made when it is first met."""
    if group is None:
        sql = "SELECT id FROM delivery_providergroup WHERE kind = 'unreachable'"
        row = await (await connection.execute(sql)).fetchone()
    else:
        sql = "SELECT id FROM delivery_providergroup WHERE key = %s"
        row = await (await connection.execute(sql, [group.key])).fetchone()
        if row is None:
            await connection.execute(
                """INSERT INTO delivery_providergroup (key, kind, title, limits, created_at)
                   VALUES (%s, %s, %s, '{}', now()) ON CONFLICT DO NOTHING""",
                [group.key, group.kind, group.title],
            )
            row = await (await connection.execute(sql, [group.key])).fetchone()
    if row is None:
        raise LookupError("the built-in provider groups are missing: run `script/relay database migrate`")
    group_id: int = row[0]
    return group_id


async def settle_route(
    connection: Connection, waiting: WaitingDomain, group: Recognised | None, routes: RouteTable
) -> None:
    """Remember the domain's group and move what waits unrouted for it to its lanes."""
    group_id = await group_id_of(connection, group)
    async with connection.transaction():
        await connection.execute(
            """UPDATE delivery_domainroute SET group_id = %s, resolved_at = now(), resolving_until = NULL WHERE id = %s""",
            [group_id, waiting.id],
        )
        await move_unrouted(connection, waiting, group_id, routes)
        await connection.execute(wake.RING, [wake.LANES])


async def move_unrouted(connection: Connection, waiting: WaitingDomain, group_id: int, routes: RouteTable) -> None:
    sql = """SELECT lane.id, lane.pool_id, lane.tenant_id, lane.stream_id FROM delivery_lane AS lane
             JOIN delivery_providergroup AS grp ON grp.id = lane.group_id AND grp.kind = 'unrouted'
             WHERE EXISTS (SELECT 1 FROM delivery_queue_entry AS entry
                           WHERE entry.domain_route_id = %s AND entry.lane_id = lane.id)
             ORDER BY lane.id"""
    moved_to = []
    for lane_id, pool_id, tenant_id, stream_id in await (await connection.execute(sql, [waiting.id])).fetchall():
        route = routes.match(tenant_id, waiting.domain)
        target = await lane_of(connection, Sender(pool_id, tenant_id, stream_id), route.group_id if route else group_id)
        await connection.execute(
            """UPDATE delivery_queue_entry SET lane_id = %s
               WHERE domain_route_id = %s AND lane_id = %s AND path_id IS NULL""",
            [target, waiting.id, lane_id],
        )
        moved_to.append(target)
    await mark_due(connection, moved_to)


async def lane_in_group(connection: Connection, *, lane_id: int, group_id: int, pinned_to: UUID | None = None) -> int:
    """The lane of the same pool, tenant and stream in another group, or pinned to a source address."""
    row = await (
        await connection.execute("SELECT pool_id, tenant_id, stream_id FROM delivery_lane WHERE id = %s", [lane_id])
    ).fetchone()
    if row is None:
        raise LookupError(f"lane {lane_id} is gone")
    return await lane_of(connection, Sender(*row), group_id, pinned_to=pinned_to)
