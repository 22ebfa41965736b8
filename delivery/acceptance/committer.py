"""Group commit: what waits is stored in one transaction, so that one disk flush serves many messages.

Nobody is answered before the commit returned. When a batch fails, its members are tried alone once and only the culprit
fails; a tenant over its quota is the culprit of its own messages. When the connection breaks while the commit is under way
nobody can say whether it happened, so everybody in the batch gets an error: the client tries again and the worst is a second
copy (unless the client gave a key: then it is told what the first one became). When it breaks before, as an old connection
does after the database was restarted, the batch is stored on a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from accounts import database
from delivery.acceptance import doorbell, once, quota, rows
from delivery.acceptance.message import NewMessage
from delivery.core import replies
from delivery.core.replies import Rejection
from delivery.queue.enqueue import Placement

log = structlog.get_logger(__name__)

MOST_MESSAGES = 200
# A commit costs about the same for one message as for ten, so who is ready waits this long for those who began a moment ago.
_WAITS_FOR_COMPANY_S = 0.003
_COMES_SOON_S = 0.1
MOST_OCTETS = 4 * 1024 * 1024

Connection = psycopg.AsyncConnection[Any]


class StoreClosed(Exception):
    """The process ends: nothing is committed any more."""


class UnsafeDatabase(psycopg.OperationalError):
    """The settings of the database are such that what it has committed could be lost."""


@dataclass(slots=True)
class _Waiting:
    message: NewMessage
    done: asyncio.Future[None]


class Committer:
    def __init__(self, *, insist_on_durability: Callable[[Connection], Awaitable[None]]) -> None:
        """``insist_on_durability`` raises UnsafeDatabase. Each new connection is asked: a server may come back changed."""
        self._insist_on_durability = insist_on_durability
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._expected: dict[int, float] = {}  # since when, the oldest first
        self._connection: Connection | None = None
        self._placement = Placement()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._may_be_committed = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="committer")

    async def stop(self, *, drain_s: float) -> None:
        self._is_stopping = True
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=drain_s)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._waiting:
            self._fail(list(self._waiting), StoreClosed())
            self._waiting.clear()
        await self._disconnect()

    def expect(self, client: int) -> None:
        """This client begins to hand a message over. Who waits already will wait for it a moment."""
        now = asyncio.get_running_loop().time()
        self._expected.pop(client, None)
        self._forget_the_slow(now)
        self._expected[client] = now

    def expect_no_more(self, client: int) -> None:
        """It hands its message over now, or never."""
        self._expected.pop(client, None)

    async def _wait_for_company(self) -> None:
        """Until everybody who began a moment ago is here or has had time enough: a commit costs the same for one as for ten."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAITS_FOR_COMPANY_S
        self._forget_the_slow(loop.time())
        while self._expected and len(self._waiting) < MOST_MESSAGES:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()
            except TimeoutError:
                break
        self._arrived.set()

    def _forget_the_slow(self, now: float) -> None:
        """Who has needed long for its message will need longer: nobody waits for that."""
        while self._expected:
            client, since = next(iter(self._expected.items()))
            if now - since <= _COMES_SOON_S:
                return
            del self._expected[client]

    async def commit(self, message: NewMessage) -> None:
        """Return when it is committed; raises Rejection, psycopg.Error or StoreClosed."""
        if self._is_stopping:
            raise StoreClosed
        waiting = _Waiting(message, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        # A session that goes away while it waits does not take its message back: it may already be in the batch.
        await asyncio.shield(waiting.done)

    async def _run(self) -> None:
        while not (self._is_stopping and not self._waiting):
            await self._arrived.wait()
            await self._wait_for_company()
            batch = self._take_batch()
            if not batch:
                self._arrived.clear()
                if self._waiting or self._is_stopping:
                    self._arrived.set()
                continue
            try:
                await self._commit_or_split(batch)
            except asyncio.CancelledError:
                self._fail(batch, StoreClosed())
                raise

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        octets = 0
        while self._waiting and len(batch) < MOST_MESSAGES:
            octets += self._waiting[0].message.stored_octets
            if batch and octets > MOST_OCTETS:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _commit_or_split(self, batch: list[_Waiting]) -> None:
        try:
            await self._store([waiting.message for waiting in batch])
        except quota.Exceeded as exceeded:
            is_guilty = [quota.is_charged_to(waiting.message.principal, exceeded.owner_id) for waiting in batch]
            guilty = [waiting for waiting, guilt in zip(batch, is_guilty, strict=True) if guilt]
            rest = [waiting for waiting, guilt in zip(batch, is_guilty, strict=True) if not guilt]
            if rest:
                await self._commit_or_split(rest)
            await self._one_by_one(guilty)
        except once.Repeated as repeated:
            is_repeated = [waiting.message.id in repeated.message_ids for waiting in batch]
            rest = [waiting for waiting, again in zip(batch, is_repeated, strict=True) if not again]
            # The first of a key may be among the rest: whoever repeats it is told once that one is committed.
            if rest:
                await self._commit_or_split(rest)
            again = [waiting for waiting, again in zip(batch, is_repeated, strict=True) if again]
            self._fail(again, once.AlreadyAccepted())
        except Exception as error:  # noqa: BLE001 - the edge: whatever it was, the culprit must be found and told
            if await self._has_lost_connection(error) or len(batch) == 1:
                self._fail(batch, error)
            else:
                await self._one_by_one(batch)
        else:
            self._succeed(batch)

    async def _one_by_one(self, batch: list[_Waiting]) -> None:
        for position, waiting in enumerate(batch):
            try:
                await self._store([waiting.message])
            except quota.Exceeded as exceeded:
                # Its detail says how long it lasts.
                self._fail([waiting], Rejection(replies.SENDING_TOO_FAST, reason="quota", detail=exceeded.period))
            except once.Repeated:
                self._fail([waiting], once.AlreadyAccepted())
            except Exception as error:  # noqa: BLE001 - as above
                if await self._has_lost_connection(error):
                    self._fail(batch[position:], error)
                    return
                self._fail([waiting], error)
            else:
                self._succeed([waiting])

    def _succeed(self, batch: list[_Waiting]) -> None:
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(None)
        doorbell.ring()

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        if not isinstance(error, Rejection | once.AlreadyAccepted):
            ids = [str(waiting.message.id) for waiting in batch]
            log.error("commit_failed", messages=ids[:20], count=len(ids), error=str(error))
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_exception(error)

    async def _has_lost_connection(self, error: Exception) -> bool:
        """Then it was nobody's fault. A statement that failed leaves the connection as good as it was."""
        if isinstance(error, psycopg.Error | OSError) and not self._is_connected:
            await self._disconnect()
            return True
        return False

    @property
    def _is_connected(self) -> bool:
        return self._connection is not None and not self._connection.closed and not self._connection.broken

    async def _connect(self) -> Connection:
        # What follows is a single statement: sent into a connection that is dead, nobody could say what became of it.
        if self._connection is None or not self._is_connected or not await database.is_alive(self._connection):
            await self._disconnect()
            self._placement = Placement()
            connection = await database.connect(direct=False)
            try:
                await self._insist_on_durability(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()

    async def _store(self, messages: list[NewMessage]) -> None:
        self._may_be_committed = False
        was_connected = self._is_connected
        try:
            await self._store_once(messages)
        except (psycopg.Error, OSError):
            if not was_connected or self._is_connected or self._may_be_committed:
                raise
            await self._store_once(messages)

    async def _store_once(self, messages: list[NewMessage]) -> None:
        connection = await self._connect()
        queued = [message for message in messages if not message.principal.is_test]
        places = await self._placement.places(
            connection, ((rows.sender_of(message), r.domain) for message in queued for r in message.recipients)
        )
        # Without keys it is one statement: sent, stored, flushed and answered in one round trip.
        async with connection.transaction() if once.is_asked(messages) else nullcontext():
            await once.claim(connection, messages)
            self._may_be_committed = True
            await rows.store(connection, messages, places)
