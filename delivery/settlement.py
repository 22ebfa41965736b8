"""5 · DELIVERED, DEFERRED, BOUNCED: what became of attempts is written down, many recipients in one short transaction.

Every row is settled only while its claim is good: the fence in the entry must still be the one it was claimed with. What a
former owner reports after it lost its path changes nothing; its attempt was recorded as ambiguous when the path was taken.
A final state deletes the queue entry in the same statement that writes it, so it can be reached once and never left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from django.conf import settings
from psycopg.types.json import Jsonb

from accounts.identifiers import uuid7
from delivery import suppression_list
from delivery.core.notices import Notice
from delivery.core.outcome import Outcome
from delivery.core.states import EventKind, RecipientState
from delivery.models.owed import OwedAction
from delivery.queue.claim import ClaimedEntry

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

_EVENT_OF_STATE = {
    RecipientState.DELIVERED: EventKind.DELIVERED,
    RecipientState.DEFERRED: EventKind.DEFERRED,
    RecipientState.BOUNCED: EventKind.BOUNCED,
    RecipientState.EXPIRED: EventKind.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try, as it will be shown. ``transcript`` is JSON."""

    id: UUID
    started_at: datetime
    ended_at: datetime
    source_id: UUID | None
    source_address: str | None
    worker: str
    host: str = ""
    host_address: str | None = None
    port: int | None = None
    tls_version: str = ""
    tls_cipher: str = ""
    transcript: bytes = b"[]"


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt's outcome.

    ``lane_id`` moves a deferred entry, for example to the lane pinned to its source. ``is_lost``: the owner died with it,
    so what it was lost before still counts. ``is_told_onwards``: the host took over telling of success (RFC 3461 §5.2.1).
    """

    entry: ClaimedEntry
    path_id: int
    fence: int
    attempt: AttemptRecord
    outcome: Outcome
    lane_id: int | None = None
    is_lost: bool = False
    is_told_onwards: bool = False

    @property
    def delay(self) -> timedelta:
        """How long to wait: a duration, since the queue's clock is the database's and not ours."""
        at = self.outcome.next_attempt_at
        return timedelta(0) if at is None else max(at - self.attempt.ended_at, timedelta(0))


async def settle(connection: Connection, settled: Sequence[Settled]) -> set[UUID]:
    """Write outcomes and commit, on a connection in autocommit.

    Returns the recipients whose claim was still good and who are therefore settled.
    """
    if all(one.outcome.state.is_final for one in settled):
        done = await write(connection, settled)  # one statement, a transaction by itself
    else:
        async with connection.transaction():
            done = await write(connection, settled)
    for outcome in settled:
        if outcome.entry.recipient_id not in done:
            log.warning(
                "settlement_after_the_fence",
                recipient=str(outcome.entry.recipient_id),
                message=str(outcome.entry.message_id),
                fence=outcome.fence,
                state=outcome.outcome.state,
            )
    return done


async def write(connection: Connection, settled: Sequence[Settled]) -> set[UUID]:
    """The statements of ``settle``, for a transaction of the caller's."""
    # In the order in which a new owner would lock them, so that neither waits for the other in a circle.
    settled = sorted(settled, key=lambda one: one.entry.recipient_id)
    final = [_row(one) for one in settled if one.outcome.state.is_final]
    deferred = [_row(one) for one in settled if not one.outcome.state.is_final]
    done: set[UUID] = set()
    if final:
        done |= await _run(connection, _SETTLE_FINAL, final)
    if deferred:
        done |= await _run(connection, _SETTLE_DEFERRED, deferred)
        await _tell_lanes(connection, deferred)
    return done


async def _run(connection: Connection, sql: str, rows: list[dict[str, Any]]) -> set[UUID]:
    message_ids = [row["message_id"] for row in rows]
    # Keys of a message and its recipients share their first 48 bits: bounds let the planner skip the other days.
    bounds = {"lowest": _first_of_millisecond(min(message_ids)), "highest": _last_of_millisecond(max(message_ids))}
    parameters = {"rows": Jsonb(rows, dumps=msgspec.json.encode), "told_late_s": settings.DSN_DELAY_SECONDS, **bounds}
    cursor = await connection.execute(sql, parameters)
    return {row[0] for row in await cursor.fetchall()}


