"""Mail that comes back: which mailboxes are ours, and keeping what arrives for them until a worker has read it.

A mailbox is taken only when it cannot be guessed (a signed bounce or unsubscribe mailbox) or has to exist (postmaster,
abuse, the report mailboxes). Once ``keep`` returns the mail is committed. What is kept is bounded: per signed mailbox, and
per hour for those that anybody can write to; beyond that the peer is put off and keeps its mail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import zstandard
from django.conf import settings

from accounts import clock, sealing
from accounts.identifiers import uuid7
from delivery.acceptance import doorbell
from delivery.acceptance.store import MessageStore
from delivery.core import replies, trace
from delivery.core.content import ContentError, read_header_section
from delivery.core.mailbox import NULL_REVERSE_PATH, Mailbox
from delivery.core.replies import Rejection
from delivery.core.unsubscribing import read_token, token_of
from delivery.core.verp import read_bounce_mailbox
from delivery.models.returned import ReturnedKind

# Each mail brings a handful of reports back at most.
MOST_PER_RECIPIENT = 20
MOST_UNSIGNED_PER_HOUR = 2_000
_COMPRESSED_IN_PLACE = 256 * 1024
_DOMAINS_REMEMBERED_S = 5.0

_NAMED = {
    "fbl": ReturnedKind.FEEDBACK,
    "dmarc": ReturnedKind.DMARC,
    "tlsrpt": ReturnedKind.TLS,
    "postmaster": ReturnedKind.POSTMASTER,
    "abuse": ReturnedKind.ABUSE,
}


@dataclass(frozen=True, slots=True)
class Known:
    """A mailbox of ours. ``recipient_id`` is whom a signed one names."""

    mailbox: Mailbox
    kind: ReturnedKind
    recipient_id: UUID | None = None


class Returns:
    """What a listener asks and where it keeps; one per process and event loop."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._bounce_keys = sealing.derived_keys("verp")
        self._unsubscribe_keys = sealing.derived_keys("unsubscribe")
        self._tenant_domains: frozenset[str] = frozenset()
        self._tenant_domains_until = 0.0

    @property
    def is_ready(self) -> bool:
        return self._store.is_ready

    async def recognise(self, mailbox: Mailbox) -> Known:
        """Raises Rejection for everything that is not ours, altered or too old: all of it is told the same."""
        known = await self._known(mailbox)
        if known is None:
            raise Rejection(replies.RECIPIENT_NOT_HERE)
        await self._ensure_room(known)
        return known

    async def keep(
        self, content: bytes, known: Sequence[Known], *, reverse_path: Mailbox | None, peer_address: str
    ) -> list[UUID]:
        """Commit it, once per mailbox. Raises Rejection for what loops, or is no mail at all."""
        try:
            section = read_header_section(content)
        except ContentError as error:
            raise Rejection(error.reply, reason=error.reason) from None
        if trace.count_received(section) > settings.MAX_HOPS:
            raise Rejection(replies.MAIL_LOOP)
        compressed = await _compress(content)
        ids = [uuid7() for _mailbox in known]
        sql = """INSERT INTO delivery_returnedmail (id, received_at, kind, mailbox, recipient_id, reverse_path, peer_address,
                                                    size_bytes, compressed, tries, outcome)
                 SELECT id, now(), kind, mailbox, recipient_id, %s, %s::inet, %s, %s, 0, ''
                 FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[]) AS new (id, kind, mailbox, recipient_id)"""
        async with self._store.pool.connection() as connection:
            await connection.execute(
                sql,
                [
                    reverse_path.address if reverse_path else NULL_REVERSE_PATH,
                    peer_address,
                    len(content),
                    compressed,
                    ids,
                    [one.kind.value for one in known],
                    [one.mailbox.address for one in known],
                    [one.recipient_id for one in known],
                ],
            )
        doorbell.ring_for_reports()
        return ids

    async def _known(self, mailbox: Mailbox) -> Known | None:
        own = {settings.BOUNCE_DOMAIN, settings.HOSTNAME.lower()}
        if mailbox.domain not in own and mailbox.domain not in await self._bounce_hosts():
            return None
        named = _NAMED.get(mailbox.local_part.lower())
        if named is not None:
            return Known(mailbox, named)
        tag = read_bounce_mailbox(mailbox, keys=self._bounce_keys)
        if tag is not None and tag.expires_on >= clock.now().date():
            return Known(mailbox, ReturnedKind.BOUNCE, tag.recipient_id)
        token = token_of(mailbox)
        recipient_id = read_token(token, keys=self._unsubscribe_keys) if token else None
        return Known(mailbox, ReturnedKind.UNSUBSCRIBE, recipient_id) if recipient_id else None

    async def _bounce_hosts(self) -> frozenset[str]:
        """The tenants' own bounce domains."""
        if time.monotonic() >= self._tenant_domains_until:
            sql = """SELECT DISTINCT bounce_host FROM delivery_sendingdomain
                     WHERE bounce_host <> '' AND state IN ('verified', 'lapsed')"""
            async with self._store.pool.connection() as connection:
                rows = await (await connection.execute(sql)).fetchall()
            self._tenant_domains = frozenset(row[0] for row in rows)
            self._tenant_domains_until = time.monotonic() + _DOMAINS_REMEMBERED_S
        return self._tenant_domains

    async def _ensure_room(self, known: Known) -> None:
        if known.recipient_id is not None:
            sql = "SELECT count(*) FROM (SELECT 1 FROM delivery_returnedmail WHERE recipient_id = %s LIMIT %s) AS kept"
            most, arguments = MOST_PER_RECIPIENT, [known.recipient_id, MOST_PER_RECIPIENT]
        else:
            sql = """SELECT count(*) FROM (SELECT 1 FROM delivery_returnedmail
                     WHERE kind = %s AND received_at > now() - interval '1 h' LIMIT %s) AS kept"""
            most, arguments = MOST_UNSIGNED_PER_HOUR, [known.kind.value, MOST_UNSIGNED_PER_HOUR]
        async with self._store.pool.connection() as connection:
            row = await (await connection.execute(sql, arguments)).fetchone()
        if row is not None and row[0] >= most:
            raise Rejection(replies.STORAGE_SHORT, reason="too_many_returned")


async def _compress(content: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1)
    if len(content) <= _COMPRESSED_IN_PLACE:
        return compressor.compress(content)
    return await asyncio.to_thread(compressor.compress, content)
