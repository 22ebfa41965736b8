"""Putting entries where they wait: which lane and which domain route, found once and remembered.

A lane belongs to one provider group. Recipients whose domain has not been looked up yet wait in the unrouted lane of their
pool, tenant and stream until routing moves them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from delivery.queue import wake
from delivery.routing import table

_MOST_REMEMBERED = 100_000
_ROUTES_REMEMBERED_S = 2.0
# A domain may move to other hosts; until we hear of it, each of its mails takes a turn in the wrong lane.
_DOMAINS_REMEMBERED_S = 60.0

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose mail it is and from which pool it leaves: with the provider group, the key of a lane."""

    pool_id: UUID
    tenant_id: UUID
    stream_id: UUID


@dataclass(frozen=True, slots=True)
class Place:
    lane_id: int
    domain_route_id: int
    group_id: int


@dataclass(frozen=True, slots=True)
class _DomainRoute:
    id: int
    group_id: int
    until: float


class Placement:
    """Finds places; one per committer, used by one task at a time."""

    def __init__(self) -> None:
        self._unrouted_group_id: int | None = None
        self._domains: dict[str, _DomainRoute] = {}
        self._lanes: dict[tuple[Sender, int], int] = {}
        self._routes = table.RouteTable([])
        self._routes_until = 0.0

    async def places(
        self, connection: Connection, wanted: Iterable[tuple[Sender, str]]
    ) -> dict[tuple[Sender, str], Place]:
        """The place of each (sender, recipient domain). Makes missing rows in short statements of their own."""
        wanted = set(wanted)
        await self._refresh_routes(connection)
        await self._learn_domains(connection, {domain for _, domain in wanted})
        groups = {(sender, domain): self._group_of(sender, domain) for sender, domain in wanted}
        await self._learn_lanes(connection, {(sender, groups[sender, domain]) for sender, domain in wanted})
        return {
            key: Place(
                lane_id=self._lanes[key[0], group_id], domain_route_id=self._domains[key[1]].id, group_id=group_id
            )
            for key, group_id in groups.items()
        }

    def _group_of(self, sender: Sender, domain: str) -> int:
        route = self._routes.match(sender.tenant_id, domain)
        return route.group_id if route is not None else self._domains[domain].group_id

    async def _refresh_routes(self, connection: Connection) -> None:
        if time.monotonic() >= self._routes_until:
            self._routes = await table.read(connection, with_passwords=False)
            self._routes_until = time.monotonic() + _ROUTES_REMEMBERED_S

    async def _learn_domains(self, connection: Connection, domains: set[str]) -> None:
        if self._unrouted_group_id is None:
            self._unrouted_group_id = await unrouted_group(connection)
        # What is not routed yet is asked again each time: routing may have finished meanwhile.
        now = time.monotonic()
        unknown = sorted(
            domain
            for domain in domains
            if (known := self._domains.get(domain)) is None
            or known.group_id == self._unrouted_group_id
            or known.until < now
        )
        if not unknown:
            return
        if len(self._domains) > _MOST_REMEMBERED:
            self._domains = {domain: known for domain, known in self._domains.items() if domain in domains}
        select = "SELECT domain, id, group_id FROM delivery_domainroute WHERE domain = ANY(%s)"
        rows = await (await connection.execute(select, [unknown])).fetchall()
        if len(rows) < len(unknown):
            # Sorted, so that two committers that meet the same new domains wait for each other in one order.
            await connection.execute(
                """INSERT INTO delivery_domainroute (domain, group_id, mx_hosts)
                   SELECT domain, %s, '{}' FROM unnest(%s::text[]) AS domain ORDER BY domain
                   ON CONFLICT (domain) DO NOTHING""",
                [self._unrouted_group_id, unknown],
            )
            rows = await (await connection.execute(select, [unknown])).fetchall()
        until = now + _DOMAINS_REMEMBERED_S
        self._domains.update({domain: _DomainRoute(id, group_id, until) for domain, id, group_id in rows})

    async def _learn_lanes(self, connection: Connection, wanted: set[tuple[Sender, int]]) -> None:
        if len(self._lanes) > _MOST_REMEMBERED:
            self._lanes.clear()
        unknown = wanted - self._lanes.keys()
        if unknown:
            self._lanes |= await lanes_of(connection, unknown)