async def _tell_lanes(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Lanes learn when their deferred entries are due, so that nothing has to look for them."""
    await connection.execute(
        """UPDATE delivery_lane AS lane SET next_due_at = least(lane.next_due_at, mine.due_at)
           FROM (SELECT lane_id, min(next_attempt_at) AS due_at FROM delivery_queue_entry
                 WHERE recipient_id = ANY(%s) AND path_id IS NULL GROUP BY lane_id) AS mine,
                (SELECT id FROM delivery_lane WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS locked
           WHERE lane.id = mine.lane_id AND locked.id = lane.id""",
        [[row["recipient_id"] for row in rows], sorted({row["lane_id"] for row in rows})],
    )


@dataclass(frozen=True, slots=True)
class KeptBack:
    """A claimed entry whose recipient has been suppressed meanwhile: it ends untried."""

    entry: ClaimedEntry
    path_id: int
    fence: int
    suppression_id: UUID
    reason: str


async def keep_back(connection: Connection, kept: Sequence[KeptBack]) -> None:
    """End these entries as suppressed, where their claims are still good. The attempt that the claim counted is taken back."""
    kept = sorted(kept, key=lambda one: one.entry.recipient_id)
    async with connection.transaction():
        cursor = await connection.execute(
            _KEEP_BACK,
            [
                [one.entry.recipient_id for one in kept],
                [one.path_id for one in kept],
                [one.fence for one in kept],
                [one.reason for one in kept],
                [uuid7() for _ in kept],
            ],
        )
        done = {row[0] for row in await cursor.fetchall()}
        await suppression_list.count_hits(
            connection, [one.suppression_id for one in kept if one.entry.recipient_id in done]
        )


_KEEP_BACK = f"""
WITH kept AS (
    SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::uuid[])
        AS kept (recipient_id, path_id, fence, reason, event_id)
), done AS (
    DELETE FROM delivery_queue_entry AS entry USING kept
    WHERE entry.recipient_id = kept.recipient_id AND entry.path_id = kept.path_id AND entry.fence = kept.fence
    RETURNING entry.recipient_id, entry.message_id, entry.tenant_id, entry.attempts, entry.notices, kept.reason,
        kept.event_id
), told AS (
    INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
    SELECT message_id, event_id, recipient_id, tenant_id, '{EventKind.SUPPRESSED}', now(), jsonb_build_object('reason', reason)
    FROM done
), owed AS (
    INSERT INTO delivery_owed_dsn (tenant_id, message_id, recipient_id, action, happened_at, due_at)
    SELECT tenant_id, message_id, recipient_id, '{OwedAction.FAILED.value}', now(), now()
    FROM done WHERE done.notices & {Notice.FAILURE:d} > 0
    ON CONFLICT (recipient_id, action) DO NOTHING
)
UPDATE delivery_recipient AS recipient
SET state = '{RecipientState.SUPPRESSED}', state_since = now(), reason = done.reason, attempts = done.attempts - 1,
    next_attempt_at = NULL
FROM done WHERE recipient.id = done.recipient_id
RETURNING recipient.id
"""


_BELOW_THE_TIME = (1 << 80) - 1


def _first_of_millisecond(key: UUID) -> UUID:
    return UUID(int=key.int & ~_BELOW_THE_TIME)


def _last_of_millisecond(key: UUID) -> UUID:
    return UUID(int=key.int | _BELOW_THE_TIME)


def _row(settled: Settled) -> dict[str, Any]:
    entry, attempt, outcome = settled.entry, settled.attempt, settled.outcome
    reply, classification = outcome.reply, outcome.classification
    return {
        "recipient_id": entry.recipient_id,
        "message_id": entry.message_id,
        "tenant_id": entry.tenant_id,
        "path_id": settled.path_id,
        "fence": settled.fence,
        "lane_id": settled.lane_id or entry.lane_id,
        "delay_s": settled.delay.total_seconds(),
        "number": entry.attempts,
        "is_lost": settled.is_lost,
        "is_told_onwards": settled.is_told_onwards,
        "state": outcome.state,
        "event_id": uuid7(),
        "event": _EVENT_OF_STATE[outcome.state],
        "is_ambiguous": outcome.is_ambiguous,
        "attempt_id": attempt.id,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "source_id": attempt.source_id,
        "source_address": attempt.source_address,
        "worker": attempt.worker,
        "host": _text(attempt.host)[:255],
        # A zone is of no meaning outside this machine, and no inet.
        "host_address": attempt.host_address.partition("%")[0] if attempt.host_address else None,
        "port": attempt.port,
        "phase": reply.phase,
        "origin": reply.origin,
        "reply_code": reply.code,
        "reply_enhanced": reply.enhanced or "",
        "reply_text": _text(reply.text),
        "reply_line": _text(reply.line),
        "reply_class": classification.reply_class if classification else "",
        "action": classification.action if classification else "",
        "scope": classification.scope if classification else "",
        "rule": classification.rule if classification else "",
        "cause": outcome.cause.reply_class if outcome.cause else None,
        "tls_version": attempt.tls_version,
        "tls_cipher": attempt.tls_cipher,
        "transcript": _text(attempt.transcript.decode("utf-8", "replace")),
    }


def _text(value: str) -> str:
    # PostgreSQL's text cannot hold NUL, and a peer may send anything.
    return value.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")


_ROWS = """
WITH settled AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS row (
        recipient_id uuid, message_id uuid, tenant_id uuid, path_id bigint, fence bigint, lane_id bigint, delay_s float8,
        number smallint, is_lost boolean, is_told_onwards boolean, state varchar, event_id uuid, event varchar,
        is_ambiguous boolean, attempt_id uuid, started_at timestamptz, ended_at timestamptz, source_id uuid,
        source_address inet, worker varchar, host varchar,
        host_address inet, port integer, phase varchar, origin varchar, reply_code smallint, reply_enhanced varchar,
        reply_text text, reply_line text, reply_class varchar, action varchar, scope varchar, rule varchar, cause varchar,
        tls_version varchar, tls_cipher varchar, transcript text)
)"""

# What is owed to the reverse-path stands in the entry from acceptance on (delivery.core.notices), so that noting it costs
# other mail nothing, and it is noted exactly when the state it tells of is reached.
_DELETE_ENTRIES = f"""
done AS (
    DELETE FROM delivery_queue_entry AS entry USING settled
    WHERE entry.recipient_id = settled.recipient_id AND entry.path_id = settled.path_id AND entry.fence = settled.fence
    RETURNING entry.recipient_id, NULL::timestamptz AS next_attempt_at, CASE settled.state
        WHEN '{RecipientState.DELIVERED}' THEN entry.notices & {Notice.SUCCESS:d} > 0 AND NOT settled.is_told_onwards
        ELSE entry.notices & {Notice.FAILURE:d} > 0 END AS is_owed
)"""

_POSTPONE_ENTRIES = f"""
done AS (
    UPDATE delivery_queue_entry AS entry
    SET path_id = NULL, fence = NULL, claimed_at = NULL, attempt_id = NULL, dot_sent_at = NULL, dot_host = NULL,
        losses = CASE WHEN settled.is_lost THEN entry.losses ELSE 0 END, lane_id = settled.lane_id,
        next_attempt_at = now() + make_interval(secs => settled.delay_s)
    FROM settled
    WHERE entry.recipient_id = settled.recipient_id AND entry.path_id = settled.path_id AND entry.fence = settled.fence
    RETURNING entry.recipient_id, entry.next_attempt_at, entry.notices & {Notice.DELAY:d} > 0
        AND %(told_late_s)s > 0 AND now() - entry.accepted_at >= make_interval(secs => %(told_late_s)s) AS is_owed
)"""

_HISTORY = """
attempted AS (
    INSERT INTO delivery_attempt (
        message_id, id, recipient_id, tenant_id, number, started_at, ended_at, source_id, source_address, worker, fence,
        host, host_address, port, phase, origin, reply_code, reply_enhanced, reply_text, reply_class, action, scope, rule,
        is_ambiguous, tls_version, tls_cipher, transcript)
    SELECT message_id, attempt_id, recipient_id, tenant_id, number, started_at, ended_at, source_id, source_address, worker,
        fence, host, host_address, port, phase, origin, reply_code, reply_enhanced, reply_text, reply_class, action, scope,
        rule, is_ambiguous, tls_version, tls_cipher, convert_to(transcript, 'UTF8')
    FROM settled JOIN done USING (recipient_id)
), told AS (
    INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, attempt_id, data)
    SELECT message_id, event_id, recipient_id, tenant_id, event, now(), attempt_id, jsonb_strip_nulls(jsonb_build_object(
        'reply', reply_line, 'class', nullif(reply_class, ''), 'cause', cause, 'attempt', number, 'host', nullif(host, ''),
        'ambiguous', nullif(is_ambiguous, false), 'next_attempt_at', next_attempt_at))
    FROM settled JOIN done USING (recipient_id)
), struck AS (
    -- Only noted here, so that no settlement waits for a row that others want too; judged a moment later.
    INSERT INTO delivery_strike (tenant_id, message_id, recipient_id, reply_class, action, detail, happened_at, due_at,
                                 address, verdict)
    SELECT tenant_id, message_id, recipient_id, reply_class, action, left(reply_line, 500), now(),
        now() + CASE WHEN reply_class = 'bad_domain' THEN interval '1 h' ELSE interval '0' END, '', ''
    FROM settled JOIN done USING (recipient_id)
    WHERE state = 'bounced' AND action IN ('fail_and_suppress', 'fail_and_count')
), owed AS (
    INSERT INTO delivery_owed_dsn (tenant_id, message_id, recipient_id, action, happened_at, due_at)
    SELECT tenant_id, message_id, recipient_id,
        CASE state WHEN 'delivered' THEN 'relayed' WHEN 'deferred' THEN 'delayed' ELSE 'failed' END, now(), now()
    FROM settled JOIN done USING (recipient_id) WHERE done.is_owed
    ON CONFLICT (recipient_id, action) DO NOTHING
)
UPDATE delivery_recipient AS recipient
SET state = settled.state, state_since = now(), reason = '', attempts = settled.number,
    next_attempt_at = done.next_attempt_at, phase = settled.phase, reply_code = settled.reply_code,
    reply = settled.reply_line, reply_class = settled.reply_class, action = settled.action, scope = settled.scope,
    rule = settled.rule, host = settled.host, source_id = settled.source_id,
    has_ambiguous_attempt = recipient.has_ambiguous_attempt OR settled.is_ambiguous
FROM settled JOIN done USING (recipient_id)
WHERE recipient.id = settled.recipient_id AND recipient.id BETWEEN %(lowest)s AND %(highest)s
RETURNING recipient.id
"""

_SETTLE_FINAL = f"{_ROWS}, {_DELETE_ENTRIES}, {_HISTORY}"
_SETTLE_DEFERRED = f"{_ROWS}, {_POSTPONE_ENTRIES}, {_HISTORY}"
