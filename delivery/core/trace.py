"""Trace and completing fields we put in front of a message, and the count of those it already carries.

What comes from a client (its EHLO name) is reduced to harmless characters; the fields are folded and end in CRLF.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from delivery.core.content import HeaderField, HeaderSection

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.:\[\]_-]+")
_NOT_IN_A_COMMENT = re.compile(r"[^A-Za-z0-9 ._=/-]+")
_MAX_NAME_CHARACTERS = 255
_OWN_ID = re.compile(rb"[ \t]id[ \t]+([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})(?=[ \t;(]|$)")
_OWN_MESSAGE_ID = re.compile(rb"<([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})@")
_MOST_OWN_IDS = 20


def received_field(
    *, ehlo: str, peer: str, by: str, protocol: str, message_id: UUID, now: datetime, tls: str | None
) -> bytes:
    """The Received field of RFC 5321 §4.4.

    `peer` is the client's IP address, `by` our host name, `protocol` a keyword of RFC 3848 (ESMTP, ESMTPS, ESMTPSA,
    HTTP), `tls` version and cipher for the comment. `now` needs a time zone.
    """
    encryption = f"\r\n\t({_NOT_IN_A_COMMENT.sub(' ', tls)})" if tls else ""
    return (
        f"Received: from {_name(ehlo)} ({_address_literal(peer)})\r\n"
        f"\tby {_name(by)} with {_name(protocol)}\r\n"
        f"\tid {message_id}{encryption};\r\n"
        f"\t{format_datetime(now)}\r\n"
    ).encode("ascii")


def date_field(now: datetime) -> bytes:
    """A Date field for a message that came without one; `now` needs a time zone."""
    return f"Date: {format_datetime(now)}\r\n".encode("ascii")


def message_id_field(message_id: UUID, domain: str) -> bytes:
    """A Message-ID field for a message that came without one."""
    return f"Message-ID: <{message_id}@{domain}>\r\n".encode("ascii")


def count_received(section: HeaderSection) -> int:
    """How many hops the message has made (RFC 5321 §6.3)."""
    return len(section.all("received"))


def own_message_ids(section: HeaderSection, host: str) -> list[UUID]:
    """The messages as which `host`, ours, took this mail before, newest first; at most `_MOST_OWN_IDS`."""
    by_host = _by(host)
    found: list[UUID] = []
    for field in section.all("received"):
        match = _OWN_ID.search(field.value) if by_host.search(field.value) else None
        if match is not None and len(found) < _MOST_OWN_IDS:
            found.append(UUID(match[1].decode("ascii")))
    return found


def own_id_of(field: HeaderField) -> UUID | None:
    """The message that a Received field in our form names."""
    match = _OWN_ID.search(field.value)
    return UUID(match[1].decode("ascii")) if match else None


def own_id_within(message_id_field: bytes) -> UUID | None:
    """The message for which we made this value of a Message-ID field, if it is in our form; another may write it so, too."""
    match = _OWN_MESSAGE_ID.search(message_id_field)
    return UUID(match[1].decode("ascii")) if match else None


def _by(host: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:^|[ \t])by[ \t]+" + re.escape(host.encode("ascii")) + rb"(?=[ \t;(]|$)", re.IGNORECASE)


def _name(text: str) -> str:
    return _NOT_IN_A_NAME.sub("", text)[:_MAX_NAME_CHARACTERS] or "unknown"


def _address_literal(peer: str) -> str:
    # RFC 5321 §4.1.3.
    tag = "IPv6:" if ":" in peer else ""
    return f"[{tag}{_name(peer)}]"
