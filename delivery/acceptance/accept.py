"""The steps of acceptance, the same for SMTP, the API and the service's own mail.

Once ``accept_submission`` returns, the message is committed and the client may forget it. Until then every trouble is a
``Rejection`` (the client's fault, or a limit) or an exception (ours: the door answers 451 or 503), and nothing is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import zstandard
from django.conf import settings

from accounts import clock
from accounts.authentication import Principal
from accounts.identifiers import uuid7
from delivery.acceptance import controls, once
from delivery.acceptance.message import Receipt
from delivery.acceptance.once import AlreadyAccepted
from delivery.acceptance.policies import AT_CONTENT, AT_MAIL, AT_RECIPIENT
from delivery.acceptance.policies.draft import Draft
from delivery.acceptance.store import MessageStore, NewMessage, NewRecipient
from delivery.acceptance.submission import Once, Submission
from delivery.core import replies, trace
from delivery.core.content import ContentError, author_of, check_lines, display_text, read_header_section
from delivery.core.envelope import Envelope, MailCommand, RcptCommand
from delivery.core.notices import is_automatic, notices_of
from delivery.core.replies import Rejection

# Reading or compressing this much takes about a millisecond; more is done off the event loop.
_READ_IN_PLACE = _COMPRESSED_IN_PLACE = 256 * 1024
# RFC 5322 §2.1.1: what fits on one line.
_LONGEST_MESSAGE_ID_OCTETS = 998


async def check_mail(mail: MailCommand, *, principal: Principal, store: MessageStore) -> None:
    """Refuse at MAIL what is certain by then. Raises Rejection."""
    for policy in AT_MAIL:
        await policy(mail, principal=principal, store=store)


async def check_recipient(recipient: RcptCommand, *, principal: Principal, store: MessageStore) -> None:
    """Refuse at RCPT what is certain by then. Raises Rejection."""
    for policy in AT_RECIPIENT:
        await policy(recipient, principal=principal, store=store)


async def accept_submission(submission: Submission, *, store: MessageStore) -> UUID:
    """Take responsibility for a message; returns its id once it is committed. Raises Rejection."""
    return (await accept_with_receipt(submission, store=store)).message_id


async def accept_with_receipt(submission: Submission, *, store: MessageStore) -> Receipt:
    """The same, with the ids of the recipients. Raises Rejection, or AlreadyAccepted for a key that was used."""
    draft = await checked_draft(submission, store=store)
    message = await complete(draft, store=store)
    try:
        await store.commit(message)
    except AlreadyAccepted:
        if message.controls.once is None or not message.controls.once.is_in_mail:
            raise
        return await _what_it_became(message.controls.once, principal=submission.principal, store=store)
    return message.receipt


async def checked_draft(submission: Submission, *, store: MessageStore) -> Draft:
    """Everything that acceptance asks before it stores; nothing was promised yet. Raises Rejection."""
    # The whole content is read over; a large one must not hold up everybody else on the loop.
    is_small = len(submission.content) <= _READ_IN_PLACE
    draft = read_draft(submission) if is_small else await asyncio.to_thread(read_draft, submission)
    await _choose_stream(draft, store=store)
    await _choose_pool(draft, store=store)
    for policy in AT_CONTENT:
        await policy(draft, store=store)
    return draft


async def _choose_stream(draft: Draft, *, store: MessageStore) -> None:
    """A mail may choose a stream of its tenant's; the pool that a credential names stays."""
    principal, name = draft.submission.principal, draft.submission.controls.stream
    if not name:
        return
    stream = await store.stream_named(principal.tenant_id, name)
    if stream is None:
        raise Rejection(replies.STREAM_UNKNOWN, detail=name)
    principal = replace(principal, stream_id=stream.id, pool_id=principal.own_pool_id or stream.pool_id)
    draft.submission = replace(draft.submission, principal=principal)


async def _choose_pool(draft: Draft, *, store: MessageStore) -> None:
    """A mail may choose among the pools its tenant has or uses, unless its credential leaves it no choice."""
    principal, name = draft.submission.principal, draft.submission.controls.pool
    if not name:
        return
    pool_id = await store.pool_named(principal.tenant_id, name, instead_of=principal.pool_id)
    if pool_id is None or principal.own_pool_id not in (None, pool_id):
        raise Rejection(replies.POOL_NOT_ALLOWED, detail=name)
    draft.submission = replace(draft.submission, principal=replace(principal, pool_id=pool_id))


def read_draft(submission: Submission) -> Draft:
    """The submission with its header section read, and its controls taken out of that.

    Raises Rejection where it cannot be read safely, or a control cannot be honoured.
    """
    try:
        check_lines(submission.content)
        section = read_header_section(submission.content)
        author = author_of(section)
    except ContentError as error:
        raise Rejection(error.reply, reason=error.reason) from None
    return _without_control_fields(Draft(submission=submission, section=section, author=author))


