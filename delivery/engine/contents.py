"""The content of the messages in flight: loaded once per message, within a budget of memory.

Small messages are fetched a batch at a time. A large one waits until the others leave room for it, so that a thousand large
mails claimed at once cannot fill the memory; one alone is always let in.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
import zstandard
from psycopg_pool import AsyncConnectionPool

from delivery import content_reading
from delivery.core.content import ContentError
from delivery.transport.rendering import LoadedContent

log = structlog.get_logger(__name__)

BUDGET_OCTETS = 96 * 1024 * 1024
PREFETCHED_OCTETS = 64 * 1024
_KEPT_MESSAGES = 200


class ContentMissing(Exception):
    """The content of an open recipient is gone or cannot be read: a fault of ours, never the peer's."""


@dataclass(frozen=True, slots=True)
class Wanted:
    message_id: UUID
    retention_days: int
    size_bytes: int

    @property
    def is_large(self) -> bool:
        return self.size_bytes > PREFETCHED_OCTETS


@dataclass(slots=True)
class _Held:
    """``loaded`` is None until it is here. ``octets`` counts against the budget from when it was let in."""

    loaded: LoadedContent | None = None
    users: int = 0
    octets: int = 0
    arrival: asyncio.Task[None] | None = None


class ContentShelf:
    def __init__(self, pool: AsyncConnectionPool[Any], *, budget_octets: int = BUDGET_OCTETS) -> None:
        self._pool = pool
        self._budget = budget_octets
        self._held: OrderedDict[UUID, _Held] = OrderedDict()
        self._left = asyncio.Event()
        self.octets = 0

    async def prefetch(self, wanted: Iterable[Wanted]) -> None:
        """Fetch small contents that are not here yet, in one query."""
        missing = {one.message_id: one for one in wanted if not one.is_large and one.message_id not in self._held}
        # What an object store does not give now is asked for again by whoever needs it, and puts off that attempt alone.
        found = await self._load(list(missing.values()), insists=False) if missing else {}
        for message_id, loaded in found.items():
            if message_id not in self._held:
                self._held[message_id] = held = _Held(loaded)
                self._count(held, len(loaded.content))

    @asynccontextmanager
    async def hold(self, wanted: Wanted) -> AsyncIterator[LoadedContent]:
        """The content, kept while the block runs. Raises ContentMissing, and StoreTrouble."""
        held = self._held.get(wanted.message_id)
        if held is None:
            self._held[wanted.message_id] = held = _Held()
            held.arrival = asyncio.create_task(self._let_in(wanted, held), name=f"content {wanted.message_id}")
        held.users += 1
        try:
            if held.loaded is None and held.arrival is not None:
                # Shielded: the recipients of a message share it, and one that gives up does not take it from the others.
                await asyncio.shield(held.arrival)
            if held.loaded is None:
                raise ContentMissing(str(wanted.message_id))
            self._held.move_to_end(wanted.message_id)
            yield held.loaded
        finally:
            held.users -= 1
            self._recount(held)
            self._tidy()
            self._left.set()

    async def _let_in(self, wanted: Wanted, held: _Held) -> None:
        try:
            while wanted.is_large and not self._has_room_for(wanted.size_bytes):
                self._left.clear()
                await self._left.wait()
            self._count(held, wanted.size_bytes)
            held.loaded = (await self._load([wanted], insists=True)).get(wanted.message_id)
        finally:
            if held.loaded is None:
                self._forget(wanted.message_id)

    def _has_room_for(self, octets: int) -> bool:
        self._tidy(octets)
        is_alone = not any(held.users and held.octets for held in self._held.values())
        return is_alone or self.octets + octets <= self._budget

    def _count(self, held: _Held, octets: int) -> None:
        held.octets = octets
        self.octets += octets

    def _recount(self, held: _Held) -> None:
        """A copy that was converted for a host stays with the content, and counts."""
        if held.loaded is not None and held.loaded.octets > held.octets:
            self.octets -= held.octets
            self._count(held, held.loaded.octets)

    def _forget(self, message_id: UUID) -> None:
        self.octets -= self._held.pop(message_id).octets

    def _tidy(self, needed: int = 0) -> None:
        """Forget what nobody uses, the oldest first, beyond what is worth keeping."""
        if self._is_tidy(needed):
            return
        for message_id, held in list(self._held.items()):
            if held.users == 0 and held.loaded is not None:
                self._forget(message_id)
                if self._is_tidy(needed):
                    return

    def _is_tidy(self, needed: int) -> bool:
        return len(self._held) <= _KEPT_MESSAGES and self.octets + needed <= self._budget // 2

    async def _load(self, wanted: list[Wanted], *, insists: bool) -> dict[UUID, LoadedContent]:
        ids = [one.message_id for one in wanted]
        classes = sorted({one.retention_days for one in wanted})
        sql = """SELECT message_id, retention_days, compressed FROM delivery_content
                 WHERE message_id = ANY(%s) AND message_id BETWEEN %s AND %s AND retention_days = ANY(%s)"""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql, [ids, min(ids), max(ids), classes], binary=True)
            rows = await cursor.fetchall()
        found: dict[UUID, LoadedContent] = {}
        for message_id, compressed in (await content_reading.frames_of(self._pool, rows, insists=insists)).items():
            try:
                found[message_id] = LoadedContent(await _decompress(compressed, is_large=wanted[0].is_large))
            except (zstandard.ZstdError, ContentError) as error:
                log.error("content_unreadable", message=str(message_id), error=str(error))
        return found


async def _decompress(compressed: bytes, *, is_large: bool) -> bytes:
    decompressor = zstandard.ZstdDecompressor()
    if not is_large:
        return decompressor.decompress(compressed)
    return await asyncio.to_thread(decompressor.decompress, compressed)
