"""Feedback reports: what a receiver tells us its user did with our mail (RFC 5965, RFC 6650, and older habits).

Recipients are mostly redacted, so the identity of the mail is our own signed bounce mailbox, or the signed token in its
header section, wherever either stands in the report; whose signature holds is for the caller to check
(`verp.read_bounce_mailbox`, `verp.read_feedback_token`). Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from delivery.core.dsn import read_address
from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_mailbox
from delivery.core.mime import MAX_OCTETS, Part
from delivery.core.report_words import pattern

MAX_BOUNCE_MAILBOXES = 20
MAX_LINES = 400
MAX_RECIPIENTS = 100

# Who complains without naming the kind complains about spam.
DEFAULT_TYPE = "abuse"

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,60})[ \t]*:[ \t]*(.*)")
_TYPE_WORD = re.compile(r"[a-z][a-z-]{1,30}")
_RECIPIENT_FIELDS = ("original-rcpt-to", "removal-recipient", "original-recipient", "redacted-address")
_ENCLOSED_RECIPIENT_FIELDS = (
    "x-hmxmroriginalrecipient", "x-original-rcpt-to", "x-original-to", "x-apparently-to", "envelope-to", "delivered-to", "to",
)  # fmt: skip
_COMPLAINT_SUBJECT = pattern("complaint_subject")
# The form of `verp.make_bounce_mailbox`.
_BOUNCE_MAILBOX = re.compile(rb"(?i)(?<![A-Za-z0-9._-])b-[a-z2-7]{48}@[a-z0-9][a-z0-9.-]{1,252}")
# The form of `verp.make_feedback_token`.
_FEEDBACK_TOKEN = re.compile(rb"(?i)(?<![A-Za-z0-9._-])f-[a-z2-7]{48}(?![A-Za-z0-9@._-])")


@dataclass(frozen=True, slots=True)
class Feedback:
    """`feedback_type` as registered by RFC 5965 §7.3: abuse, fraud, virus, other, not-spam, auth-failure, opt-out …"""

    feedback_type: str
    recipients: tuple[str, ...]
    source_address: str = ""


def read_feedback(mail: Part) -> Feedback | None:
    """The complaint in a mail, None when it is none."""
    parts = list(mail.walk())
    fields = _feedback_fields(mail, parts)
    enclosed = next((part for part in parts if part.is_enclosed), None)
    if fields is None:
        if enclosed is None or not _COMPLAINT_SUBJECT.search(mail.first("subject")):
            return None
        fields = []
    return Feedback(
        feedback_type=_feedback_type(fields),
        recipients=tuple(_recipients(fields, enclosed)),
        source_address=next((value for name, value in fields if name in {"source-ip", "source"}), ""),
    )


def find_bounce_mailboxes(content: bytes, mail: Part) -> tuple[Mailbox, ...]:
    """Everything in a report that has the form of our bounce mailboxes, in order; nothing is verified here."""
    found: dict[str, Mailbox] = {}
    for match in (match for text in _texts(content, mail, b"b-") for match in _BOUNCE_MAILBOX.finditer(text)):
        try:
            mailbox = parse_mailbox(match[0].decode("ascii").lower().rstrip(".-"))
        except MailboxSyntaxError:
            continue
        found.setdefault(mailbox.address, mailbox)
        if len(found) >= MAX_BOUNCE_MAILBOXES:
            break
    return tuple(found.values())


def find_feedback_tokens(content: bytes, mail: Part) -> tuple[str, ...]:
    """Everything in a report that has the form of our feedback tokens, in order; nothing is verified here."""
    found: dict[str, None] = {}
    for match in (match for text in _texts(content, mail, b"f-") for match in _FEEDBACK_TOKEN.finditer(text)):
        found.setdefault(match[0].decode("ascii").lower())
        if len(found) >= MAX_BOUNCE_MAILBOXES:
            break
    return tuple(found)


def _texts(content: bytes, mail: Part, mark: bytes) -> list[bytes]:
    """The report as it came, its fields unfolded, its parts decoded."""
    texts = [content[:MAX_OCTETS], *(value for part in mail.walk() for _, value in part.fields if mark in value)]
    return texts + [part.text().encode("utf-8", "replace") for part in mail.walk() if not part.children]


def _feedback_fields(mail: Part, parts: Iterable[Part]) -> list[tuple[str, str]] | None:
    for part in parts:
        if part.media_type == "message/feedback-report" and not part.is_enclosed:
            return _read_fields(part.text()) or [(name, value.decode("latin-1")) for name, value in part.fields]
    for part in parts:
        if part.children or part.is_enclosed or not part.media_type.startswith("text/"):
            continue
        fields = _read_fields(part.text())
        names = {name for name, _ in fields}
        if "feedback-type" in names and names & {"user-agent", "version", "source-ip", "original-mail-from"}:
            return fields
    if mail.parameters.get("report-type", "").lower() == "feedback-report":
        return []
    return None


def _read_fields(text: str) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for line in text.split("\n", MAX_LINES)[:MAX_LINES]:
        match = _FIELD.match(line[:2000])
        if match:
            fields.append((match[1].lower(), match[2].strip()))
        elif line[:1] in (" ", "\t") and fields and line.strip():
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.strip()[:500]}"[:4000])
    return fields


def _feedback_type(fields: list[tuple[str, str]]) -> str:
    value = next((value for name, value in fields if name == "feedback-type"), "")
    word = _TYPE_WORD.match(value.strip().strip("\"'").lower())
    return word[0] if word else DEFAULT_TYPE


def _recipients(fields: list[tuple[str, str]], enclosed: Part | None) -> list[str]:
    named = [read_address(value) for name, value in fields if name in _RECIPIENT_FIELDS]
    found = list(dict.fromkeys(address for address in named if address))[:MAX_RECIPIENTS]
    if found or enclosed is None:
        return found
    for name in _ENCLOSED_RECIPIENT_FIELDS:
        value = enclosed.first(name)
        address = read_address(value)
        # A mail to many has not been complained about by all of them.
        if address and value.count("@") <= 2:
            return [address]
    return []