def _without_control_fields(draft: Draft) -> Draft:
    submission, section = draft.submission, draft.section
    control_fields = [field for field in section.fields if controls.is_control(field.name)]
    if not control_fields:
        return draft
    said = controls.taken_from(section, digest=lambda: _digest(draft), now=clock.now())
    header, section = section.without(control_fields)
    return replace(
        draft,
        section=section,
        submission=replace(
            submission,
            content=header + submission.content[draft.section.body_start :],
            controls=controls.combine(submission.controls, said),
        ),
    )


def _digest(draft: Draft) -> bytes:
    """What makes it the same mail: a program that tries again writes a new Date, Message-ID and boundary each time."""
    subject = display_text(draft.section.first_value("subject") or b"")
    recipients = sorted(recipient.mailbox.address for recipient in draft.submission.envelope.merged().recipients)
    said = "\n".join(["mail", draft.author.mailbox.address, subject, *recipients])
    return hashlib.sha256(said.encode("utf-8", "replace")).digest()


async def _what_it_became(key: Once, *, principal: Principal, store: MessageStore) -> Receipt:
    earlier = await once.known(store.pool, principal.tenant_id, key)
    if any(known.digest != key.digest for known in earlier.values()):
        raise Rejection(replies.IDEMPOTENCY_KEY_REUSED)
    if key.position not in earlier:
        # Whoever had the key may have failed after all: then it is free again.
        raise Rejection(replies.LOCAL_TROUBLE)
    return earlier[key.position].receipt


async def complete(draft: Draft, *, store: MessageStore) -> NewMessage:
    """The message as it will be stored: with trace, with Date and Message-ID where missing, compressed."""
    now = clock.now()
    submission, principal = draft.submission, draft.submission.principal
    envelope = submission.envelope.merged()
    message_id = uuid7(now)
    added = _Added.to(draft, message_id=message_id, now=now)
    stream = await store.stream(principal.stream_id)
    stream_lifetime = timedelta(seconds=stream.lifetime_s)
    send_at = submission.controls.send_at
    lifetime = min(submission.controls.lifetime or stream_lifetime, stream_lifetime)
    return NewMessage(
        id=message_id,
        principal=principal,
        domain_id=draft.signing_domain_id,
        accepted_at=now,
        expires_at=max(send_at or now, now) + lifetime,
        pool_id=principal.pool_id or store.default_pool_id,
        envelope=envelope,
        recipients=_recipients(draft, envelope, message_id=message_id),
        author=draft.author.mailbox.address,
        author_domain=draft.author.mailbox.domain,
        subject=display_text(draft.section.first_value("subject") or b""),
        header_message_id=added.header_message_id,
        size_bytes=len(added.fields) + len(submission.content),
        compressed=await compress(added.fields, submission.content),
        peer=submission.peer,
        controls=submission.controls,
        stream_lifetime=stream_lifetime,
    )


def _recipients(draft: Draft, envelope: Envelope, *, message_id: UUID) -> tuple[NewRecipient, ...]:
    is_silent = is_automatic(draft.section)
    return tuple(
        NewRecipient.of(
            recipient,
            message_id=message_id,
            notices=notices_of(
                reverse_path=envelope.reverse_path,
                notify=recipient.notify,
                keeps_reverse_path=draft.keeps_reverse_path,
                is_automatic=is_silent,
            ),
        )
        for recipient in envelope.recipients
    )


@dataclass(frozen=True, slots=True)
class _Added:
    """What we put above the received header section (RFC 5321 §4.4; RFC 6409 §8.2, §8.3)."""

    fields: bytes
    header_message_id: str

    @classmethod
    def to(cls, draft: Draft, *, message_id: UUID, now: datetime) -> _Added:
        peer = draft.submission.peer
        fields = trace.received_field(
            ehlo=peer.ehlo,
            peer=peer.address or "",
            by=settings.HOSTNAME,
            protocol=peer.protocol,
            message_id=message_id,
            now=now,
            tls=peer.tls,
        )
        if not draft.section.all("date"):
            fields += trace.date_field(now)
        given = draft.section.first_value("message-id")
        if given is not None:
            return cls(fields, _within_index(display_text(given)))
        made = trace.message_id_field(message_id, draft.author.mailbox.domain)
        return cls(fields + made, made.partition(b":")[2].strip().decode("ascii"))


def _within_index(header_message_id: str) -> str:
    """Found again by its beginning: an index of PostgreSQL takes no more than a third of a page."""
    return header_message_id.encode("utf-8", "replace")[:_LONGEST_MESSAGE_ID_OCTETS].decode("utf-8", "ignore")


class _Compressor(threading.local):
    """One for each thread, since it serves one at a time; making one costs as much as a small mail."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1).compress


_compressor = _Compressor()


async def compress(*parts: bytes) -> bytes:
    whole = b"".join(parts)
    if len(whole) <= _COMPRESSED_IN_PLACE:
        return _compressor.compress(whole)
    return await asyncio.to_thread(lambda: _compressor.compress(whole))
