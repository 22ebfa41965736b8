"""Complaints: what recipients tell their provider about our mail, believed only with something in it that we have signed.

The identity of the mail is the bounce mailbox in the enclosed copy (its Return-Path, or the report's Original-Mail-From),
or, where the mail left with its client's own reverse-path, the token in its header section: receivers redact everything
else. A complaint stops the stream it is about; reports that are not from an unhappy reader
(``not-spam``, ``auth-failure``) are counted and stop nothing.
"""

from __future__ import annotations

import re
from datetime import date
from uuid import UUID

import structlog
from django.utils import timezone

from accounts import sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from delivery import suppressions
from delivery.core.reports import Kind, Report
from delivery.core.states import EventKind
from delivery.core.verp import read_bounce_mailbox, read_feedback_token
from delivery.models import (
    Complaint,
    DeliveryEvent,
    Message,
    Recipient,
    ReturnedMail,
    Stream,
    SuppressionKind,
    SuppressionReason,
)
from delivery.suppression_list import key_of
from delivery.suppressions import Cause, Owner, Target

log = structlog.get_logger(__name__)

# RFC 5965 §7.3, and what receivers use beside it.
STOPPING = frozenset({"abuse", "fraud", "virus", "opt-out", "opt-out-list", "other"})
_REDACTED = re.compile(r"redact|removed|hidden|anonym|\*|^x+$|^[0-9a-f]{16,}$", re.IGNORECASE)


def take(row: ReturnedMail, report: Report) -> str:
    """Inside a transaction; returns what it was, as a machine word."""
    recipient_id = _signed_recipient(row, report, today=timezone.now().date())
    if recipient_id is None:
        log.warning("complaint_without_our_signature", returned=str(row.pk))
        return "not_ours"
    recipient = Recipient.objects.select_for_update(of=("self",)).filter(pk=recipient_id).first()
    if recipient is None:
        return "unknown"
    if not _may_be_about(report, recipient):
        log.warning("complaint_names_somebody_else", returned=str(row.pk), recipient=str(recipient.pk))
        return "names_somebody_else"
    feedback_type = next((one.feedback_type for one in report.rows if one.kind is Kind.COMPLAINT), "") or "abuse"
    message = Message.objects.filter(pk=recipient.message_id).first()
    stream = Stream.objects.filter(pk=message.stream_id).first() if message is not None else None
    _complaint, is_new = Complaint.objects.get_or_create(
        recipient_id=recipient.pk,
        feedback_type=feedback_type[:32],
        defaults={
            "tenant_id": recipient.tenant_id,
            "stream": stream,
            "domain_id": message.domain_id if message is not None else None,
            "group_id": recipient.group_id,
            "message_id": recipient.message_id,
            "received_at": row.received_at,
        },
    )
    if not is_new:
        return "again"
    if feedback_type not in STOPPING:
        return f"counted:{feedback_type}"
    _tell(recipient, feedback_type)
    if stream is not None:
        _stop(recipient, stream, feedback_type)
    return "complained"


def _signed_recipient(row: ReturnedMail, report: Report, *, today: date) -> UUID | None:
    """The one recipient whom we have signed for; a report that names several proves none of them."""
    keys = sealing.derived_keys("verp")
    tags = [read_bounce_mailbox(mailbox, keys=keys) for mailbox in report.bounce_mailboxes]
    keys = sealing.derived_keys("feedback")
    tags += [read_feedback_token(token, keys=keys) for token in report.feedback_tokens]
    found = {tag.recipient_id for tag in tags if tag is not None and tag.expires_on >= today}
    if row.recipient_id is not None:
        found.add(row.recipient_id)
    return found.pop() if len(found) == 1 else None


def _may_be_about(report: Report, recipient: Recipient) -> bool:
    named = [one.address for one in report.rows if one.address and not _is_redacted(one.address)]
    return not named or key_of(recipient.address) in {key_of(address) for address in named}


def _is_redacted(address: str) -> bool:
    local_part, _at, domain = address.rpartition("@")
    return bool(_REDACTED.search(local_part) or _REDACTED.search(domain))


def _tell(recipient: Recipient, feedback_type: str) -> None:
    DeliveryEvent.objects.create(
        message_id=recipient.message_id,
        id=uuid7(),
        recipient_id=recipient.pk,
        tenant_id=recipient.tenant_id,
        kind=EventKind.COMPLAINED,
        occurred_at=timezone.now(),
        data={"feedback_type": feedback_type},
    )


def _stop(recipient: Recipient, stream: Stream, feedback_type: str) -> None:
    suppressions.add(
        Owner(recipient.tenant, stream),
        Target(SuppressionKind.ADDRESS, key_of(recipient.address)),
        Cause(
            SuppressionReason.COMPLAINT,
            detail=feedback_type,
            message_id=recipient.message_id,
            recipient_id=recipient.pk,
        ),
        actor=Actor.system("complaints"),
    )
