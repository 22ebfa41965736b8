"""What an attempt must know beyond its queue entry: the recipient's address, the message's envelope, who signs it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from accounts import sealing
from delivery import schedules, suppression_list
from delivery.core.mailbox import NULL_REVERSE_PATH
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
    adds_unsubscribe: bool | None
    sending_domain: str | None
    stream_name: str
    stream_kind: str
    tenant_slug: str
    dsn_ret: str
    dsn_envid: str
    dsn_notify: list[str] | None
    dsn_orcpt: str
    suppression_id: UUID | None
    suppression_reason: str | None

    @property
    def has_own_reverse_path(self) -> bool:
        """It leaves with what the client gave; reports go past us. A report itself has none to replace."""
        return self.reverse_path == NULL_REVERSE_PATH or bool(self.keeps_reverse_path)

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
       domain.bounce_host, domain.keeps_reverse_path, domain.adds_unsubscribe, domain.name AS sending_domain,
       coalesce(stream.name, '') AS stream_name, coalesce(stream.kind, '') AS stream_kind,
       coalesce(tenant.slug, '') AS tenant_slug,
       message.dsn_ret, message.dsn_envid, recipient.dsn_notify, recipient.dsn_orcpt,
       suppression.id AS suppression_id, suppression.reason AS suppression_reason
FROM delivery_recipient AS recipient
JOIN delivery_message AS message ON message.id = recipient.message_id
LEFT JOIN delivery_sendingdomain AS domain ON domain.id = message.domain_id
LEFT JOIN delivery_stream AS stream ON stream.id = message.stream_id
LEFT JOIN accounts_tenant AS tenant ON tenant.id = message.tenant_id
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


_OPERATOR = UUID(int=0)
_KEY = """SELECT key.id, key.selector, key.sealed_private_key, domain.name
          FROM delivery_dkimkey AS key JOIN delivery_sendingdomain AS domain ON domain.id = key.domain_id
          WHERE domain.signs AND key.state = 'signing'"""
_KEY_OF_DOMAIN = f"{_KEY} AND domain.id = %s"
_KEY_OF_OPERATOR = f"""{_KEY} AND domain.name = %s AND domain.state = 'verified'
                       AND domain.tenant_id = (SELECT id FROM accounts_tenant WHERE is_system)"""


class Signers:
    """The signing key of each sending domain, opened once and asked again now and then."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._known: dict[UUID, tuple[float, UUID | None, DkimSigner | None]] = {}

    async def of(self, domain_id: UUID | None) -> DkimSigner | None:
        """None where the domain does not sign. Raises SealingError when its key cannot be opened."""
        if domain_id is None:
            return None
        until, _key_id, signer = self._known.get(domain_id, (0.0, None, None))
        if until > time.monotonic():
            return signer
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_KEY_OF_DOMAIN, [domain_id])).fetchone()
        return self._remember(domain_id, row)

    async def of_operator(self) -> DkimSigner | None:
        """The second signature, by which feedback loops know the service; None until the operator has set it up.

        A key that cannot be opened costs the signature and no mail: the author's own is what receivers judge by.
        """
        if not settings.FEEDBACK_DOMAIN:
            return None
        until, _key_id, signer = self._known.get(_OPERATOR, (0.0, None, None))
        if until > time.monotonic():
            return signer
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_KEY_OF_OPERATOR, [settings.FEEDBACK_DOMAIN])).fetchone()
        try:
            return self._remember(_OPERATOR, row)
        except (sealing.SealingError, ValueError) as error:
            log.error("operator_key_unreadable", domain=settings.FEEDBACK_DOMAIN, error=str(error))
            self._known[_OPERATOR] = (time.monotonic() + _REMEMBERED_S, None, None)
            return None

    def _remember(self, domain_id: UUID, row: Any) -> DkimSigner | None:
        _until, key_id, signer = self._known.get(domain_id, (0.0, None, None))
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
