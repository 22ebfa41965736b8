"""What people do to waiting recipients: hold, release, cancel, try now, send later. Each shows in the recipient's history.

Only entries that nobody has in hand are touched: what is being attempted finishes its attempt and can be caught before the
next one. Each function returns how many it changed and how many were in hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts.identifiers import uuid7
from delivery.core.states import EventKind, RecipientState
from delivery.queue import wake


@dataclass(frozen=True, slots=True)
class Changed:
    changed: int
    in_hand: int


@dataclass(frozen=True, slots=True)
class Which:
    """Which open recipients: a message's, one, some of a tenant's, a sending domain's, or those that all narrower words describe.

    ``provider`` is the key of a provider group, ``recipient_domain`` an A-label; without a tenant they mean everybody's mail.
    All that is open is meant only where ``everything`` says so.
    """

    message_id: UUID | None = None
    recipient_id: UUID | None = None
    recipient_ids: tuple[UUID, ...] | None = None
    tenant_id: UUID | None = None
    domain_id: UUID | None = None
    stream_id: UUID | None = None
    provider: str | None = None
    recipient_domain: str | None = None
    credential_id: UUID | None = None
    everything: bool = False

    @property
    def condition(self) -> tuple[str, list[Any]]:
        if self.recipient_ids is not None:
            if self.tenant_id is None:
                raise ValueError("name the tenant of these recipients")
            return "entry.recipient_id = ANY(%s) AND entry.tenant_id = %s", [list(self.recipient_ids), self.tenant_id]
        if self.recipient_id is not None:
            return "entry.recipient_id = %s", [self.recipient_id]
        if self.message_id is not None:
            return "entry.message_id = %s", [self.message_id]
        if self.domain_id is not None:
            return _OF_DOMAIN, [self.domain_id, self.domain_id]
        narrowed = [(sql, value) for sql, value in self._narrower() if value is not None]
        if not narrowed and self.everything:
            return "TRUE", []
        if not narrowed:
            raise ValueError(
                "name a message, a recipient, a domain, a tenant, a stream, a provider or a recipient domain"
            )
        return " AND ".join(sql for sql, _ in narrowed), [value for _, value in narrowed]

    def _narrower(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("entry.tenant_id = %s", self.tenant_id),
            ("entry.credential_id = %s", self.credential_id),
            ("entry.lane_id IN (SELECT id FROM delivery_lane WHERE stream_id = %s)", self.stream_id),
            (_OF_PROVIDER, self.provider),
            (
                "entry.domain_route_id IN (SELECT id FROM delivery_domainroute WHERE domain = %s)",
                self.recipient_domain,
            ),
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open recipients: all of them, those in an engine's hands at this moment, those held, those that wait to be retried."""

    open: int
    in_hand: int
    held: int
    deferred: int

    @property
    def can_change(self) -> int:
        return self.open - self.in_hand


# The tenant first: its entries have an index, those of a domain do not.
_OF_DOMAIN = """entry.tenant_id = (SELECT tenant_id FROM delivery_sendingdomain WHERE id = %s)
                AND EXISTS (SELECT 1 FROM delivery_message AS message
                        WHERE message.id = entry.message_id AND message.domain_id = %s)"""
_OF_PROVIDER = """entry.lane_id IN (SELECT lane.id FROM delivery_lane AS lane
                  JOIN delivery_providergroup AS grp ON grp.id = lane.group_id WHERE grp.key = %s)"""
_NOT_IN_HAND = "entry.path_id IS NULL"
# Also what waits for the results of its credential's first mails (delivery.brakes.gate): to people it is in the queue.
_WAITS = "(held_reason IS NULL OR held_reason = 'first_results')"


def waiting(which: Which) -> Waiting:
    """What is open, for the question that stands before a change."""
    with connection.cursor() as cursor:
        condition, values = which.condition
        cursor.execute(
            f"""SELECT count(*), count(*) FILTER (WHERE entry.path_id IS NOT NULL),
                       count(*) FILTER (WHERE NOT {_WAITS}),
                       count(*) FILTER (WHERE {_NOT_IN_HAND} AND held_reason IS NULL AND next_attempt_at > now())
                FROM delivery_queue_entry AS entry WHERE {condition}""",
            values,
        )
        return Waiting(*cursor.fetchone())


def hold(which: Which, *, reason: str) -> Changed:
    """Keep back until released; ``reason`` is a machine word people get to read in words."""
    with transaction.atomic(), connection.cursor() as cursor:
        condition, values = which.condition
        cursor.execute(
            f"""UPDATE delivery_queue_entry AS entry SET held_reason = %s
                WHERE {condition} AND {_NOT_IN_HAND} AND {_WAITS}
                RETURNING recipient_id, message_id, tenant_id, lane_id""",
            [reason, *values],
        )
        rows = cursor.fetchall()
        cursor.execute(
            """UPDATE delivery_recipient SET state = %s, reason = %s, state_since = now(), next_attempt_at = NULL
               WHERE id = ANY(%s)""",
            [RecipientState.HELD, reason, [row[0] for row in rows]],
        )
        _tell(cursor, EventKind.HELD, rows, {"reason": reason})
        return Changed(len(rows), _in_hand(cursor, which))


