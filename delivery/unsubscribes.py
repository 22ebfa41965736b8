"""Readers who say no: by their mail program's button (RFC 8058), on a page, or by mail. The stream stops at once.

A signed token names one recipient of one message; whoever holds it may unsubscribe that recipient, or subscribe it again,
and nobody else. Doing either twice changes nothing. A complaint is not taken back with it: that is said elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import NotFound
from delivery import suppressions
from delivery.core.states import EventKind
from delivery.core.unsubscribing import read_token
from delivery.models import DeliveryEvent, Message, Recipient, Stream, Suppression, SuppressionKind, SuppressionReason
from delivery.suppression_list import key_of
from delivery.suppressions import Cause, Owner, Target

log = structlog.get_logger(__name__)

MAIL, ONE_CLICK, PAGE = "mail", "one_click", "page"
_READER = Actor(name="the recipient")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Whom it is about, and the stream that wrote to them."""

    recipient: Recipient
    stream: Stream
    tenant: Tenant
    author: str = ""

    @property
    def owner(self) -> Owner:
        return Owner(self.tenant, self.stream)

    @property
    def target(self) -> Target:
        return Target(SuppressionKind.ADDRESS, key_of(self.recipient.address))


class Standing(StrEnum):
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    STOPPED = "stopped"  # for another reason, which this token does not lift


def recipient_of(token: str) -> UUID | None:
    """Whose token it is; None for anything that we have not signed."""
    return read_token(token.lower(), keys=sealing.derived_keys("unsubscribe"))


def standing_of(subscription: Subscription) -> Standing:
    """How the stream and the address stand to each other."""
    row = _suppression(subscription)
    if row is None:
        return Standing.SUBSCRIBED
    return Standing.UNSUBSCRIBED if row.reason == SuppressionReason.UNSUBSCRIBE else Standing.STOPPED


def subscribe_again(subscription: Subscription) -> bool:
    """It was a mistake: the stream writes to the address again. False where there was nothing to lift."""
    with transaction.atomic():
        Recipient.objects.select_for_update(of=("self",)).filter(pk=subscription.recipient.pk).first()
        row = _suppression(subscription)
        if row is None or row.reason != SuppressionReason.UNSUBSCRIBE:
            return False
        suppressions.remove(row, actor=_READER, reason="the recipient subscribed again")
    log.info("subscribed_again", recipient=str(subscription.recipient.pk))
    return True


def _suppression(subscription: Subscription) -> Suppression | None:
    target = subscription.target
    row = Suppression.objects.filter(
        owner_id=subscription.owner.id, kind=target.kind, value=target.value, removed_at=None
    ).first()
    return row if row is not None and row.is_active() else None


def find_of(recipient_id: UUID) -> Subscription:
    """Raises NotFound when the mail is so old that its history is gone."""
    recipient = Recipient.objects.select_related("tenant").filter(pk=recipient_id).first()
    message = Message.objects.filter(pk=recipient.message_id).first() if recipient is not None else None
    stream = Stream.objects.filter(pk=message.stream_id).first() if message is not None else None
    if recipient is None or stream is None:
        raise NotFound("The mail is too old: its history is gone.")
    return Subscription(recipient, stream, recipient.tenant, message.author if message is not None else "")


def unsubscribe(subscription: Subscription, *, how: str) -> bool:
    """The stream does not write to the address any more; False where it had stopped already."""
    recipient, stream = subscription.recipient, subscription.stream
    with transaction.atomic():
        # One at a time for a recipient, so that the event is told once.
        Recipient.objects.select_for_update(of=("self",)).filter(pk=recipient.pk).first()
        _row, changed = suppressions.add(
            subscription.owner,
            subscription.target,
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
