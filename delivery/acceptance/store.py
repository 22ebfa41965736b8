"""Where accepted messages go: the look-ups of acceptance and its group commit, behind one door for gate, API and web.

``is_ready`` is false while the database is away or its settings would let a commit be lost (design: the promise, 1);
whoever takes mail then answers 4yz. The store finds its way back by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from accounts import clock, database
from accounts.authentication import Principal
from delivery.acceptance import content, rejections
from delivery.acceptance.committer import Committer, UnsafeDatabase
from delivery.acceptance.directory import Directory, KnownDomain, KnownStream
from delivery.acceptance.message import NewMessage, NewRecipient
from delivery.acceptance.once import AlreadyAccepted
from delivery.core.replies import Rejection
from delivery.models.source import DEFAULT_POOL

__all__ = ["Durability", "MessageStore", "NewMessage", "NewRecipient"]

log = structlog.get_logger(__name__)

_SAFE_SYNCHRONOUS_COMMIT = frozenset({"on", "remote_write", "remote_apply"})
_CHECKED_EVERY_S = 2.0
# A database that hangs is as good as one that is away.
_ANSWERED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Durability:
    """The settings on which a promise to keep mail rests."""

    fsync: str
    synchronous_commit: str
    full_page_writes: str

    @property
    def is_safe(self) -> bool:
        return (
            self.fsync == "on" and self.full_page_writes == "on" and self.synchronous_commit in _SAFE_SYNCHRONOUS_COMMIT
        )


class MessageStore:
    """One per process and event loop."""

    def __init__(self, *, name: str, lookups: int = 4) -> None:
        self.pool: AsyncConnectionPool[Any] = database.pool(max_size=lookups, name=name)
        self.directory = Directory(self.pool)
        self.default_pool_id = UUID(int=0)
        self.is_ready = False
        self._committer = Committer(insist_on_durability=self.insist_on_durability)
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start; the database need not be there yet."""
        await self.pool.open(wait=False)
        self._committer.start()
        await self._look()
        self._watch = asyncio.create_task(self._keep_looking(), name="store-watch")

    async def close(self, *, drain_s: float = 10) -> None:
        """Commit what was handed in, then stop."""
        if self._watch is not None:
            self._watch.cancel()
        await self._committer.stop(drain_s=drain_s)
        await self.pool.close(timeout=2)

    async def commit(self, message: NewMessage) -> None:
        """Return once the message is committed. Raises Rejection (over quota) or, in trouble, anything else."""
        placed = await content.place(message, directory=self.directory)
        try:
            await self._committer.commit(placed)
        except (Rejection, AlreadyAccepted):
            # Anything else may have happened after the commit: then the row is there and needs its content.
            await content.take_back(placed)
            raise

    def expect(self, client: int) -> None:
        """A client, known by any number of its own, begins to hand a message over; ``expect_no_more`` when it has."""
        self._committer.expect(client)

    def expect_no_more(self, client: int) -> None:
        self._committer.expect_no_more(client)

    async def insist_on_durability(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Raises UnsafeDatabase where a commit on this connection would be no promise."""
        durability = await read_durability(connection)
        if not durability.is_safe:
            raise UnsafeDatabase(str(durability))

    async def durability(self) -> Durability:
        async with self.pool.connection(timeout=3) as connection:
            return await read_durability(connection)

    async def domain_of(self, tenant_id: UUID, name: str) -> KnownDomain | None:
        return await self.directory.domain_of(tenant_id, name)

    async def has_verified_domain(self, tenant_id: UUID) -> bool:
        return await self.directory.has_verified_domain(tenant_id)

    async def confirmed_members(self, tenant_id: UUID) -> frozenset[str]:
        return await self.directory.confirmed_members(tenant_id)

    async def onboarding_domain(self) -> KnownDomain | None:
        return await self.directory.onboarding_domain()

    async def stream(self, stream_id: UUID) -> KnownStream:
        return await self.directory.stream(stream_id)

    async def stream_named(self, tenant_id: UUID, name: str) -> KnownStream | None:
        return await self.directory.stream_named(tenant_id, name)

    async def went_to(self, tenant_id: UUID, *, message_ids: Sequence[UUID], addresses: Sequence[str]) -> bool:
        """Whether any of these messages of the tenant's had any of these recipients."""
        sql = """SELECT EXISTS (SELECT 1 FROM delivery_recipient
                                WHERE message_id = ANY(%s) AND tenant_id = %s AND address = ANY(%s)
                                  AND id BETWEEN %s AND %s)"""
        # Recipients have the time of their message in their keys: only those days are looked at.
        first = UUID(int=min(message_ids).int >> 80 << 80)
        last = UUID(int=max(message_ids).int | (1 << 80) - 1)
        arguments = [list(message_ids), tenant_id, list(addresses), first, last]
        async with self.pool.connection() as connection:
            row = await (await connection.execute(sql, arguments)).fetchone()
        return bool(row and row[0])

    async def times_seen(
        self, tenant_id: UUID, message_id: UUID, *, header_message_id: str, addresses: Sequence[str], most: int
    ) -> int:
        """How often mail with the Message-ID that was made for ``message_id`` went to one of these; at most ``most``.

        0 where that is no message of the tenant's. Only the days since then are looked at.
        """
        sql = """SELECT count(*) FROM (
                     SELECT 1 FROM delivery_message AS m JOIN delivery_recipient AS r ON r.message_id = m.id
                     WHERE m.tenant_id = %(tenant)s AND m.header_message_id = %(field)s AND m.id >= %(id)s
                       AND r.tenant_id = %(tenant)s AND r.address = ANY(%(addresses)s) AND r.id >= %(first)s
                       AND EXISTS (SELECT 1 FROM delivery_message WHERE id = %(id)s AND tenant_id = %(tenant)s)
                     LIMIT %(most)s) AS seen"""
        values = {
            "tenant": tenant_id,
            "field": header_message_id,
            "id": message_id,
            "first": UUID(int=message_id.int >> 80 << 80),
            "addresses": list(addresses),
            "most": most,
        }
        async with self.pool.connection() as connection:
            row = await (await connection.execute(sql, values)).fetchone()
        return int(row[0]) if row else 0

    async def pool_named(self, tenant_id: UUID, name: str, *, instead_of: UUID | None) -> UUID | None:
        return await self.directory.pool_named(tenant_id, name, instead_of=instead_of)

    def is_onboarding_domain(self, domain: str) -> bool:
        return domain == settings.ONBOARDING_DOMAIN

    async def log_rejection(
        self,
        rejection: Rejection,
        *,
        principal: Principal,
        peer_address: str | None,
        author_domain: str = "",
        reference: str = "",
    ) -> None:
        """Tell the tenant why a submission failed; never raises, since the refusal itself matters more."""
        try:
            async with self.pool.connection(timeout=1) as connection:
                await rejections.log(
                    connection,
                    rejection,
                    principal=principal,
                    peer_address=peer_address,
                    author_domain=author_domain,
                    reference=reference,
                )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("rejection_not_logged", tenant=principal.tenant_slug, error=str(error))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_CHECKED_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN_S), self.pool.connection(timeout=3) as connection:
                durability = await read_durability(connection)
                self.default_pool_id = await _default_pool(connection)
                await clock.learn(connection)
        except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
            self._become(False, why=f"database: {error}")
            return
        self._become(durability.is_safe, why=f"unsafe database settings: {durability}")

    def _become(self, is_ready: bool, *, why: str) -> None:
        if is_ready and not self.is_ready:
            log.info("store_ready")
        elif self.is_ready and not is_ready:
            log.error("store_not_ready", why=why)
        self.is_ready = is_ready


async def read_durability(connection: psycopg.AsyncConnection[Any]) -> Durability:
    sql = """SELECT current_setting('fsync'), current_setting('synchronous_commit'),
                    current_setting('full_page_writes')"""
    row = await (await connection.execute(sql)).fetchone()
    assert row is not None
    return Durability(*row)


async def _default_pool(connection: psycopg.AsyncConnection[Any]) -> UUID:
    sql = "SELECT id FROM delivery_sourcepool WHERE name = %s"
    row = await (await connection.execute(sql, [DEFAULT_POOL])).fetchone()
    if row is None:
        raise LookupError("the default pool is missing: run `script/relay database migrate`")
    pool_id: UUID = row[0]
    return pool_id
