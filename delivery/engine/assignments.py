"""What an attempt must know beyond its queue entry: the recipient's address, the message's envelope, who signs it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from accounts import sealing
from delivery import schedules, suppression_list
from delivery.core.retry import RetrySchedule
from delivery.engine.contents import Wanted
from delivery.models import DkimKey
from delivery.queue.claim import ClaimedEntry
from delivery.transport.signing import DkimSigner

log = structlog.get_logger(__name__)

_REMEMBERED_S = 30.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """One recipient to be attempted."""

    recipient_id: UUID
    message_id: UUID
    address: str
    domain: str
    reverse_path: str
    needs_smtputf8: bool
    size_bytes: int
    retention_days: int
    stream_id: UUID
    domain_id: UUID | None
    tls: str
    bounce_host: str | None
    keeps_reverse_path: bool | None
    suppression_id: UUID | None
    suppression_reason: str | None

    @property
    def content(self) -> Wanted:
        return Wanted(self.message_id, self.retention_days, self.size_bytes)


_SUPPRESSED = suppression_list.lateral(
    address="recipient.address", domain="recipient.domain", tenant="recipient.tenant_id", stream="message.stream_id"
)
_ASSIGNMENTS = f"""
SELECT recipient.id AS recipient_id, message.id AS message_id, recipient.address, recipient.domain, message.reverse_path,
       message.needs_smtputf8, message.size_bytes, message.retention_days, message.stream_id, message.domain_id,
       message.tls,
       domain.bounce_host, domain.keeps_reverse_path,
       suppression.id AS suppression_id, suppression.reason AS suppression_reason
FROM delivery_recipient AS recipient
JOIN delivery_message AS message ON message.id = recipient.message_id
LEFT JOIN delivery_sendingdomain AS domain ON domain.id = message.domain_id
LEFT JOIN LATERAL {_SUPPRESSED} AS suppression ON true
WHERE recipient.id = ANY(%(recipients)s) AND recipient.id BETWEEN %(lowest)s AND %(highest)s
  AND message.id BETWEEN %(lowest_message)s AND %(highest_message)s
"""


async def read(connection: psycopg.AsyncConnection[Any], entries: Sequence[ClaimedEntry]) -> dict[UUID, Assignment]:
    """By recipient id. The bounds let PostgreSQL skip the days that none of them is from."""
    recipients = [entry.recipient_id for entry in entries]
    messages = [entry.message_id for entry in entries]
    parameters = {
        "recipients": recipients,
        "lowest": min(recipients),
        "highest": max(recipients),
        "lowest_message": min(messages),
        "highest_message": max(messages),
    }
    async with connection.cursor(row_factory=class_row(Assignment)) as cursor:
        await cursor.execute(_ASSIGNMENTS, parameters)
        return {assignment.recipient_id: assignment async for assignment in cursor}


class Signers:
    """The signing key of each sending domain, opened once and asked again now and then."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._known: dict[UUID, tuple[float, UUID | None, DkimSigner | None]] = {}

    async def of(self, domain_id: UUID | None) -> DkimSigner | None:
        """None where the domain does not sign. Raises SealingError when its key cannot be opened."""
        if domain_id is None:
            return None
        until, key_id, signer = self._known.get(domain_id, (0.0, None, None))
        if until > time.monotonic():
            return signer
        sql = """SELECT key.id, key.selector, key.sealed_private_key, domain.name
                 FROM delivery_dkimkey AS key JOIN delivery_sendingdomain AS domain ON domain.id = key.domain_id
                 WHERE domain.id = %s AND domain.signs AND key.state = 'signing'"""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(sql, [domain_id])).fetchone()
        if row is None:
            key_id, signer = None, None
        elif row[0] != key_id:
            key_id, selector, sealed, name = row
            signer = DkimSigner(name, selector, sealing.unseal(sealed, context=DkimKey.sealing_context(key_id)))
        self._known[domain_id] = (time.monotonic() + _REMEMBERED_S, key_id, signer)
        return signer


class Schedules:
    """The retry schedule of each stream."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._known: dict[UUID, tuple[float, RetrySchedule]] = {}

    async def of(self, stream_id: UUID) -> RetrySchedule:
        known = self._known.get(stream_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        sql = "SELECT kind, retry_delays_s, lifetime_s FROM delivery_stream WHERE id = %s"
        async with self._pool.connection() as connection:
            row = await (await connection.execute(sql, [stream_id])).fetchone()
        kind, delays_s, lifetime_s = row or ("transactional", None, None)
        schedule = schedules.of_stream(kind=kind, delays_s=delays_s, lifetime_s=lifetime_s)
        self._known[stream_id] = (time.monotonic() + _REMEMBERED_S, schedule)
        return schedule
