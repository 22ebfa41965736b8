"""Group commit: what waits is stored in one transaction, so that one disk flush serves many messages.

Nobody is answered before the commit returned. When a batch fails, its members are tried alone once and only the culprit
fails; a tenant over its quota is the culprit of its own messages. When the connection breaks while the commit is under way
nobody can say whether it happened, so everybody in the batch gets an error: the client tries again and the worst is a second
copy (unless the client gave a key: then it is told what the first one became). When it breaks before, as an old connection
does after the database was restarted, the batch is stored on a new one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.types.json import Jsonb

from accounts import database
from accounts.identifiers import uuid7_at
from delivery import suppression_list
from delivery.acceptance import doorbell, once, quota
from delivery.acceptance.message import NewMessage, NewRecipient
from delivery.core import replies
from delivery.core.mailbox import NULL_REVERSE_PATH
from delivery.core.notices import Notice
from delivery.core.replies import Rejection
from delivery.core.states import EventKind, RecipientState
from delivery.models.owed import OwedAction
from delivery.queue import wake
from delivery.queue.enqueue import Place, Placement, Sender, mark_due
from delivery.suppression_list import Asked, Match

log = structlog.get_logger(__name__)

MOST_MESSAGES = 200
MOST_OCTETS = 4 * 1024 * 1024

Connection = psycopg.AsyncConnection[Any]

TEST_REASON = "test"
_EMPTY_OBJECT = Jsonb({})


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
        if self._connection is None or not self._is_connected:
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
        suppressed = await suppression_list.find(connection, _asked(queued))
        places = await self._placement.places(
            connection, ((_sender(message), r.domain) for message in queued for r in message.recipients)
        )
        fates = _Fates(suppressed, places)
        async with connection.transaction(), connection.cursor() as cursor:
            await once.claim(cursor, messages)
            await _copy_messages(cursor, messages)
            await _copy_content(cursor, messages)
            await _copy_recipients(cursor, messages, fates)
            await _copy_events(cursor, messages, fates)
            if suppressed:
                await suppression_list.count_hits(connection, (match.suppression_id for match in suppressed.values()))
            if queued:
                await _copy_entries(cursor, queued, fates)
                await mark_due(connection, (place.lane_id for place in places.values()))
                await cursor.execute(wake.RING, [wake.LANES])
                await _copy_owed(cursor, queued, fates)
            await quota.charge(cursor, ((message.principal, len(message.recipients)) for message in messages))
            self._may_be_committed = True


def _asked(messages: list[NewMessage]) -> Iterator[Asked]:
    for message in messages:
        for recipient in message.recipients:
            principal = message.principal
            yield Asked(recipient.id, principal.tenant_id, principal.stream_id, recipient.address, recipient.domain)


@dataclass(frozen=True, slots=True)
class _Fates:
    """What becomes of each recipient: it waits somewhere, or ends here."""

    suppressed: dict[UUID, Match]
    places: dict[tuple[Sender, str], Place]

    def end_of(self, message: NewMessage, recipient: NewRecipient) -> str | None:
        """Why it is kept back; None where it is queued."""
        if message.principal.is_test:
            return TEST_REASON
        match = self.suppressed.get(recipient.id)
        return match.reason if match is not None else None

    def place_of(self, message: NewMessage, recipient: NewRecipient) -> Place:
        return self.places[_sender(message), recipient.domain]


def _sender(message: NewMessage) -> Sender:
    return Sender(message.pool_id, message.principal.tenant_id, message.principal.stream_id)


async def _copy(cursor: psycopg.AsyncCursor[Any], table: str, columns: dict[str, str], rows: Any) -> None:
    names = ", ".join(columns)
    async with cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            await copy.write_row(row)


_MESSAGE = {
    "id": "uuid",
    "tenant_id": "uuid",
    "credential_id": "uuid",
    "stream_id": "uuid",
    "domain_id": "uuid",
    "accepted_at": "timestamptz",
    "expires_at": "timestamptz",
    "reverse_path": "varchar",
    "author": "varchar",
    "author_domain": "varchar",
    "subject": "varchar",
    "header_message_id": "varchar",
    "size_bytes": "int8",
    "recipient_count": "int4",
    "body_type": "varchar",
    "needs_smtputf8": "bool",
    "dsn_ret": "varchar",
    "dsn_envid": "varchar",
    "protocol": "varchar",
    "peer_address": "inet",
    "peer_ehlo": "varchar",
    "is_test": "bool",
    "tags": "varchar[]",
    "metadata": "jsonb",
    "retention_days": "int2",
    "tls": "varchar",
}


async def _copy_messages(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage]) -> None:
    rows: Iterator[tuple[Any, ...]] = (
        (
            message.id,
            message.principal.tenant_id,
            message.principal.credential_id,
            message.principal.stream_id,
            message.domain_id,
            message.accepted_at,
            message.expires_at,
            message.envelope.reverse_path.address if message.envelope.reverse_path else NULL_REVERSE_PATH,
            message.author[:320],
            message.author_domain,
            message.subject[:998],
            message.header_message_id[:998],
            message.size_bytes,
            len(message.recipients),
            message.envelope.body,
            message.envelope.smtputf8,
            message.envelope.ret or "",
            message.envelope.envid or "",
            message.peer.protocol,
            ip_address(message.peer.address) if message.peer.address else None,
            message.peer.ehlo[:255],
            message.principal.is_test,
            list(message.controls.tags),
            Jsonb(dict(message.controls.metadata)) if message.controls.metadata else _EMPTY_OBJECT,
            message.principal.retention_days,
            message.controls.tls or "",
        )
        for message in messages
    )
    await _copy(cursor, "delivery_message", _MESSAGE, rows)


_CONTENT = {"message_id": "uuid", "retention_days": "int2", "compressed": "bytea"}


async def _copy_content(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage]) -> None:
    rows = ((message.id, message.principal.retention_days, message.compressed) for message in messages)
    await _copy(cursor, "delivery_content", _CONTENT, rows)


_RECIPIENT = {
    "id": "uuid",
    "message_id": "uuid",
    "tenant_id": "uuid",
    "address": "varchar",
    "domain": "varchar",
    "group_id": "int8",
    "state": "varchar",
    "state_since": "timestamptz",
    "reason": "varchar",
    "attempts": "int2",
    "next_attempt_at": "timestamptz",
    "phase": "varchar",
    "reply": "text",
    "reply_class": "varchar",
    "action": "varchar",
    "scope": "varchar",
    "rule": "varchar",
    "host": "varchar",
    "has_ambiguous_attempt": "bool",
    "returned_class": "varchar",
    "dsn_notify": "varchar[]",
    "dsn_orcpt": "varchar",
}


def _recipient_row(message: NewMessage, recipient: NewRecipient, fates: _Fates) -> tuple[Any, ...]:
    reason = fates.end_of(message, recipient)
    is_queued = reason is None
    return (
        recipient.id,
        message.id,
        message.principal.tenant_id,
        recipient.address,
        recipient.domain,
        None if message.principal.is_test else fates.place_of(message, recipient).group_id,
        RecipientState.QUEUED if is_queued else RecipientState.SUPPRESSED,
        message.accepted_at,
        reason or "",
        0,
        message.first_attempt_at if is_queued else None,
        *("", "", "", "", "", "", ""),
        False,
        "",
        recipient.notify,
        recipient.orcpt,
    )


async def _copy_recipients(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage], fates: _Fates) -> None:
    rows = (_recipient_row(message, recipient, fates) for message in messages for recipient in message.recipients)
    await _copy(cursor, "delivery_recipient", _RECIPIENT, rows)


_EVENT = {
    "message_id": "uuid",
    "id": "uuid",
    "recipient_id": "uuid",
    "tenant_id": "uuid",
    "kind": "varchar",
    "occurred_at": "timestamptz",
    "attempt_id": "uuid",
    "data": "jsonb",
}


async def _copy_events(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage], fates: _Fates) -> None:
    def row(message: NewMessage, recipient: NewRecipient, kind: EventKind, data: Any) -> tuple[Any, ...]:
        key = uuid7_at(message.id)
        return (message.id, key, recipient.id, message.principal.tenant_id, kind, message.accepted_at, None, data)

    accepted = (row(m, r, EventKind.ACCEPTED, _EMPTY_OBJECT) for m in messages for r in m.recipients)
    suppressed = (
        row(m, r, EventKind.SUPPRESSED, Jsonb({"reason": reason}))
        for m in messages
        for r in m.recipients
        if (reason := fates.end_of(m, r)) is not None
    )
    await _copy(cursor, "delivery_event", _EVENT, itertools.chain(accepted, suppressed))


_ENTRY = {
    "recipient_id": "uuid",
    "message_id": "uuid",
    "tenant_id": "uuid",
    "credential_id": "uuid",
    "lane_id": "int8",
    "domain_route_id": "int8",
    "accepted_at": "timestamptz",
    "next_attempt_at": "timestamptz",
    "attempts": "int2",
    "losses": "int2",
    "notices": "int2",
}


async def _copy_entries(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage], fates: _Fates) -> None:
    row = await (await cursor.execute("SELECT now()")).fetchone()
    assert row is not None
    due_at = row[0]

    def entry(message: NewMessage, recipient: NewRecipient) -> tuple[Any, ...]:
        place = fates.place_of(message, recipient)
        return (
            recipient.id,
            message.id,
            message.principal.tenant_id,
            message.principal.credential_id,
            place.lane_id,
            place.domain_route_id,
            message.lifetime_begins_at,
            due_at if message.controls.send_at is None else max(message.controls.send_at, due_at),
            0,
            0,
            int(recipient.notices),
        )

    rows = (
        entry(message, recipient)
        for message in messages
        for recipient in message.recipients
        if fates.end_of(message, recipient) is None
    )
    await _copy(cursor, "delivery_queue_entry", _ENTRY, rows)


_OWED = {
    "tenant_id": "uuid",
    "message_id": "uuid",
    "recipient_id": "uuid",
    "action": "varchar",
    "happened_at": "timestamptz",
    "due_at": "timestamptz",
}


async def _copy_owed(cursor: psycopg.AsyncCursor[Any], messages: list[NewMessage], fates: _Fates) -> None:
    """Who was told 250 for a mail that is kept back from somebody is told of it, where he asked for failures."""
    rows = [
        (message.principal.tenant_id, message.id, recipient.id, OwedAction.FAILED.value, *[message.accepted_at] * 2)
        for message in messages
        for recipient in message.recipients
        if recipient.notices & Notice.FAILURE and fates.end_of(message, recipient) is not None
    ]
    if rows:
        await _copy(cursor, "delivery_owed_dsn", _OWED, rows)
