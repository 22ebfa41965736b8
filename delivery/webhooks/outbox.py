"""The callers' side of the tables: which webhooks have something to be told, what it is, and what calls came to.

A webhook is served by one caller at a time, who holds it under a lease; its events need no marks of their own. When a caller
dies, its calls in flight are made again by the next one, with the same ids: at least once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from accounts.identifiers import uuid7
from delivery.models import WebhookState
from delivery.models.webhook import DisabledReason
from delivery.webhooks.calling import Answer
from delivery.webhooks.told import Request, Told, ToldMessage

Connection = psycopg.AsyncConnection[Any]

_MOST_ACQUIRED = 100


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook as its caller needs it, read anew with each portion of events."""

    id: UUID
    tenant_id: UUID
    tenant_slug: str
    url: str
    format: str
    most_in_a_call: int
    sealed_secret: bytes
    sealed_former_secret: bytes | None
    state: str
    failures: int
    failing_since: datetime | None
    test_id: UUID | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """A due event. ``behind`` is an earlier event of the same subject that is not told yet, and when it will be tried."""

    id: int
    event_id: UUID
    kind: str
    occurred_at: datetime
    subject_id: UUID
    message_id: UUID | None
    data: dict[str, Any]
    calls: int
    behind: int | None
    behind_until: datetime | None


# ---------------------------------------------------------------- who serves what


async def due_webhooks(connection: Connection, *, me: str, busy: Collection[UUID]) -> list[tuple[UUID, bool]]:
    """Webhooks with something to tell now, and whether they are mine. A predecessor in my slot is dead: its are free."""
    cursor = await connection.execute(
        """SELECT webhook.id, webhook.owner = %(me)s AS is_mine FROM delivery_webhook AS webhook
           WHERE webhook.id <> ALL(%(busy)s) AND (webhook.owner IN ('', %(me)s) OR webhook.leased_until < now()
                 OR starts_with(webhook.owner, %(slot)s))
             AND (webhook.test_id IS NOT NULL AND webhook.state <> 'removed'
                  OR webhook.state = 'active' AND (webhook.resting_until IS NULL OR webhook.resting_until <= now())
                     AND EXISTS (SELECT FROM delivery_webhookevent AS event
                                 WHERE event.webhook_id = webhook.id AND event.died_at IS NULL AND event.next_call_at <= now()))
           ORDER BY webhook.last_called_at NULLS FIRST LIMIT %(most)s""",
        {"me": me, "slot": _slot_of(me), "busy": list(busy), "most": _MOST_ACQUIRED},
    )
    return await cursor.fetchall()


async def acquire(connection: Connection, wanted: Collection[UUID], *, me: str, lease: timedelta) -> list[UUID]:
    cursor = await connection.execute(
        """UPDATE delivery_webhook AS webhook SET owner = %(me)s, leased_until = now() + %(lease)s
           FROM (SELECT id FROM delivery_webhook
                 WHERE id = ANY(%(wanted)s)
                   AND (owner = '' OR leased_until < now() OR (starts_with(owner, %(slot)s) AND owner <> %(me)s))
                 ORDER BY id FOR UPDATE SKIP LOCKED) AS free
           WHERE webhook.id = free.id RETURNING webhook.id""",
        {"me": me, "slot": _slot_of(me), "wanted": list(wanted), "lease": lease},
    )
    return [row[0] for row in await cursor.fetchall()]


async def renew(connection: Connection, held: Collection[UUID], *, me: str, lease: timedelta) -> set[UUID]:
    """Those that are still mine."""
    cursor = await connection.execute(
        """UPDATE delivery_webhook AS webhook SET leased_until = now() + %s
           FROM (SELECT id FROM delivery_webhook WHERE id = ANY(%s) AND owner = %s ORDER BY id FOR UPDATE) AS mine
           WHERE webhook.id = mine.id RETURNING webhook.id""",
        [lease, list(held), me],
    )
    return {row[0] for row in await cursor.fetchall()}


