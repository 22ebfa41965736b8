"""Reports we owe: delivery status notifications to original reverse-paths, each written once, whoever dies in between.

What is owed was noted in the transaction that settled the recipient (delivery.settlement). Here it is claimed for a while,
put together with what else is owed for the same mail, and handed to acceptance like any mail of the tenant's: with the null
reverse-path, so that nothing ever answers it, and under a key that is claimed with its commit. A worker that dies before
the commit leaves it to the next; one that dies after it is told that the report exists already.

A report that acceptance refuses (a suspended tenant, a quota, a domain that lapsed) is tried again until it is of no use.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override
from psycopg_pool import PoolTimeout

from accounts.identifiers import uuid7
from accounts.models import Tenant
from delivery import history, tenants
from delivery.acceptance.committer import StoreClosed
from delivery.acceptance.door import accept_from_thread, accepted_before
from delivery.acceptance.once import AlreadyAccepted
from delivery.acceptance.submission import Controls, Once, Peer, Submission
from delivery.core import replies
from delivery.core.compose import Named
from delivery.core.dsn import DsnAction
from delivery.core.dsn_writing import Notification, Told, write_notification
from delivery.core.envelope import BODY_7BIT, BODY_8BITMIME, Envelope, EnvelopeRecipient
from delivery.core.mailbox import Mailbox
from delivery.core.replies import Rejection
from delivery.core.reply import Origin
from delivery.core.states import EventKind, RecipientState
from delivery.models import (
    Attempt,
    DeliveryEvent,
    Message,
    OwedAction,
    OwedDsn,
    Recipient,
    SendingDomain,
)

log = structlog.get_logger(__name__)

# A report about a mail older than this helps nobody any more.
GIVEN_UP_AFTER = timedelta(days=5)
KEPT = timedelta(days=30)
WRITTEN, OVERTAKEN, GIVEN_UP, GONE = "written", "overtaken", "given_up", "gone"

_AT_ONCE = 100
_CLAIMED_FOR = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(hours=1)
_MOST_TOLD_IN_TEXT = 20
# RFC 3463: delivery time expired; not authorised.
_OF_STATE = {RecipientState.EXPIRED: "4.4.7", RecipientState.SUPPRESSED: "5.7.1"}
_STATUS = re.compile(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.])")
_TROUBLE = (TimeoutError, OSError, DatabaseError, psycopg.Error, PoolTimeout, StoreClosed)


def write_waiting(*, most: int = 1_000) -> int:
    """Write the reports that are due; returns how many were handled. Stops early where acceptance is in trouble."""
    handled = 0
    while handled < most:
        reports = _claim()
        for report_id in reports:
            if not _write(report_id):
                return handled
            handled += 1
        if not reports:
            break
    return handled


def forget_old(*, now: datetime | None = None) -> int:
    return OwedDsn.objects.filter(written_at__lt=(now or timezone.now()) - KEPT).delete()[0]


def owe(recipient: Recipient, action: OwedAction, *, returned_id: UUID | None = None) -> None:
    """In the transaction that makes it true; once per recipient and action."""
    now = timezone.now()
    OwedDsn.objects.bulk_create(
        [
            OwedDsn(
                tenant_id=recipient.tenant_id,
                message_id=recipient.message_id,
                recipient_id=recipient.pk,
                action=action,
                happened_at=now,
                due_at=now,
                returned_id=returned_id,
            )
        ],
        ignore_conflicts=True,
    )


# ---------------------------------------------------------------- claiming


def _claim() -> list[UUID]:
    """In a transaction of its own: what is told together is decided once, and holds over every retry."""
    with transaction.atomic():
        rows = list(
            OwedDsn.objects.select_for_update(skip_locked=True)
            .filter(written_at=None, due_at__lte=timezone.now())
            .order_by("due_at", "id")[:_AT_ONCE]
        )
        together: dict[tuple[UUID, str], UUID] = defaultdict(uuid7)
        for row in rows:
            row.report_id = row.report_id or together[row.message_id, row.action]
            row.due_at = timezone.now() + _CLAIMED_FOR
            row.tries = min(row.tries + 1, 1000)
        OwedDsn.objects.bulk_update(rows, ["report_id", "due_at", "tries"])
    return list(dict.fromkeys(row.report_id for row in rows if row.report_id is not None))


def _write(report_id: UUID) -> bool:
    """False where nothing can be handed over at present, so that the others need not be tried."""
    rows = list(OwedDsn.objects.filter(report_id=report_id, written_at=None).order_by("id"))
    if not rows:
        return True
    try:
        submission = _submission(report_id, rows)
        if isinstance(submission, str):
            return _finish(report_id, submission)
        told_in = _hand_over(submission)
    except Rejection as rejection:
        if rejection.reply is replies.LOCAL_TROUBLE:
            return False
        log.info("report_not_accepted", report=str(report_id), reason=rejection.reason, detail=rejection.detail)
        return _later(report_id, rows)
    except _TROUBLE as error:
        log.warning("report_not_written", report=str(report_id), error=str(error), kind=type(error).__name__)
        return False
    except Exception:
        # The edge: what cannot be told about one mail must not keep the others from being told.
        log.exception("report_not_composed", report=str(report_id))
        return _later(report_id, rows)
    return _finish(report_id, WRITTEN, told_in=told_in)


def _hand_over(submission: Submission) -> UUID | None:
    """The message that is the report, also if a worker handed it over before it died; None where that is long ago."""
    try:
        return accept_from_thread(submission)
    except AlreadyAccepted:
        key = submission.controls.once
        known = accepted_before(submission.principal.tenant_id, key) if key is not None else {}
        return known[0].receipt.message_id if 0 in known else None


def _finish(report_id: UUID, outcome: str, *, told_in: UUID | None = None) -> bool:
    OwedDsn.objects.filter(report_id=report_id, written_at=None).update(
        written_at=timezone.now(), outcome=outcome, told_in=told_in
    )
    log.info("report_handled", report=str(report_id), outcome=outcome)
    return True


def _later(report_id: UUID, rows: Sequence[OwedDsn]) -> bool:
    now = timezone.now()
    if now - rows[0].happened_at > GIVEN_UP_AFTER:
        return _finish(report_id, GIVEN_UP)
    pause = min(timedelta(minutes=1) * 2 ** min(rows[0].tries, 10), _LONGEST_PAUSE)
    OwedDsn.objects.filter(report_id=report_id, written_at=None).update(due_at=now + pause)
    return True


# ---------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class _Case:
    """One recipient: what is told to machines, and what people read where no host said anything."""

    told: Told
    own_words: str = ""
    is_suppressed: bool = False


def _submission(report_id: UUID, rows: Sequence[OwedDsn]) -> Submission | str:
    """The report, or why there is nothing to report."""
    message = Message.objects.select_related("tenant").filter(pk=rows[0].message_id).first()
    recipients = {one.pk: one for one in Recipient.objects.filter(pk__in=[row.recipient_id for row in rows])}
    if message is None or not message.reverse_path:
        return GONE
    action = OwedAction(rows[0].action)
    cases = _cases(action, rows, recipients, message)
    if not cases:
        return OVERTAKEN if recipients else GONE
    reverse_path = Mailbox.from_address(message.reverse_path)
    content = _compose(message, action, cases, reverse_path)
    principal = tenants.principal_of(message.tenant, as_mail_server=True)
    return Submission(
        principal=principal,
        envelope=Envelope(
            reverse_path=None,
            recipients=(EnvelopeRecipient(reverse_path),),
            body=BODY_7BIT if content.isascii() else BODY_8BITMIME,
            smtputf8=not reverse_path.is_ascii,
        ),
        content=content,
        peer=Peer(address=None, ehlo=settings.HOSTNAME, protocol="SYSTEM"),
        controls=Controls(once=Once(key=f"dsn-{report_id}", digest=report_id.bytes)),
    )


def _compose(message: Message, action: OwedAction, cases: Sequence[_Case], reverse_path: Mailbox) -> bytes:
    own = SendingDomain.objects.filter(pk__in=[message.domain_id]).values_list("name", flat=True).first()
    subject, text = _in_words(message.tenant, message, action, cases)
    return write_notification(
        Notification(
            author=Named(Mailbox("mailer-daemon", own or reverse_path.domain), "Mail Delivery System"),
            to=reverse_path,
            subject=subject,
            text=text,
            told=[case.told for case in cases],
            reporting_host=settings.HOSTNAME,
            arrived_at=message.accepted_at,
            boundary=f"report-{secrets.token_hex(16)}",
            envelope_id=message.dsn_envid,
            references=message.header_message_id,
            returned=history.content_of(message),
            # RFC 3461 §4.3: RET is about failures alone.
            returns_all=message.dsn_ret == "FULL" and action in (OwedAction.FAILED, OwedAction.RETURNED),
        )
    )


def _cases(
    action: OwedAction, rows: Sequence[OwedDsn], recipients: dict[UUID, Recipient], message: Message
) -> list[_Case]:
    known = [recipients[row.recipient_id] for row in rows if row.recipient_id in recipients]
    if action is OwedAction.DELAYED:
        known = [one for one in known if one.state == RecipientState.DEFERRED]
    if action is OwedAction.RETURNED:
        return [_Case(_of_returned(one, message)) for one in known]
    attempts = _last_attempts(message.pk, [one.pk for one in known])
    return [_of_attempt(action, one, attempts.get(one.pk), message) for one in known]


def _last_attempts(message_id: UUID, recipient_ids: Sequence[UUID]) -> dict[UUID, Attempt]:
    attempts = Attempt.objects.filter(message_id=message_id, recipient_id__in=recipient_ids).defer("transcript")
    return {attempt.recipient_id: attempt for attempt in attempts.order_by("recipient_id", "number")}


def _of_attempt(action: OwedAction, recipient: Recipient, attempt: Attempt | None, message: Message) -> _Case:
    is_suppressed = recipient.state == RecipientState.SUPPRESSED
    # Only what a host said is a reply of SMTP; the rest is told in words.
    spoken = attempt if attempt is not None and attempt.origin == Origin.PEER and not is_suppressed else None
    told = Told(
        address=recipient.address,
        action=DsnAction(action.value),
        status=_OF_STATE.get(RecipientState(recipient.state))
        or (attempt.reply_enhanced if attempt is not None else ""),
        original=recipient.dsn_orcpt,
        diagnostic=_reply_of(spoken) if spoken is not None else "",
        remote_host=spoken.host if spoken is not None else "",
        last_attempt_at=attempt.ended_at if attempt is not None else None,
        retried_until=message.expires_at if action is OwedAction.DELAYED else None,
        log_id=str(recipient.pk),
    )
    own_words = attempt.reply_text if attempt is not None and spoken is None and not is_suppressed else ""
    return _Case(told, own_words=own_words, is_suppressed=is_suppressed)


def _reply_of(attempt: Attempt) -> str:
    return " ".join(filter(None, (str(attempt.reply_code), attempt.reply_enhanced, attempt.reply_text)))


def _of_returned(recipient: Recipient, message: Message) -> Told:
    """What the report said that came back later, passed on."""
    event = (
        DeliveryEvent.objects.filter(message_id=message.pk, recipient_id=recipient.pk, kind=EventKind.RETURNED)
        .order_by("-id")
        .first()
    )
    data = event.data if event is not None else {}
    status = _STATUS.search(str(data.get("reply", "")))
    return Told(
        address=recipient.address,
        action=DsnAction.FAILED,
        status=status[0] if status else "",
        original=recipient.dsn_orcpt,
        diagnostic=str(data.get("reply", "")),
        remote_host=str(data.get("reported_by", "")) or recipient.host,
        last_attempt_at=recipient.returned_at,
        log_id=str(recipient.pk),
    )


# ---------------------------------------------------------------- in words


def _in_words(tenant: Tenant, message: Message, action: OwedAction, cases: Sequence[_Case]) -> tuple[str, str]:
    """Subject and text: in the tenant's language, and in English below where that is another."""
    languages = list(dict.fromkeys([tenant.language or "en", "en"]))
    subjects, texts = [], []
    for language in languages:
        with override(language):
            subjects.append(_subject(action))
            texts.append(_text(message, action, cases))
    return subjects[0], "\n\n--\n\n".join(texts)


