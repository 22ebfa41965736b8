"""A copy of a message as a new message: for recipients who did not get it, or should get it once more.

It goes through acceptance like any other mail, so limits, suppressions and the checks of author and size apply as they stand
now. The copy has a Date and a Message-ID of its own, without which receivers take it for the mail they had before; everything
else is as it was handed over. What is still open is not sent again: it can be retried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from uuid import UUID

from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.authentication import Principal
from accounts.models import CredentialUse
from accounts.refusals import Refused
from delivery import history
from delivery.acceptance.submission import Controls, Once, Peer, Submission, TlsRequirement
from delivery.core.content import read_header_section
from delivery.core.envelope import Envelope, EnvelopeRecipient
from delivery.core.mailbox import parse_mailbox
from delivery.core.states import FINAL, RecipientState
from delivery.core.trace import own_id_of
from delivery.models import Message, Recipient

_MADE_ANEW = frozenset({"date", "message-id"})


class Chosen(StrEnum):
    """Which recipients of a message get the copy; only those with a result."""

    NOT_ACCEPTED = "not_accepted"
    ALL = "all"


def recipients_for(message: Message, chosen: Chosen, *, recipient_id: UUID | None = None) -> list[Recipient]:
    """In the order of acceptance; with ``recipient_id`` that one alone, if it has a result."""
    found = Recipient.objects.of(message.tenant_id).filter(message_id=message.id, state__in=[*FINAL])
    if recipient_id is not None:
        return list(found.filter(pk=recipient_id))
    if chosen == Chosen.NOT_ACCEPTED:
        found = found.exclude(state=RecipientState.DELIVERED)
    return list(found.order_by("id"))


def copy_of(
    message: Message, recipients: Sequence[Recipient], *, principal: Principal, peer: Peer, key: str = ""
) -> Submission:
    """The submission that makes the copy. With a ``key`` it happens once, however often it is handed over.

    Raises Refused where the content is not kept any more, or nobody is to get it.
    """
    if not recipients:
        raise Refused(_("There is nobody to send it to: no recipient has a result yet."), reason="nobody_chosen")
    content = history.content_of(message)
    if content is None:
        raise Refused(
            _(
                "The content of this mail is not kept any more, so it cannot be sent again. Send it anew from your program."
            ),
            reason="content_gone",
        )
    reverse_path = parse_mailbox(message.reverse_path) if message.reverse_path else None
    if reverse_path is None:
        # It was allowed when it was handed over.
        principal = replace(principal, credential_use=CredentialUse.MAIL_SERVER.value)
    envelope = Envelope(
        reverse_path=reverse_path,
        recipients=tuple(map(_envelope_recipient, recipients)),
        body=message.body_type,
        smtputf8=message.needs_smtputf8,
        ret=message.dsn_ret or None,
        envid=message.dsn_envid or None,
    )
    return Submission(
        principal=replace(principal, is_test=principal.is_test or message.is_test),
        envelope=envelope,
        content=_as_handed_over(content, message.id),
        peer=peer,
        controls=Controls(
            tags=tuple(message.tags),
            metadata=message.metadata,
            stream=message.stream.name,
            tls=TlsRequirement(message.tls) if message.tls else None,
            once=Once(key, _digest(message, recipients), is_in_mail=True) if key else None,
        ),
    )


def note_sent_again(message: Message, recipients: Sequence[Recipient], *, copy_id: UUID, actor: Actor) -> None:
    """After acceptance, which has a transaction of its own."""
    audit.record(
        actor,
        "message.send_again",
        tenant=message.tenant,
        object_id=message.id,
        object_name=message.id.hex[:8],
        after={"copy": copy_id, "recipients": len(recipients)},
    )


def _envelope_recipient(recipient: Recipient) -> EnvelopeRecipient:
    notify = None if recipient.dsn_notify is None else frozenset(recipient.dsn_notify)
    return EnvelopeRecipient(parse_mailbox(recipient.address), notify=notify, orcpt=recipient.dsn_orcpt or None)


def _as_handed_over(content: bytes, message_id: UUID) -> bytes:
    """Without the Received field we put on it, which would be seen as a loop, and without what is made anew."""
    section = read_header_section(content)
    gone = [
        field
        for field in section.fields
        if field.name.lower() in _MADE_ANEW or (field.name.lower() == "received" and own_id_of(field) == message_id)
    ]
    header, _section = section.without(gone)
    return header + content[section.body_start :]


def _digest(message: Message, recipients: Sequence[Recipient]) -> bytes:
    return hashlib.sha256(b"again" + message.id.bytes + b"".join(one.id.bytes for one in recipients)).digest()