def release(which: Which, *, reason: str | None = None) -> Changed:
    """Send what is held after all; with ``reason`` only what is held for it."""
    with transaction.atomic(), connection.cursor() as cursor:
        condition, values = which.condition
        cursor.execute(
            f"""UPDATE delivery_queue_entry AS entry SET held_reason = NULL, losses = 0, next_attempt_at = now()
                WHERE {condition} AND held_reason IS NOT NULL AND (%s::text IS NULL OR held_reason = %s)
                RETURNING recipient_id, message_id, tenant_id, lane_id""",
            [*values, reason, reason],
        )
        rows = cursor.fetchall()
        cursor.execute(
            """UPDATE delivery_recipient SET reason = '', state_since = now(), next_attempt_at = now(),
                      state = CASE WHEN attempts > 0 THEN %s ELSE %s END
               WHERE id = ANY(%s)""",
            [RecipientState.DEFERRED, RecipientState.QUEUED, [row[0] for row in rows]],
        )
        _make_due(cursor, rows)
        return Changed(len(rows), _in_hand(cursor, which))


def cancel(which: Which) -> Changed:
    """Withdraw for good."""
    with transaction.atomic(), connection.cursor() as cursor:
        condition, values = which.condition
        cursor.execute(
            f"""DELETE FROM delivery_queue_entry AS entry WHERE {condition} AND {_NOT_IN_HAND}
                RETURNING recipient_id, message_id, tenant_id, lane_id""",
            values,
        )
        rows = cursor.fetchall()
        cursor.execute(
            """UPDATE delivery_recipient SET state = %s, reason = '', state_since = now(), next_attempt_at = NULL
               WHERE id = ANY(%s)""",
            [RecipientState.CANCELLED, [row[0] for row in rows]],
        )
        _tell(cursor, EventKind.CANCELLED, rows, {})
        return Changed(len(rows), _in_hand(cursor, which))


def retry(which: Which) -> Changed:
    """Try what is deferred now, without waiting for its next step."""
    with transaction.atomic(), connection.cursor() as cursor:
        condition, values = which.condition
        cursor.execute(
            f"""UPDATE delivery_queue_entry AS entry SET next_attempt_at = now()
                WHERE {condition} AND {_NOT_IN_HAND} AND held_reason IS NULL AND next_attempt_at > now()
                RETURNING recipient_id, message_id, tenant_id, lane_id""",
            values,
        )
        rows = cursor.fetchall()
        cursor.execute(
            "UPDATE delivery_recipient SET next_attempt_at = now() WHERE id = ANY(%s)", [[row[0] for row in rows]]
        )
        _make_due(cursor, rows)
        return Changed(len(rows), _in_hand(cursor, which))


def reschedule(message_id: UUID, at: datetime) -> Changed:
    """Let the recipients of a message that nobody has tried go out at ``at``, with their whole lifetime from then on."""
    which = Which(message_id=message_id)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""WITH entry AS (
                    SELECT recipient_id, greatest(%s, now()) - next_attempt_at AS later FROM delivery_queue_entry AS entry
                    WHERE entry.message_id = %s AND {_NOT_IN_HAND} AND {_WAITS} AND attempts = 0
                    FOR UPDATE)
                UPDATE delivery_queue_entry AS moved
                SET next_attempt_at = moved.next_attempt_at + entry.later, accepted_at = moved.accepted_at + entry.later
                FROM entry WHERE moved.recipient_id = entry.recipient_id
                RETURNING moved.recipient_id, moved.message_id, moved.tenant_id, moved.lane_id, entry.later""",
            [at, message_id],
        )
        rows = cursor.fetchall()
        if rows:
            cursor.execute(
                "UPDATE delivery_recipient SET next_attempt_at = greatest(%s, now()) WHERE id = ANY(%s)",
                [at, [row[0] for row in rows]],
            )
            cursor.execute(
                "UPDATE delivery_message SET expires_at = expires_at + %s WHERE id = %s",
                [max(row[4] for row in rows), message_id],
            )
            _make_due(cursor, rows, at=at)
        return Changed(len(rows), _in_hand(cursor, which))


def hold_domain(domain_id: UUID, *, reason: str) -> Changed:
    """The domain may not send at present: what is open of it waits until it may again, or expires."""
    return hold(Which(domain_id=domain_id), reason=reason)


def _in_hand(cursor: CursorWrapper, which: Which) -> int:
    condition, values = which.condition
    cursor.execute(
        f"SELECT count(*) FROM delivery_queue_entry AS entry WHERE {condition} AND entry.path_id IS NOT NULL", values
    )
    count: int = cursor.fetchone()[0]
    return count


def _tell(cursor: CursorWrapper, kind: EventKind, rows: Sequence[Any], data: dict[str, str]) -> None:
    cursor.execute(
        """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
           SELECT message_id, event_id, recipient_id, tenant_id, %s, now(),
                  jsonb_strip_nulls(jsonb_build_object('reason', %s::text))
           FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[]) AS row (message_id, event_id, recipient_id, tenant_id)""",
        [
            kind,
            data.get("reason"),
            [row[1] for row in rows],
            [uuid7() for _ in rows],
            [row[0] for row in rows],
            [row[2] for row in rows],
        ],
    )


def _make_due(cursor: CursorWrapper, rows: Sequence[Any], *, at: datetime | None = None) -> None:
    cursor.execute(
        """UPDATE delivery_lane SET next_due_at = least(next_due_at, greatest(%s, now()))
           FROM (SELECT id FROM delivery_lane WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS mine
           WHERE delivery_lane.id = mine.id""",
        [at, sorted({row[3] for row in rows})],
    )
    cursor.execute(wake.RING, [wake.LANES])