def _subject(action: OwedAction) -> str:
    return {
        OwedAction.FAILED: _("Your mail could not be delivered"),
        OwedAction.DELAYED: _("Your mail is delayed"),
        OwedAction.RELAYED: _("Your mail was accepted by the receiving server"),
        OwedAction.RETURNED: _("Your mail was returned after it had been accepted"),
    }[action]


def _text(message: Message, action: OwedAction, cases: Sequence[_Case]) -> str:
    sentence = {
        OwedAction.FAILED: _("The mail below could not be delivered to these recipients. It will not be tried again."),
        OwedAction.DELAYED: _(
            "The mail below has not been delivered to these recipients yet. It is tried again by itself; "
            "you need not do anything."
        ),
        OwedAction.RELAYED: _(
            "The mail below was accepted by the servers of these recipients. They do not report on it any further."
        ),
        OwedAction.RETURNED: _(
            "The mail below had been accepted by the receiving server, which reported later that it could not be delivered."
        ),
    }[action]
    moment = message.accepted_at.astimezone(_zone(message.tenant)).strftime("%Y-%m-%d %H:%M:%S %z")
    about = [
        _("Subject: {subject}").format(subject=message.subject or "-"),
        _("Accepted: {moment}").format(moment=moment),
    ]
    lines = [sentence, "", *about, ""]
    lines += [_line(case) for case in cases[:_MOST_TOLD_IN_TEXT]]
    if len(cases) > _MOST_TOLD_IN_TEXT:
        lines.append(_("and {count} more, listed in the attached report").format(count=len(cases) - _MOST_TOLD_IN_TEXT))
    return "\n".join(lines) + "\n"


def _line(case: _Case) -> str:
    said = (
        _("Mail to this address is kept back here.") if case.is_suppressed else case.told.diagnostic or case.own_words
    )
    host = f"{case.told.remote_host}: " if case.told.remote_host else ""
    return f"<{case.told.address}>" + (f"\n    {host}{_plain(said)}" if said else "")


def _zone(tenant: Tenant) -> tzinfo:
    try:
        return ZoneInfo(tenant.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:500]
