"""Writes delivery status notifications (RFC 3464): a text for people, one group of fields a recipient, and the mail.

What comes out is ready for acceptance. Everything strangers said (replies, addresses, the mail itself) is put where it
cannot end a line or a part: fields hold printable ASCII, texts are encoded, and the boundary must be random.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from delivery.core.compose import Named, address_field, text_entity, text_field
from delivery.core.content import ContentError, read_header_section
from delivery.core.dsn import DsnAction
from delivery.core.mailbox import Mailbox

# Of the mail that is returned; a larger one comes back as its header section, whatever RET says.
MOST_RETURNED_OCTETS = 1024 * 1024
_MOST_HEADER_OCTETS = 64 * 1024
_MOST_FIELD_CHARACTERS = 800
_NOT_PRINTABLE = re.compile(r"[^ -~]+")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


@dataclass(frozen=True, slots=True)
class Told:
    """What is told about one recipient. `diagnostic` is the reply of `remote_host`, empty where no host said anything.
    `original` is the ORCPT as the client gave it, `rfc822;a@b`. The moments need a time zone.
    """

    address: str
    action: DsnAction
    status: str
    original: str = ""
    diagnostic: str = ""
    remote_host: str = ""
    last_attempt_at: datetime | None = None
    retried_until: datetime | None = None
    log_id: str = ""

    @property
    def field_status(self) -> str:
        """An enhanced status whose class fits the action (RFC 3464 §2.3.4)."""
        wanted = {DsnAction.FAILED: "5", DsnAction.DELAYED: "4"}.get(self.action, "2")
        if not _ENHANCED.fullmatch(self.status):
            return f"{wanted}.0.0"
        # RFC 3463 §3: a delay that ended in giving up may keep its 4, as x.4.7 does.
        is_fitting = self.status[0] == wanted or (self.action is DsnAction.FAILED and self.status[0] == "4")
        return self.status if is_fitting else wanted + self.status[1:]


@dataclass(frozen=True, slots=True)
class Notification:
    """`author` is who reports, `to` the original reverse-path. `text` is what people read.

    `returned` is the mail as it was accepted; None where it is not kept any more. `returns_all` is RET=FULL.
    """

    author: Named
    to: Mailbox
    subject: str
    text: str
    told: Sequence[Told]
    reporting_host: str
    arrived_at: datetime
    boundary: str
    envelope_id: str = ""
    references: str = ""
    returned: bytes | None = None
    returns_all: bool = False


def write_notification(mail: Notification) -> bytes:
    """The whole content: strict MIME with CRLF lines."""
    parts = [
        text_entity(mail.text, "plain"),
        b"Content-Type: message/delivery-status\r\n\r\n" + _status_fields(mail),
        *([] if mail.returned is None else [_returned(mail.returned, returns_all=mail.returns_all)]),
    ]
    is_8bit = any(not part.isascii() for part in parts)
    fields = [
        address_field("From", [mail.author], part="from"),
        address_field("To", [Named(mail.to)], part="to"),
        text_field("Subject", _NOT_A_CHARACTER.sub(" ", mail.subject), part="subject"),
        b"Auto-Submitted: auto-replied\r\n",  # RFC 3464 §2 and RFC 3834 §5: so that nobody answers it
        _reference_fields(mail.references),
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b' boundary="' + mail.boundary.encode("ascii") + b'"\r\n',
        b"Content-Transfer-Encoding: 8bit\r\n" if is_8bit else b"",
        b"\r\n",
    ]
    delimiter = b"--" + mail.boundary.encode("ascii")
    body = b"".join(delimiter + b"\r\n" + part.removesuffix(b"\r\n") + b"\r\n" for part in parts)
    return b"".join(fields) + body + delimiter + b"--\r\n"


# Controls, line separators and half characters, which a subject that was shown may hold and a field may not.
_NOT_A_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _reference_fields(message_id: str) -> bytes:
    plain = message_id.strip()
    if not (plain.isascii() and plain.isprintable()) or " " in plain or not 3 <= len(plain) <= _MOST_FIELD_CHARACTERS:
        return b""
    return f"References: {plain}\r\n".encode("ascii")


def _status_fields(mail: Notification) -> bytes:
    groups = [
        [
            ("Reporting-MTA", f"dns; {mail.reporting_host}"),
            ("Original-Envelope-Id", mail.envelope_id),
            ("Arrival-Date", format_datetime(mail.arrived_at)),
        ],
        *(_recipient_group(told) for told in mail.told),
    ]
    return b"\r\n".join(_group(fields) for fields in groups)


def _recipient_group(told: Told) -> list[tuple[str, str]]:
    return [
        ("Original-Recipient", told.original.replace(";", "; ", 1)),
        ("Final-Recipient", _typed_address(told.address)),
        ("Action", told.action.value),
        ("Status", told.field_status),
        ("Remote-MTA", f"dns; {told.remote_host}" if told.remote_host else ""),
        ("Diagnostic-Code", f"smtp; {told.diagnostic}" if told.diagnostic else ""),
        ("Last-Attempt-Date", format_datetime(told.last_attempt_at) if told.last_attempt_at else ""),
        ("Final-Log-ID", told.log_id),
        ("Will-Retry-Until", format_datetime(told.retried_until) if told.retried_until else ""),
    ]


def _typed_address(address: str) -> str:
    if address.isascii():
        return f"rfc822; {Mailbox.from_address(address).quoted}"
    # RFC 6533 §3: the form for places that hold ASCII alone.
    return "utf-8; " + "".join(one if " " < one <= "~" and one != "\\" else f"\\x{{{ord(one):X}}}" for one in address)


def _group(fields: Sequence[tuple[str, str]]) -> bytes:
    lines = (
        f"{name}: {_NOT_PRINTABLE.sub('?', value)[:_MOST_FIELD_CHARACTERS].strip()}\r\n"
        for name, value in fields
        if value
    )
    return "".join(lines).encode("ascii")


def _returned(content: bytes, *, returns_all: bool) -> bytes:
    """RFC 3462 §2: the mail itself, or its header section."""
    if returns_all and len(content) <= MOST_RETURNED_OCTETS:
        encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        return b"Content-Type: message/rfc822\r\n" + encoding + b"\r\n" + content
    header = _header_of(content)
    encoding = b"" if header.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return b"Content-Type: text/rfc822-headers\r\n" + encoding + b"\r\n" + header


def _header_of(content: bytes) -> bytes:
    try:
        fields = read_header_section(content).fields
    except ContentError:  # it was read when it was accepted
        return b""
    taken, octets = [], 0
    for field in fields:
        octets += len(field.raw)
        if octets > _MOST_HEADER_OCTETS:
            break
        taken.append(field.raw)
    return b"".join(taken)