async def release(connection: Connection, held: Collection[UUID], *, me: str) -> None:
    await connection.execute(
        "UPDATE delivery_webhook SET owner = '', leased_until = NULL WHERE id = ANY(%s) AND owner = %s",
        [list(held), me],
    )


def owner_name(slot: str, incarnation: UUID) -> str:
    return f"{slot} {incarnation.hex}"


def _slot_of(me: str) -> str:
    return me.rpartition(" ")[0] + " "


# ---------------------------------------------------------------- what is to be told


async def read_webhook(connection: Connection, webhook_id: UUID, *, me: str) -> WebhookRow | None:
    """None when it is not mine any more: somebody changed it, or my lease was over."""
    async with connection.cursor(row_factory=class_row(WebhookRow)) as cursor:
        await cursor.execute(
            """SELECT webhook.id, webhook.tenant_id, tenant.slug AS tenant_slug, webhook.url, webhook.format,
                      webhook.most_in_a_call, webhook.sealed_secret, CASE WHEN webhook.former_secret_until > now()
                          THEN webhook.sealed_former_secret END AS sealed_former_secret,
                      webhook.state, webhook.failures, webhook.failing_since, webhook.test_id
               FROM delivery_webhook AS webhook JOIN accounts_tenant AS tenant ON tenant.id = webhook.tenant_id
               WHERE webhook.id = %s AND webhook.owner = %s""",
            [webhook_id, me],
        )
        return await cursor.fetchone()


async def due_events(connection: Connection, webhook_id: UUID, *, known: Collection[int], most: int) -> list[EventRow]:
    """The events whose turn it is, without those that are ``known`` already; in the order in which they happened."""
    async with connection.cursor(row_factory=class_row(EventRow)) as cursor:
        await cursor.execute(
            """SELECT due.*, earlier.id AS behind, earlier.next_call_at AS behind_until
               FROM (SELECT id, event_id, kind, occurred_at, subject_id, message_id, data, calls
                     FROM delivery_webhookevent
                     WHERE webhook_id = %(webhook)s AND died_at IS NULL AND next_call_at <= now() AND id <> ALL(%(known)s)
                     ORDER BY next_call_at, id LIMIT %(most)s) AS due
               LEFT JOIN LATERAL (
                     SELECT id, next_call_at FROM delivery_webhookevent
                     WHERE webhook_id = %(webhook)s AND subject_id = due.subject_id AND died_at IS NULL AND id < due.id
                       AND id <> ALL(%(known)s)
                     ORDER BY id LIMIT 1) AS earlier ON true
               ORDER BY due.id""",
            {"webhook": webhook_id, "known": list(known), "most": most},
        )
        return await cursor.fetchall()


async def stand_behind(connection: Connection, events: Sequence[EventRow]) -> None:
    """These wait for an earlier event of their subject, which is to be tried again later."""
    await connection.execute(
        """UPDATE delivery_webhookevent AS event SET next_call_at = greatest(event.next_call_at, waiting.until)
           FROM unnest(%s::bigint[], %s::timestamptz[]) AS waiting (id, until) WHERE event.id = waiting.id""",
        [[event.id for event in events], [event.behind_until for event in events]],
    )


async def told_of(connection: Connection, webhook: WebhookRow, events: Sequence[EventRow]) -> dict[int, Told]:
    """The events with the messages and recipients they are about, as far as these are still kept."""
    message_ids = {event.message_id for event in events if event.message_id is not None}
    messages = await _messages(connection, message_ids)
    recipients = await _addresses(connection, {event.subject_id for event in events if event.message_id is not None})
    return {
        event.id: Told(
            id=event.event_id,
            kind=event.kind,
            occurred_at=event.occurred_at,
            tenant_id=webhook.tenant_id,
            tenant_slug=webhook.tenant_slug,
            subject_id=event.subject_id,
            message_id=event.message_id,
            data=event.data,
            message=messages.get(event.message_id) if event.message_id is not None else None,
            recipient=recipients.get(event.subject_id),
        )
        for event in events
    }