async def lane_of(connection: Connection, sender: Sender, group_id: int, *, pinned_to: UUID | None = None) -> int:
    """The lane's id; made when it is first needed."""
    key = [sender.pool_id, group_id, sender.tenant_id, sender.stream_id, pinned_to]
    select = """SELECT id FROM delivery_lane WHERE pool_id = %s AND group_id = %s AND tenant_id = %s AND stream_id = %s
                AND pinned_source_id IS NOT DISTINCT FROM %s::uuid"""
    row = await (await connection.execute(select, key)).fetchone()
    if row is None:
        await connection.execute(
            """INSERT INTO delivery_lane (pool_id, group_id, tenant_id, stream_id, pinned_source_id, suspended_reason)
               VALUES (%s, %s, %s, %s, %s, '') ON CONFLICT DO NOTHING""",
            key,
        )
        row = await (await connection.execute(select, key)).fetchone()
        if row is None:
            raise LookupError("a lane vanished while it was made")
    lane_id: int = row[0]
    return lane_id


async def lanes_of(connection: Connection, wanted: Set[tuple[Sender, int]]) -> dict[tuple[Sender, int], int]:
    """The ids of many lanes that are pinned to no address, by sender and provider group; made when they are first needed."""
    # Sorted, so that two that meet the same new lanes wait for each other in one order.
    ordered = sorted(wanted, key=str)
    columns = [
        [sender.pool_id for sender, _ in ordered],
        [group_id for _, group_id in ordered],
        [sender.tenant_id for sender, _ in ordered],
        [sender.stream_id for sender, _ in ordered],
    ]
    asked = (
        "unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::uuid[]) AS asked (pool_id, group_id, tenant_id, stream_id)"
    )
    select = f"""SELECT pool_id, tenant_id, stream_id, group_id, lane.id FROM delivery_lane AS lane
                 JOIN {asked} USING (pool_id, group_id, tenant_id, stream_id) WHERE pinned_source_id IS NULL"""
    insert = f"""INSERT INTO delivery_lane (pool_id, group_id, tenant_id, stream_id, suspended_reason)
                 SELECT pool_id, group_id, tenant_id, stream_id, '' FROM {asked} ON CONFLICT DO NOTHING"""
    rows = await (await connection.execute(select, columns)).fetchall()
    if len(rows) < len(ordered):
        await connection.execute(insert, columns)
        rows = await (await connection.execute(select, columns)).fetchall()
    found = {(Sender(pool, tenant, stream), group): lane_id for pool, tenant, stream, group, lane_id in rows}
    if found.keys() != wanted:
        raise LookupError("a lane vanished while it was made")
    return found


async def unrouted_group(connection: Connection) -> int:
    row = await (await connection.execute("SELECT id FROM delivery_providergroup WHERE kind = 'unrouted'")).fetchone()
    if row is None:
        raise LookupError("the built-in provider groups are missing: run `script/relay database migrate`")
    group_id: int = row[0]
    return group_id


# The row lock orders it against a claim that found the lane empty: whichever comes second sees the other's work.
MARK_DUE = """
UPDATE delivery_lane SET next_due_at = LEAST(next_due_at, now())
FROM (SELECT id FROM delivery_lane WHERE id = ANY(%(lanes)s::bigint[]) ORDER BY id FOR UPDATE) AS mine
WHERE delivery_lane.id = mine.id
"""


async def mark_due(connection: Connection, lane_ids: Iterable[int]) -> None:
    """Something in these lanes is due now. The last statement of a transaction that inserts entries."""
    await connection.execute(MARK_DUE, {"lanes": sorted(set(lane_ids))})


async def announce(connection: Connection, lane_ids: Iterable[int]) -> None:
    """``mark_due``, and ring for it once that is committed."""
    await mark_due(connection, lane_ids)
    await connection.execute(wake.RING, [wake.LANES])
