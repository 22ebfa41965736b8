"""Readers who say no, by mail to a signed mailbox. The stream they read stops writing to them, at once.

The mailbox names one recipient of one message; whoever holds it may unsubscribe that recipient and nobody else. Doing it
twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import NotFound
from delivery import suppressions
from delivery.core.states import EventKind
from delivery.models import DeliveryEvent, Message, Recipient, Stream, SuppressionKind, SuppressionReason
from delivery.suppression_list import key_of
from delivery.suppressions import Cause, Owner, Target

log = structlog.get_logger(__name__)

MAIL = "mail"
_READER = Actor(name="the recipient")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom it is about, and the stream that wrote to them."""

    recipient: Recipient
    stream: Stream
    tenant: Tenant


def find_of(recipient_id: UUID) -> Subscription:
    """Raises NotFound when the mail is so old that its history is gone."""
    recipient = Recipient.objects.select_related("tenant").filter(pk=recipient_id).first()
    message = Message.objects.filter(pk=recipient.message_id).first() if recipient is not None else None
    stream = Stream.objects.filter(pk=message.stream_id).first() if message is not None else None
    if recipient is None or stream is None:
        raise NotFound("The mail is too old: its history is gone.")
    return Subscription(recipient, stream, recipient.tenant)


def unsubscribe(subscription: Subscription, *, how: str) -> bool:
    """The stream does not write to the address any more; False where it had stopped already."""
    recipient, stream = subscription.recipient, subscription.stream
    with transaction.atomic():
        # One at a time for a recipient, so that the event is told once.
        Recipient.objects.select_for_update(of=("self",)).filter(pk=recipient.pk).first()
        _row, changed = suppressions.add(
            Owner(subscription.tenant, stream),
            Target(SuppressionKind.ADDRESS, key_of(recipient.address)),
            Cause(
                SuppressionReason.UNSUBSCRIBE,
                detail=how,
                message_id=recipient.message_id,
                recipient_id=recipient.pk,
            ),
            actor=_READER,
        )
        if changed:
            DeliveryEvent.objects.create(
                message_id=recipient.message_id,
                id=uuid7(),
                recipient_id=recipient.pk,
                tenant_id=recipient.tenant_id,
                kind=EventKind.UNSUBSCRIBED,
                occurred_at=timezone.now(),
                data={"how": how, "stream": stream.name},
            )
    if changed:
        log.info("unsubscribed", recipient=str(recipient.pk), how=how)
    return changed
