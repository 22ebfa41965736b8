"""A report that mail failed after it had been delivered: recorded beside the state, which stays, once per recipient.

Whom it is about is said by the signed mailbox it came to and by nothing in it. A report that names somebody else, as when
the recipient had forwarded the mail, is recorded too, but speaks against no address.
"""

from __future__ import annotations

from django.utils import timezone

from accounts.identifiers import uuid7
from delivery import history, strikes
from delivery.core.classification import Action, ReplyClass
from delivery.core.content import ContentError, read_header_section
from delivery.core.dsn import DsnAction
from delivery.core.notices import is_automatic
from delivery.core.reports import Kind, Report, ReportedRecipient
from delivery.core.states import EventKind, RecipientState
from delivery.models import DeliveryEvent, Message, OwedAction, Recipient, ReturnedMail
from delivery.reports import owed
from delivery.suppression_list import key_of

STILL_OPEN = "still_open"
_MOST_CHARACTERS = 500

# What a report says at second hand and not for good counts only where it speaks of the mailbox.
_COUNTED = frozenset(
    {
        ReplyClass.BAD_MAILBOX,
        ReplyClass.BAD_DOMAIN,
        ReplyClass.INACTIVE,
        ReplyClass.MAILBOX_FULL,
        ReplyClass.RECIPIENT_FILTER,
    }
)


def take(row: ReturnedMail, report: Report) -> str:
    """Inside a transaction; returns what it was, as a machine word."""
    assert row.recipient_id is not None  # the listener takes no other for a bounce mailbox
    recipient = Recipient.objects.select_for_update(of=("self",)).filter(pk=row.recipient_id).first()
    if recipient is None:
        return "unknown"
    failed = [one for one in report.rows if one.kind is Kind.BOUNCE and one.action is not DsnAction.DELAYED]
    if not failed:
        return "delayed"
    if not RecipientState(recipient.state).is_final:
        return STILL_OPEN
    if recipient.state != RecipientState.DELIVERED:
        return "not_delivered"
    if recipient.returned_at is not None:
        return "again"
    own = next((one for one in failed if _is_about(one, recipient)), None)
    _record(recipient, own or failed[0], report, row)
    if own is not None:
        _strike(recipient, own)
    if _asked_for_failures(recipient):
        owed.owe(recipient, OwedAction.RETURNED, returned_id=row.pk)
    return "returned" if own is not None else "returned_elsewhere"


def _asked_for_failures(recipient: Recipient) -> bool:
    """The mail left with a reverse-path of ours, so that the report came here: it is passed on to whoever asked for it."""
    message = Message.objects.filter(pk=recipient.message_id).first()
    if message is None or "FAILURE" not in (recipient.dsn_notify or ()):
        return False
    content = history.content_of(message)
    try:
        is_silent = content is not None and is_automatic(read_header_section(content))
    except ContentError:
        is_silent = True
    return bool(message.reverse_path) and not is_silent


def _is_about(reported: ReportedRecipient, recipient: Recipient) -> bool:
    return key_of(recipient.address) in {key_of(reported.address), key_of(reported.original)}


def _record(recipient: Recipient, reported: ReportedRecipient, report: Report, row: ReturnedMail) -> None:
    now = timezone.now()
    reply_class = reported.reply_class or ReplyClass.UNCLASSIFIED
    Recipient.objects.filter(pk=recipient.pk, returned_at=None).update(
        returned_at=now, returned_class=reply_class.value
    )
    DeliveryEvent.objects.create(
        message_id=recipient.message_id,
        id=uuid7(),
        recipient_id=recipient.pk,
        tenant_id=recipient.tenant_id,
        kind=EventKind.RETURNED,
        occurred_at=now,
        data={
            "class": reply_class.value,
            "reply": _plain(_reply_of(reported)),
            "reported_by": _plain(report.reporting_host),
            "returned": str(row.pk),
        },
    )


def _strike(recipient: Recipient, reported: ReportedRecipient) -> None:
    if reported.reply_class is None or reported.reply_class not in _COUNTED:
        return
    action = Action.FAIL_AND_SUPPRESS if reported.is_hard else Action.FAIL_AND_COUNT
    strikes.note(
        recipient,
        reply_class=reported.reply_class.value,
        action=action,
        detail=_plain(_reply_of(reported)),
        now=timezone.now(),
    )


def _reply_of(reported: ReportedRecipient) -> str:
    return " ".join(word for word in (reported.reply_code, reported.status, reported.diagnostic) if word)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:_MOST_CHARACTERS]