async def _messages(connection: Connection, ids: Collection[UUID]) -> dict[UUID, ToldMessage]:
    if not ids:
        return {}
    async with connection.cursor(row_factory=class_row(ToldMessage)) as cursor:
        # Keys begin with a time: bounds let the planner skip the other days.
        await cursor.execute(
            """SELECT message.id, message.header_message_id, message.author, message.subject, stream.name AS stream,
                      message.credential_id, message.tags, message.metadata, message.is_test, message.accepted_at
               FROM delivery_message AS message LEFT JOIN delivery_stream AS stream ON stream.id = message.stream_id
               WHERE message.id = ANY(%s) AND message.id BETWEEN %s AND %s""",
            [list(ids), min(ids), max(ids)],
        )
        return {message.id: message for message in await cursor.fetchall()}


async def _addresses(connection: Connection, ids: Collection[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    cursor = await connection.execute(
        "SELECT id, address FROM delivery_recipient WHERE id = ANY(%s) AND id BETWEEN %s AND %s",
        [list(ids), min(ids), max(ids)],
    )
    return dict(await cursor.fetchall())


# ---------------------------------------------------------------- what calls came to


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event whose call failed. ``wait`` is None when it is dead."""

    id: int
    subject_id: UUID
    wait: timedelta | None


@dataclass(frozen=True, slots=True)
class Called:
    """A call that was made, and what follows from it. ``told`` and ``waiting`` are empty for a test."""

    webhook: WebhookRow
    called_at: datetime
    events: Sequence[Told]
    number: int
    request: Request
    answer: Answer
    told: Sequence[int] = ()
    waiting: Sequence[Waiting] = ()
    test_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a webhook does after its latest call. ``disabled`` says why it is not called any more."""

    webhook_id: UUID
    called_at: datetime
    outcome: str
    status: int | None
    failures: int
    failing_since: datetime | None
    rest: timedelta | None
    disabled: DisabledReason | None


async def settle(connection: Connection, calls: Sequence[Called], standings: Collection[Standing], *, me: str) -> None:
    """Write many calls down in one short transaction. What is lost with the database's memory is told once more."""
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        await _forget_told(connection, [key for call in calls for key in call.told])
        waiting = [(call.webhook.id, one) for call in calls for one in call.waiting]
        if waiting:
            await _postpone(connection, waiting)
        tests = [call.test_id for call in calls if call.test_id is not None]
        if tests:
            await connection.execute("UPDATE delivery_webhook SET test_id = NULL WHERE test_id = ANY(%s)", [tests])
        await _log(connection, calls)
        if standings:
            await _stand(connection, sorted(standings, key=lambda one: one.webhook_id), me=me)


async def _forget_told(connection: Connection, ids: Sequence[int]) -> None:
    if ids:
        await connection.execute("DELETE FROM delivery_webhookevent WHERE id = ANY(%s)", [list(ids)])


async def _postpone(connection: Connection, waiting: Sequence[tuple[UUID, Waiting]]) -> None:
    """An event that failed waits, and later ones of its subject with it; behind a dead one they go on."""
    values = [
        [one.id for _, one in waiting],
        [webhook_id for webhook_id, _ in waiting],
        [one.subject_id for _, one in waiting],
        [one.wait for _, one in waiting],
    ]
    await connection.execute(
        """UPDATE delivery_webhookevent AS event
           SET calls = event.calls + 1, next_call_at = now() + failed.wait,
               died_at = CASE WHEN failed.wait IS NULL THEN now() END
           FROM unnest(%s::bigint[], %s::interval[]) AS failed (id, wait) WHERE event.id = failed.id""",
        [values[0], values[3]],
    )
    await connection.execute(
        """UPDATE delivery_webhookevent AS event SET next_call_at = greatest(event.next_call_at, now() + failed.wait)
           FROM (SELECT webhook_id, subject_id, max(id) AS id, max(wait) AS wait
                 FROM unnest(%s::bigint[], %s::uuid[], %s::uuid[], %s::interval[])
                     AS failed (id, webhook_id, subject_id, wait)
                 WHERE wait IS NOT NULL GROUP BY 1, 2) AS failed
           WHERE event.webhook_id = failed.webhook_id AND event.subject_id = failed.subject_id
             AND event.died_at IS NULL AND event.id > failed.id""",
        values,
    )


_CALL = {
    "id": "uuid",
    "webhook_id": "uuid",
    "tenant_id": "uuid",
    "called_at": "timestamptz",
    "duration_ms": "int4",
    "kind": "varchar",
    "event_ids": "uuid[]",
    "message_ids": "uuid[]",
    "recipient": "varchar",
    "number": "int2",
    "outcome": "varchar",
    "status": "int2",
    "error": "varchar",
    "url": "varchar",
    "address": "inet",
    "request_headers": "jsonb",
    "request_body": "text",
    "response_headers": "jsonb",
    "response_body": "text",
    "is_body_cut": "bool",
}
_NOTHING = Jsonb({})


async def _log(connection: Connection, calls: Sequence[Called]) -> None:
    columns = ", ".join(_CALL)
    async with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY delivery_webhookcall ({columns}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(list(_CALL.values()))
        for call in calls:
            await copy.write_row(_call_row(call))


def _call_row(call: Called) -> tuple[Any, ...]:
    answer, first = call.answer, call.events[0]
    return (
        uuid7(call.called_at),
        call.webhook.id,
        call.webhook.tenant_id,
        call.called_at,
        min(answer.duration_ms, 2**31 - 1),
        first.kind,
        [event.id for event in call.events],
        [event.message_id for event in call.events],
        first.recipient or "",
        min(call.number, 32_767),
        answer.outcome,
        answer.status,
        answer.error,
        call.webhook.url,
        ip_address(answer.address) if answer.address else None,
        _json_of(call.request.headers),
        # JSON escapes NUL, which text cannot hold.
        call.request.body.decode("utf-8"),
        _json_of(answer.headers),
        answer.body,
        answer.is_body_cut,
    )


def _json_of(headers: Mapping[str, str]) -> Jsonb:
    return Jsonb(dict(headers)) if headers else _NOTHING


async def _stand(connection: Connection, standings: Sequence[Standing], *, me: str) -> None:
    # Where a person has changed the webhook meanwhile, it is nobody's: what was found of the old one does not count.
    await connection.execute(
        f"""UPDATE delivery_webhook AS webhook
            SET last_called_at = latest.called_at, last_outcome = latest.outcome, last_status = latest.status,
                failures = latest.failures, failing_since = latest.failing_since, resting_until = now() + latest.rest,
                state = CASE WHEN webhook.state = '{WebhookState.ACTIVE}' AND latest.disabled <> ''
                             THEN '{WebhookState.DISABLED}' ELSE webhook.state END,
                disabled_at = CASE WHEN webhook.state = '{WebhookState.ACTIVE}' AND latest.disabled <> ''
                                   THEN now() ELSE webhook.disabled_at END,
                disabled_reason = CASE WHEN webhook.state = '{WebhookState.ACTIVE}' AND latest.disabled <> ''
                                       THEN latest.disabled ELSE webhook.disabled_reason END,
                is_notice_due = webhook.is_notice_due OR (webhook.state = '{WebhookState.ACTIVE}' AND latest.disabled <> '')
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::int2[], %s::int4[], %s::timestamptz[],
                        %s::interval[], %s::text[])
                AS latest (id, called_at, outcome, status, failures, failing_since, rest, disabled)
            WHERE webhook.id = latest.id AND webhook.owner = %s""",
        [
            [one.webhook_id for one in standings],
            [one.called_at for one in standings],
            [one.outcome for one in standings],
            [one.status for one in standings],
            [one.failures for one in standings],
            [one.failing_since for one in standings],
            [one.rest for one in standings],
            [one.disabled or "" for one in standings],
            me,
        ],
    )
