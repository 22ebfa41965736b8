"""Bounce mailboxes: the signed reverse-path we relay with, by which a report finds its recipient and nobody forges one.

The local part is `b-` and 48 characters of base32: recipient id, last day of validity, and a truncated HMAC-SHA256 over
both. It has neither case nor padding, only letters, digits and one hyphen, and so survives hosts that fold case.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from delivery.core.mailbox import Mailbox

_PREFIX = "b-"
_CONTEXT = b"bounce mailbox v1\0"
_FEEDBACK_PREFIX = "f-"
_FEEDBACK_CONTEXT = b"feedback token v1\0"
_MAC_OCTETS = 12
_EPOCH = date(1970, 1, 1)
_TAG_CHARACTERS = 48


@dataclass(frozen=True, slots=True)
class BounceTag:
    """Whom a report is about; whether `expires_on` has passed is for the caller to judge."""

    recipient_id: UUID
    expires_on: date


def make_bounce_mailbox(recipient_id: UUID, domain: str, *, key: bytes, expires_on: date) -> Mailbox:
    """The reverse-path for one recipient; `expires_on` is the last day on which reports are believed."""
    return Mailbox(_PREFIX + _make_tag(recipient_id, expires_on, key=key, context=_CONTEXT), domain)


def read_bounce_mailbox(mailbox: Mailbox, *, keys: Iterable[bytes]) -> BounceTag | None:
    """Read a mailbox of ours back; None for anything that none of the keys has signed."""
    local_part = mailbox.local_part.lower()
    return (
        _read_tag(local_part.removeprefix(_PREFIX), keys=keys, context=_CONTEXT)
        if local_part.startswith(_PREFIX)
        else None
    )


def make_feedback_token(recipient_id: UUID, *, key: bytes, expires_on: date) -> str:
    """The same claim for a header field, where a mail leaves with a reverse-path that says nothing to us.

    It is signed apart from the mailbox, so that no mail can be sent to it.
    """
    return _FEEDBACK_PREFIX + _make_tag(recipient_id, expires_on, key=key, context=_FEEDBACK_CONTEXT)


def read_feedback_token(token: str, *, keys: Iterable[bytes]) -> BounceTag | None:
    """Read a token of ours back; None for anything that none of the keys has signed."""
    lowered = token.lower()
    if not lowered.startswith(_FEEDBACK_PREFIX):
        return None
    return _read_tag(lowered.removeprefix(_FEEDBACK_PREFIX), keys=keys, context=_FEEDBACK_CONTEXT)


def _make_tag(recipient_id: UUID, expires_on: date, *, key: bytes, context: bytes) -> str:
    claim = recipient_id.bytes + (expires_on - _EPOCH).days.to_bytes(2, "big")
    return base64.b32encode(claim + _mac(claim, key, context)).decode("ascii").lower()


def _read_tag(tag: str, *, keys: Iterable[bytes], context: bytes) -> BounceTag | None:
    if len(tag) != _TAG_CHARACTERS or not tag.isascii():
        return None
    try:
        signed = base64.b32decode(tag.upper())
    except (binascii.Error, ValueError):
        return None
    claim, mac = signed[:-_MAC_OCTETS], signed[-_MAC_OCTETS:]
    # Every key is tried, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(mac, _mac(claim, key, context)) for key in keys]
    if not any(fits):
        return None
    return BounceTag(UUID(bytes=claim[:16]), _EPOCH + timedelta(days=int.from_bytes(claim[16:], "big")))


def _mac(claim: bytes, key: bytes, context: bytes) -> bytes:
    return hmac.digest(key, context + claim, "sha256")[:_MAC_OCTETS]
