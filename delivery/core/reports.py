"""What came back, understood: bounces, complaints, automatic replies, news of delivery, other mail.

`read_report` is a function of the octets alone. It never raises, and is bounded in time and memory whatever they hold.
It decides what a report *says*; whether the report is believed (our signature on the bounce mailbox) and what follows
from it is decided elsewhere. When in doubt an address is alive: `is_hard` needs a final refusal, words or a status of
its own for the recipient, and an address the report names plainly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from delivery.core import dsn, freetext
from delivery.core.autoreply import is_auto_reply
from delivery.core.classification import ReplyClass
from delivery.core.dialogue import NOTHING, Said, find_said
from delivery.core.feedback import Feedback, find_bounce_mailboxes, find_feedback_tokens, read_feedback
from delivery.core.json_notices import JsonNotice, read_json_notice
from delivery.core.mailbox import Mailbox
from delivery.core.mime import Part, read_mail
from delivery.core.report_words import pattern
from delivery.core.signs import (
    ENOUGH,
    count_signs,
    is_for_readers,
    is_from_machine,
    is_named_machine,
    is_news_of_success,
    is_report,
)
from delivery.core.surroundings import Surroundings, read_surroundings
from delivery.core.verdicts import Circumstances, Verdict, judge_reported

MAX_ROWS = 100
# What is looked at of all that is said; so many recipients share it, and each has a thousand at most.
MAX_WORDS_CHARACTERS = 30_000


class Kind(StrEnum):
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    DELIVERED = "delivered"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """What a report says about one recipient.

    `action` tells a delay (nothing has failed yet) from a failure; both are of the kind bounce. `address` may be empty
    where the report hides it, `original` is whom the mail had been sent to where that differs. `reply_class` is None
    unless something was refused.
    """

    address: str
    kind: Kind
    action: dsn.DsnAction | None = None
    original: str = ""
    reply_class: ReplyClass | None = None
    is_hard: bool = False
    status: str = ""
    reply_code: str = ""
    feedback_type: str = ""
    diagnostic: str = ""
    rule: str = ""

    @property
    def class_word(self) -> str:
        """The class as `report parse` prints it: one of ours, or the kind where nothing was refused."""
        if self.reply_class is not None:
            return self.reply_class.value
        return "" if self.kind is Kind.OTHER else self.kind.value


@dataclass(frozen=True, slots=True)
class Report:
    """`bounce_mailboxes` and `feedback_tokens` are candidates for our identity of the mail, to be verified with `verp`.

    The tokens are looked for in complaints only.
    """

    kind: Kind
    rows: tuple[ReportedRecipient, ...]
    bounce_mailboxes: tuple[Mailbox, ...] = ()
    feedback_tokens: tuple[str, ...] = ()
    reporting_host: str = ""
    envelope_id: str = ""


ProviderOf = Callable[[str], str]
AddressFinder = Callable[[str, str, str], Iterable[str]]


def no_provider(host: str) -> str:
    return ""


def no_finder(sender: str, subject: str, text: str) -> Iterable[str]:
    return ()


def read_report(
    content: bytes, *, provider_of: ProviderOf = no_provider, find_addresses: AddressFinder = no_finder
) -> Report:
    """Understand a mail that came back.

    `provider_of` gives the provider group of a host or domain (or ""). `find_addresses(sender, subject, text)` is asked
    for failed addresses as a last resort; what it finds is never hard.
    """
    mail = read_mail(content)
    for read in (_read_feedback, _read_json, _read_status_report, _read_prose_report, _read_auto_reply):
        report = read(mail, provider_of, find_addresses)
        if report is not None:
            is_complaint = report.kind is Kind.COMPLAINT
            return replace(
                report,
                bounce_mailboxes=find_bounce_mailboxes(content, mail),
                feedback_tokens=find_feedback_tokens(content, mail) if is_complaint else (),
            )
    return Report(Kind.OTHER, (ReportedRecipient("", Kind.OTHER),), find_bounce_mailboxes(content, mail))


# Complaints.


def _read_feedback(mail: Part, provider_of: ProviderOf, find_addresses: AddressFinder) -> Report | None:
    feedback = read_feedback(mail)
    return _complaint(feedback) if feedback is not None else None


def _complaint(feedback: Feedback) -> Report:
    rows = tuple(
        ReportedRecipient(address, Kind.COMPLAINT, feedback_type=feedback.feedback_type)
        for address in feedback.recipients or ("",)
    )
    return Report(Kind.COMPLAINT, rows)


# Notices in JSON.


def _read_json(mail: Part, provider_of: ProviderOf, find_addresses: AddressFinder) -> Report | None:
    if mail.children or not mail.media_type.startswith(("text/", "application/json")):
        return None
    notice = read_json_notice(mail.text())
    if notice is None:
        return None
    if notice.kind == "complaint":
        return _complaint(Feedback(notice.subtype.lower() or "abuse", tuple(one.address for one in notice.recipients)))
    rows = _json_rows(notice, provider_of)
    return Report(rows[0].kind, rows) if rows else None


def _json_rows(notice: JsonNotice, provider_of: ProviderOf) -> tuple[ReportedRecipient, ...]:
    action = {"delivery": dsn.DsnAction.DELIVERED, "delay": dsn.DsnAction.DELAYED}.get(
        notice.kind, dsn.DsnAction.FAILED
    )
    share = MAX_WORDS_CHARACTERS // max(1, len(notice.recipients))
    return tuple(
        _row(
            dsn.StatusRecipient(
                one.address, "", action, dsn.read_status(one.status), _unlabelled(one.diagnostic)[:share], ""
            ),
            Circumstances(
                provider_group=provider_of(_domain_of(one.address)), is_delayed=action is dsn.DsnAction.DELAYED
            ),
            (),
        )
        for one in notice.recipients
    )


# Delivery status notifications.


def _read_status_report(mail: Part, provider_of: ProviderOf, find_addresses: AddressFinder) -> Report | None:
    status = _find_status(mail)
    if status is None:
        return None
    surroundings = read_surroundings(mail)
    recipients = _with_addresses(status.recipients, surroundings)
    is_declared = any(part.media_type in _STATUS_TYPES and not part.is_enclosed for part in mail.walk())
    if not is_declared and (count_signs(mail) < ENOUGH or is_for_readers(mail)):
        # Fields of a report that somebody quotes in a mail of their own.
        return None
    if not any(recipient.address for recipient in recipients) and not is_from_machine(mail):
        return None
    recipients = recipients[:MAX_ROWS]
    rows = tuple(_status_row(one, surroundings, provider_of, len(recipients)) for one in recipients)
    if not is_declared and not is_from_machine(mail):
        # Somebody forwards a report; it is told, and nothing follows from it.
        rows = tuple(replace(row, is_hard=False) for row in rows)
    return Report(_kind_of(rows), rows, reporting_host=status.reporting_host, envelope_id=status.envelope_id)


_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status", "text/delivery-status"})


def _find_status(mail: Part) -> dsn.DeliveryStatus | None:
    """The delivery-status part, or the text that holds its fields."""
    parts = [part for part in mail.walk() if not part.is_enclosed]
    declared = [part for part in parts if part.media_type in _STATUS_TYPES]
    undeclared = [
        part for part in parts if not part.children and part.media_type.startswith(("text/plain", "message/"))
    ]
    # A gateway may wrap the report of another host.
    wrapped = [part for part in mail.walk() if part.is_enclosed and part.media_type in _STATUS_TYPES]
    for part in (*declared, *undeclared, *wrapped[:1]):
        text = part.text()
        if part.media_type not in _STATUS_TYPES:
            text = freetext.split_notice(text).text
            if not re.search(r"(?im)^[> \t]{0,6}(?:final|original)-recipient[ \t]*:", text):
                continue
        status = dsn.read_delivery_status(text)
        if status.recipients:
            return status
    return None


def _with_addresses(recipients: Sequence[dsn.StatusRecipient], surroundings: Surroundings) -> list[dsn.StatusRecipient]:
    """Recipients whose address is missing get it from the notice, where that leaves no doubt."""
    if all(one.address for one in recipients):
        return list(recipients)
    known = {one.address.lower() for one in recipients}
    spare = [address for address in surroundings.named_addresses() if address.lower() not in known]
    missing = [one for one in recipients if not one.address]
    if len(missing) == 1 and spare:
        return [one if one.address else replace(one, address=spare[0]) for one in recipients]
    return [one for one in recipients if one.address] or list(recipients)


def _status_row(
    one: dsn.StatusRecipient,
    surroundings: Surroundings,
    provider_of: ProviderOf,
    count: int,
) -> ReportedRecipient:
    reasons = _fair_share(surroundings.reasons_for(one.address), count)
    one = replace(one, diagnostic=one.diagnostic[: MAX_WORDS_CHARACTERS // count])
    circumstances = Circumstances(
        # Who refused decides about the rules, not who reports it.
        provider_group=_first_provider(provider_of, one.remote_host, _domain_of(one.address)),
        is_delayed=one.action is dsn.DsnAction.DELAYED,
        context=surroundings.context if count == 1 else "",
    )
    row = _row(one, circumstances, reasons)
    return replace(row, is_hard=row.is_hard and not surroundings.is_about_author(row.diagnostic, one.address))


def _row(one: dsn.StatusRecipient, circumstances: Circumstances, reasons: Sequence[Said]) -> ReportedRecipient:
    said = find_said(one.diagnostic) if one.diagnostic else NOTHING
    if one.action.is_success if one.action else one.status.startswith("2."):
        code = str(said.code) if said.code else ""
        return ReportedRecipient(
            one.address,
            Kind.DELIVERED,
            one.action,
            one.original,
            status=one.status,
            reply_code=code,
            diagnostic=said.text,
        )
    verdict = judge_reported([said, *reasons], status=one.status, circumstances=circumstances)
    action = one.action or (dsn.DsnAction.DELAYED if circumstances.is_delayed else dsn.DsnAction.FAILED)
    return _refused(one.address, one.original, action, verdict, is_certain=True)


def _refused(
    address: str, original: str, action: dsn.DsnAction, verdict: Verdict, *, is_certain: bool
) -> ReportedRecipient:
    return ReportedRecipient(
        address,
        Kind.BOUNCE,
        action,
        original if original.lower() != address.lower() else "",
        verdict.classification.reply_class,
        verdict.is_hard and is_certain and bool(address),
        verdict.status,
        str(verdict.code) if verdict.code else "",
        diagnostic=verdict.text,
        rule=verdict.classification.rule,
    )


# Reports in prose.

_DELAY = pattern("delay")


def _read_prose_report(mail: Part, provider_of: ProviderOf, find_addresses: AddressFinder) -> Report | None:
    if not is_report(mail):
        return None
    surroundings = read_surroundings(mail)
    addresses, is_certain = _failed_addresses(mail, surroundings, find_addresses)
    if not addresses or not (is_certain or is_named_machine(mail)):
        return None
    if is_news_of_success(mail):
        rows = tuple(ReportedRecipient(address, Kind.DELIVERED, dsn.DsnAction.DELIVERED) for address in addresses)
        return Report(Kind.DELIVERED, rows[:MAX_ROWS])
    addresses = addresses[:MAX_ROWS]
    is_delayed = bool(_DELAY.search(f"{mail.first('subject')} {surroundings.notice[:4000]}"))
    rows = tuple(
        _prose_row(
            address, surroundings, provider_of, is_delayed=is_delayed, is_certain=is_certain, count=len(addresses)
        )
        for address in addresses
    )
    return Report(Kind.BOUNCE, rows)


def _failed_addresses(mail: Part, surroundings: Surroundings, find_addresses: AddressFinder) -> tuple[list[str], bool]:
    """Whom the prose is about, and whether it says so plainly."""
    named = surroundings.named_addresses()
    if named:
        return named, True
    found = [
        dsn.tidy_address(one) for one in find_addresses(mail.first("from"), mail.first("subject"), surroundings.notice)
    ]
    own = {address.lower() for address in surroundings.own_addresses}
    found = [address for address in dict.fromkeys(found) if address and address.lower() not in own]
    if found:
        return found, False
    mentioned = [mention.address for mention in surroundings.mentions]
    in_subject = [
        one.address for one in freetext.find_mentions(surroundings.subject, not_these=surroundings.own_addresses)
    ]
    return (mentioned or surroundings.original_recipients or in_subject)[:1], False


def _prose_row(
    address: str,
    surroundings: Surroundings,
    provider_of: ProviderOf,
    *,
    is_delayed: bool,
    is_certain: bool,
    count: int,
) -> ReportedRecipient:
    circumstances = Circumstances(
        provider_group=_first_provider(provider_of, _domain_of(address)),
        is_delayed=is_delayed,
        context=surroundings.context if count == 1 else "",
    )
    reasons = _fair_share(surroundings.reasons_for(address), count)
    verdict = judge_reported(reasons, status="", circumstances=circumstances)
    action = dsn.DsnAction.DELAYED if is_delayed else dsn.DsnAction.FAILED
    is_certain = is_certain and not surroundings.is_about_author(verdict.text, address)
    return _refused(address, "", action, verdict, is_certain=is_certain)


def _fair_share(reasons: Sequence[Said], count: int) -> list[Said]:
    """Bounds the time a report takes: the more recipients, the less is read about each."""
    return [replace(said, text=said.text[: MAX_WORDS_CHARACTERS // count]) for said in reasons]


# Automatic replies.


def _read_auto_reply(mail: Part, provider_of: ProviderOf, find_addresses: AddressFinder) -> Report | None:
    if not is_auto_reply(mail):
        return None
    return Report(Kind.AUTO_REPLY, (ReportedRecipient(dsn.read_address(mail.first("from")), Kind.AUTO_REPLY),))


def _first_provider(provider_of: ProviderOf, *hosts: str) -> str:
    return next((group for group in (provider_of(host) for host in hosts if host) if group), "")


def _domain_of(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _unlabelled(diagnostic: str) -> str:
    label, separator, said = diagnostic.partition(";")
    return said.strip() if separator and label.strip().lower() in {"smtp", "x-smtp"} else diagnostic


def _kind_of(rows: Sequence[ReportedRecipient]) -> Kind:
    return Kind.BOUNCE if any(row.kind is Kind.BOUNCE for row in rows) else rows[0].kind
