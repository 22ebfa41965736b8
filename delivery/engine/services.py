"""What every conversation of an engine shares."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from accounts import sealing
from delivery.core.live_rules import NO_LIVE_RULES
from delivery.core.outcome import Outcome
from delivery.dns import Resolver, Trust
from delivery.engine import learning, rules, sources
from delivery.engine.assignments import Schedules, Signers
from delivery.engine.claimer import Claimer
from delivery.engine.committer import EngineCommitter
from delivery.engine.contents import ContentShelf
from delivery.engine.ownership import Source, WorkerIdentity
from delivery.engine.path import NotNow, OwnedPath
from delivery.engine.tallies import Tallies
from delivery.engine.unmatched import UnmatchedReplies
from delivery.queue import rates
from delivery.queue.claim import write_uses
from delivery.routing import lookup, table
from delivery.routing.sts_policies import StoredPolicies
from delivery.routing.table import RouteTable
from delivery.shaping.providers import Recognised
from delivery.transport.guard import DestinationGuard
from delivery.transport.mta_sts import PolicyFetcher, StsPolicies
from delivery.transport.timeouts import SmtpTimeouts
from delivery.transport.tls_choice import TlsChooser
from delivery.transport.tls_policy import BrokenTls

Connection = psycopg.AsyncConnection[Any]

_MOST_MOVES_REMEMBERED = 10_000
_AFTER_TROUBLE_S = 0.5


class Services:
    def __init__(self, me: WorkerIdentity, pool: AsyncConnectionPool[Any], *, ring: Callable[[], None]) -> None:
        self.me = me
        self.ring = ring
        self.pool = pool
        self.committer = EngineCommitter()
        self.contents = ContentShelf(pool)
        self.claimer = Claimer(pool, self.committer, self.contents)
        self.signers = Signers(pool)
        self.schedules = Schedules(pool)
        trust = _trust()
        self.resolver = Resolver((settings.DNS.host, settings.DNS.port) if settings.DNS else None, trust=trust)
        self.guard = DestinationGuard(settings.ALLOW_DESTINATIONS)
        self.tls = TlsChooser(
            self.resolver,
            sts=self._sts_policies() if settings.MTA_STS else None,
            uses_dane=settings.DANE == "auto" and trust is not Trust.NOBODY,
            ca_file=settings.CA_FILE or None,
        )
        self.timeouts = SmtpTimeouts.parse(settings.SMTP_TIMEOUTS)
        self.broken_tls = BrokenTls()
        self.routes = RouteTable([])
        self.rules = NO_LIVE_RULES
        self.rule_hits = rules.RuleHits()
        self.unmatched = UnmatchedReplies()
        self.tallies = Tallies()
        self.verp_key = sealing.derived_keys("verp")[0]
        self.unsubscribe_key = sealing.derived_keys("unsubscribe")[0]
        self.feedback_key = sealing.derived_keys("feedback")[0]
        # An entry that several owners died with is in hand, or may be in a moment.
        self.has_grave_suspect = False
        self._moved: OrderedDict[UUID, None] = OrderedDict()
        self._group_ids: dict[str, int] = {}
        self._lanes: dict[tuple[int, int, UUID | None], int] = {}

    def _sts_policies(self) -> StsPolicies:
        fetcher = PolicyFetcher(self.resolver, self.guard, port=settings.MTA_STS_PORT, ca_file=settings.CA_FILE or None)
        return StsPolicies(self.resolver, fetcher, StoredPolicies(self.pool))

    async def refresh_rates(self, connection: Connection) -> None:
        self.claimer.rates = await rates.read_rates(connection)

    async def refresh_rules(self, connection: Connection) -> None:
        """What operators changed counts from the next reply on."""
        self.rules = await rules.refreshed(connection, self.rules)

    async def source_is_unusable(self, source: Source, reason: str) -> None:
        async with self.pool.connection() as connection:
            await sources.mark_unusable(connection, source.id, reason=reason)

    async def learn(self, path: OwnedPath, outcome: Outcome, *, lane_id: int) -> None:
        self.tallies.note(path.row.id, outcome)
        await learning.learn(self.pool, path, outcome, lane_id=lane_id)

    async def save_learnt(self, connection: Connection, path: OwnedPath) -> None:
        await learning.save(connection, path)

    async def write_openings(self, path_id: int, count: int) -> None:
        """So many connections are about to be opened. Raises NotNow where that cannot be written down at present."""
        try:
            async with self.pool.connection() as connection:
                await write_uses(connection, [(path_id, 0, count)])
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise NotNow(_AFTER_TROUBLE_S) from error

    async def refresh_routes(self, connection: Connection) -> None:
        self.routes = await table.read(connection)

    def may_move(self, recipient_id: UUID) -> bool:
        """Once: where the DNS names other hosts at every look, mail would go from lane to lane and never out."""
        if recipient_id in self._moved:
            del self._moved[recipient_id]
            return False
        self._moved[recipient_id] = None
        if len(self._moved) > _MOST_MOVES_REMEMBERED:
            self._moved.popitem(last=False)
        return True

    async def group_id_of(self, group: Recognised) -> int:
        if group.key not in self._group_ids:
            async with self.pool.connection() as connection:
                found = await lookup.group_ids_of(connection, {group})
                self._group_ids[group.key] = found[group]
        return self._group_ids[group.key]

    async def lane_in_group(self, lane_id: int, group_id: int, *, pinned_to: UUID | None = None) -> int:
        key = (lane_id, group_id, pinned_to)
        if key not in self._lanes:
            async with self.pool.connection() as connection:
                self._lanes[key] = await lookup.lane_in_group(
                    connection, lane_id=lane_id, group_id=group_id, pinned_to=pinned_to
                )
        return self._lanes[key]

    async def remember_group(self, domain_route_id: int, group_id: int) -> None:
        """A domain's mail goes to other hosts than it used to; new mail is put there from the start."""
        if self.routes.of_group(group_id) is None:
            async with self.pool.connection() as connection:
                await connection.execute(
                    "UPDATE delivery_domainroute SET group_id = %s, resolved_at = now() WHERE id = %s",
                    [group_id, domain_route_id],
                )


def _trust() -> Trust:
    """Whose word on DNSSEC counts: see RELAY_DNS_VALIDATES and, for tests, RELAY_DNS_TRUST_AD."""
    if settings.DNS_TRUST_AD:
        return Trust.ANYBODY
    return Trust.LOOPBACK if settings.DNS_VALIDATES else Trust.NOBODY
