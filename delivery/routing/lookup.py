"""Looking up the recipient domains that wait in unrouted lanes, and moving their entries to the lanes they belong in.

The result is only a group: which hosts take the mail is asked again at each attempt. A domain whose look-up says that nothing
can be delivered, or that fails, goes to the *unreachable* group; there an attempt looks again and its reply is judged like any
other, so that NXDOMAIN bounces and SERVFAIL is deferred with the same history as an answer of a host.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from delivery.core.reply import Reply
from delivery.dns import Resolver
from delivery.queue.enqueue import Sender, announce, lane_of, lanes_of
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


@dataclass(frozen=True, slots=True)
class LookedUp:
    """``group`` None: no host takes the domain's mail, or nobody could say."""

    waiting: WaitingDomain
    group: Recognised | None


async def settle_routes(connection: Connection, found: Sequence[LookedUp], routes: RouteTable) -> None:
    """Remember the groups of these domains and move what waits unrouted for them to its lanes.

    Many at once for much the same number of round trips as one. What is lost in a crash is looked up again, so nobody waits
    for the disk.
    """
    group_ids = await group_ids_of(connection, {one.group for one in found})
    moves = await _moves(connection, [(one.waiting, group_ids[one.group]) for one in found], routes)
    async with connection.pipeline(), connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit TO off")
        await connection.execute(
            """UPDATE delivery_domainroute AS route SET group_id = found.group_id, resolved_at = now(), resolving_until = NULL
               FROM unnest(%s::bigint[], %s::bigint[]) AS found (id, group_id) WHERE route.id = found.id""",
            [[one.waiting.id for one in found], [group_ids[one.group] for one in found]],
        )
        await connection.execute(
            """UPDATE delivery_queue_entry AS entry SET lane_id = move.target_id
               FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS move (domain_route_id, lane_id, target_id)
               WHERE entry.domain_route_id = move.domain_route_id AND entry.lane_id = move.lane_id AND entry.path_id IS NULL""",
            [
                [move.domain_route_id for move in moves],
                [move.lane_id for move in moves],
                [move.target_id for move in moves],
            ],
        )
        await announce(connection, [move.target_id for move in moves])


async def group_ids_of(connection: Connection, groups: Set[Recognised | None]) -> dict[Recognised | None, int]:
    """The rows of groups; made when they are first met."""
    named = {group.key: group for group in groups if group is not None}
    # Sorted, so that two engines that meet the same new groups wait for each other in one order.
    keys = sorted(named)
    known = await _known_groups(connection, keys)
    new = [named[key] for key in keys if key not in known]
    if new:
        await connection.execute(
            """INSERT INTO delivery_providergroup (key, kind, title, limits, created_at)
               SELECT key, kind, title, '{}', now() FROM unnest(%s::text[], %s::text[], %s::text[]) AS new (key, kind, title)
               ON CONFLICT DO NOTHING""",
            [[group.key for group in new], [group.kind for group in new], [group.title for group in new]],
        )
        known |= await _known_groups(connection, [group.key for group in new])
    try:
        return {group: known[UNREACHABLE_KEY if group is None else group.key] for group in groups}
    except KeyError:
        raise LookupError("the built-in provider groups are missing: run `script/relay database migrate`") from None


async def _known_groups(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    sql = "SELECT key, id FROM delivery_providergroup WHERE key = ANY(%s)"
    return dict(await (await connection.execute(sql, [[UNREACHABLE_KEY, *keys]])).fetchall())


@dataclass(frozen=True, slots=True)
class _Move:
    """What waits for a domain in an unrouted lane goes to the lane ``target_id``."""

    domain_route_id: int
    lane_id: int
    target_id: int


async def _moves(
    connection: Connection, domains: Sequence[tuple[WaitingDomain, int]], routes: RouteTable
) -> list[_Move]:
    """What comes into a further unrouted lane meanwhile is found when its lane is looked through next."""
    sql = """SELECT DISTINCT entry.domain_route_id, lane.id, lane.pool_id, lane.tenant_id, lane.stream_id
             FROM delivery_queue_entry AS entry JOIN delivery_lane AS lane ON lane.id = entry.lane_id
             JOIN delivery_providergroup AS grp ON grp.id = lane.group_id AND grp.kind = 'unrouted'
             WHERE entry.domain_route_id = ANY(%s)"""
    rows = await (await connection.execute(sql, [[waiting.id for waiting, _ in domains]])).fetchall()
    by_id = {waiting.id: (waiting.domain, group_id) for waiting, group_id in domains}
    wanted: list[tuple[int, int, tuple[Sender, int]]] = []
    for route_id, lane_id, pool_id, tenant_id, stream_id in rows:
        domain, group_id = by_id[route_id]
        route = routes.match(tenant_id, domain)
        wanted.append(
            (route_id, lane_id, (Sender(pool_id, tenant_id, stream_id), route.group_id if route else group_id))
        )
    lanes = await lanes_of(connection, {place for _, _, place in wanted})
    return [_Move(route_id, lane_id, lanes[place]) for route_id, lane_id, place in wanted]


async def lane_in_group(connection: Connection, *, lane_id: int, group_id: int, pinned_to: UUID | None = None) -> int:
    """The lane of the same pool, tenant and stream in another group, or pinned to a source address."""
    row = await (
        await connection.execute("SELECT pool_id, tenant_id, stream_id FROM delivery_lane WHERE id = %s", [lane_id])
    ).fetchone()
    if row is None:
        raise LookupError(f"lane {lane_id} is gone")
    return await lane_of(connection, Sender(*row), group_id, pinned_to=pinned_to)
