"""What acceptance asks about tenants and domains, remembered for a few seconds.

Nothing here is older than ``REMEMBERED``: a domain that was just verified or lost is known everywhere within that time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from delivery import schedules
from delivery.models.source import DEFAULT_POOL

REMEMBERED = timedelta(seconds=2)
_MOST_ENTRIES = 50_000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class KnownDomain:
    """A verified sending domain."""

    id: UUID
    name: str
    tenant_id: UUID
    state: str
    covers_subdomains: bool
    keeps_reverse_path: bool = False


@dataclass(frozen=True, slots=True)
class KnownStream:
    id: UUID
    kind: str
    lifetime_s: int
    pool_id: UUID | None = None


class Directory:
    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._remembered: dict[Hashable, tuple[float, Any]] = {}

    async def domain_of(self, tenant_id: UUID, name: str) -> KnownDomain | None:
        """The tenant's verified domain that covers ``name``.

        The nearest claim counts: a subdomain that somebody verified for himself is not covered by its parent any more.
        """
        for claim in await self._remember(("claims", name), lambda: self._claims(name)):
            if claim.name == name or claim.covers_subdomains or claim.tenant_id != tenant_id:
                return claim if claim.tenant_id == tenant_id and claim.state == "verified" else None
        return None

    async def has_verified_domain(self, tenant_id: UUID) -> bool:
        sql = "SELECT EXISTS (SELECT 1 FROM delivery_sendingdomain WHERE tenant_id = %s AND state = 'verified')"
        return bool(await self._remember(("any domain", tenant_id), lambda: self._value(sql, tenant_id)))

    async def confirmed_members(self, tenant_id: UUID) -> frozenset[str]:
        """Addresses of the tenant's members that were confirmed, in lower case."""
        sql = """SELECT coalesce(array_agg(lower(u.email)), '{}') FROM accounts_membership m
                 JOIN accounts_user u ON u.id = m.user_id
                 WHERE m.tenant_id = %s AND u.is_active AND u.email_confirmed_at IS NOT NULL"""
        found = await self._remember(("members", tenant_id), lambda: self._value(sql, tenant_id))
        return frozenset(found)

    async def refuses_suppressed(self, tenant_id: UUID) -> bool:
        sql = "SELECT refuses_suppressed FROM accounts_tenant WHERE id = %s"
        return bool(await self._remember(("refuses suppressed", tenant_id), lambda: self._value(sql, tenant_id)))

    async def content_key(self, tenant_id: UUID) -> tuple[UUID, bytes] | None:
        """The key that seals the tenant's content now, itself sealed."""
        return await self._remember(("content key", tenant_id), lambda: self._content_key(tenant_id))

    async def onboarding_domain(self) -> KnownDomain | None:
        name = settings.ONBOARDING_DOMAIN
        claims = await self._remember(("claims", name), lambda: self._claims(name))
        return next((claim for claim in claims if claim.name == name and claim.state == "verified"), None)

    async def stream(self, stream_id: UUID) -> KnownStream:
        return await self._remember(("stream", stream_id), lambda: self._stream(stream_id))

    async def stream_named(self, tenant_id: UUID, name: str) -> KnownStream | None:
        sql = "SELECT id FROM delivery_stream WHERE tenant_id = %s AND name = %s"
        stream_id = await self._remember(("stream", tenant_id, name), lambda: self._value(sql, tenant_id, name))
        return None if stream_id is None else await self.stream(stream_id)

    async def pool_named(self, tenant_id: UUID, name: str, *, instead_of: UUID | None) -> UUID | None:
        """A pool that a mail of the tenant's may choose: its own, or one that a stream of its leads to.

        Who was put into quarantine, as ``instead_of`` tells, cannot choose himself out of it.
        """
        sql = """SELECT pool.id FROM delivery_sourcepool AS pool
                 WHERE pool.name = %s
                   AND (pool.tenant_id = %s OR pool.tenant_id IS NULL AND EXISTS (
                        SELECT FROM delivery_stream AS stream WHERE stream.tenant_id = %s
                        AND (stream.pool_id = pool.id OR stream.pool_id IS NULL AND pool.name = %s)))
                   AND NOT EXISTS (SELECT FROM delivery_sourcepool AS present
                        WHERE present.id = %s AND present.kind = 'quarantine' AND present.id <> pool.id)"""
        asked = (name, tenant_id, tenant_id, DEFAULT_POOL, instead_of)
        found: UUID | None = await self._remember(("pool", *asked), lambda: self._value(sql, *asked))
        return found

    async def _remember(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        known = self._remembered.get(key)
        if known is not None and known[0] > time.monotonic():
            answer: Answer = known[1]
            return answer
        answer = await ask()
        if len(self._remembered) >= _MOST_ENTRIES:
            self._remembered.clear()
        self._remembered[key] = (time.monotonic() + REMEMBERED.total_seconds(), answer)
        return answer

    async def _claims(self, name: str) -> list[KnownDomain]:
        labels = name.split(".")
        names = [".".join(labels[start:]) for start in range(len(labels) - 1)]
        sql = """SELECT id, name, tenant_id, state, covers_subdomains, keeps_reverse_path FROM delivery_sendingdomain
                 WHERE name = ANY(%s) AND state IN ('verified', 'lapsed')
                 ORDER BY length(name) DESC, state = 'verified' DESC"""
        async with (
            self._pool.connection() as connection,
            connection.cursor(row_factory=class_row(KnownDomain)) as cursor,
        ):
            return await (await cursor.execute(sql, [names])).fetchall()

    async def _content_key(self, tenant_id: UUID) -> tuple[UUID, bytes] | None:
        sql = "SELECT id, sealed_key FROM delivery_contentkey WHERE tenant_id = %s AND is_current"
        async with self._pool.connection() as connection:
            row = await (await connection.execute(sql, [tenant_id])).fetchone()
        return None if row is None else (row[0], bytes(row[1]))

    async def _stream(self, stream_id: UUID) -> KnownStream:
        sql = "SELECT kind, lifetime_s, pool_id FROM delivery_stream WHERE id = %s"
        async with self._pool.connection() as connection:
            row = await (await connection.execute(sql, [stream_id])).fetchone()
        if row is None:
            raise LookupError(f"stream {stream_id} is gone")
        kind, lifetime_s, pool_id = row
        schedule = schedules.of_stream(kind=kind, delays_s=None, lifetime_s=lifetime_s)
        return KnownStream(id=stream_id, kind=kind, lifetime_s=int(schedule.lifetime.total_seconds()), pool_id=pool_id)

    async def _value(self, sql: str, *arguments: Any) -> Any:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(sql, arguments)).fetchone()
        return row[0] if row else None
