"""The header fields that a mail gets for one recipient: how to unsubscribe, and what feedback loops tell it by.

They stand above what the client wrote and are signed with it. What he wrote himself stays: a field that is there already
is never added a second time, nor one that a signature of his own has sealed as absent (RFC 6376 §8.15).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from delivery.core.content import HeaderSection
from delivery.core.mailbox import Mailbox

UNSUBSCRIBE = "List-Unsubscribe"
UNSUBSCRIBE_POST = "List-Unsubscribe-Post"
FEEDBACK_ID = "Feedback-ID"
# Read again from complaints (delivery.core.feedback).
FEEDBACK_TOKEN = "X-Feedback-Token"  # noqa: S105 - a name

_NOT_IN_AN_IDENTIFIER = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_IDENTIFIER = 63
_SENDER_ID_CHARACTERS = (5, 15)
_SIGNED_NAMES = re.compile(rb"(?:^|;)\s*h\s*=([^;]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Where a reader's mail program goes: a page that takes a POST (RFC 8058), and a mailbox."""

    url: str
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class FeedbackId:
    """Google's Feedback-ID: what complaints are counted by, from the finest to the sender, who is the same in all mail."""

    stream: str
    domain: str
    tenant: str
    sender: str

    @property
    def value(self) -> str:
        return ":".join(
            [*(_identifier(part) for part in (self.stream, self.domain, self.tenant)), sender_id(self.sender)]
        )


def recipient_fields(
    section: HeaderSection,
    *,
    is_signed: bool,
    unsubscribe: Unsubscribe | None = None,
    feedback_id: FeedbackId | None = None,
    feedback_token: str = "",
) -> bytes:
    """The fields to be put above ``section``, complete with their CRLF; empty where there is nothing to add.

    ``is_signed`` says that a signature of ours will cover them: RFC 8058 §4 demands that of the one-click field.
    """
    present = {field.name.lower() for field in section.fields} | _sealed_as_absent(section)
    fields = []
    if unsubscribe is not None and not present & {UNSUBSCRIBE.lower(), UNSUBSCRIBE_POST.lower()}:
        mailto = f"mailto:{unsubscribe.mailbox.address}?subject=unsubscribe"
        fields.append(f"{UNSUBSCRIBE}: <{unsubscribe.url}>,\r\n <{mailto}>\r\n")
        if is_signed:
            fields.append(f"{UNSUBSCRIBE_POST}: List-Unsubscribe=One-Click\r\n")
    if feedback_id is not None and FEEDBACK_ID.lower() not in present:
        fields.append(f"{FEEDBACK_ID}: {feedback_id.value}\r\n")
    if feedback_token:
        fields.append(f"{FEEDBACK_TOKEN}: {feedback_token}\r\n")
    return "".join(fields).encode("ascii")


def sender_id(domain: str) -> str:
    """What Feedback-ID ends in, made of the operator's domain: 5 to 15 characters, as Google asks."""
    least, most = _SENDER_ID_CHARACTERS
    return _NOT_IN_AN_IDENTIFIER.sub("", domain).replace(".", "")[:most].ljust(least, "x")


def _identifier(text: str) -> str:
    return _NOT_IN_AN_IDENTIFIER.sub("-", text)[:_LONGEST_IDENTIFIER] or "-"


def _sealed_as_absent(section: HeaderSection) -> set[str]:
    """Names in the h= of the client's own signatures: adding such a field would break them."""
    found: set[str] = set()
    for field in section.all("dkim-signature"):
        match = _SIGNED_NAMES.search(field.value)
        if match:
            found |= {name.strip().lower().decode("ascii", "replace") for name in match[1].split(b":")}
    return found
