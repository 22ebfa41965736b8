"""Tokens by which a reader unsubscribes: one recipient of one message, signed, so that nobody unsubscribes others.

They do not expire: whoever finds an old mail may still say no. Letters and digits only, in one case, so that they stand in
a path and in a mailbox (``u-…``) alike.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from uuid import UUID

from delivery.core.mailbox import Mailbox

MAILBOX_PREFIX = "u-"
PATH = "/unsubscribe/{token}/"
_CONTEXT = b"unsubscribe v1\0"
_CLAIM_OCTETS, _MAC_OCTETS = 16, 12
_CHARACTERS = 45
_PADDING = "==="


def make_token(recipient_id: UUID, *, key: bytes) -> str:
    claim = recipient_id.bytes
    return base64.b32encode(claim + _mac(claim, key)).decode("ascii").rstrip("=").lower()


def read_token(token: str, *, keys: Iterable[bytes]) -> UUID | None:
    """Whose it is; None for anything that none of the keys has signed."""
    if len(token) != _CHARACTERS or not token.isascii():
        return None
    try:
        signed = base64.b32decode(token.upper() + _PADDING)
    except (binascii.Error, ValueError):
        return None
    if len(signed) != _CLAIM_OCTETS + _MAC_OCTETS:  # one that brought padding of its own
        return None
    claim, mac = signed[:_CLAIM_OCTETS], signed[_CLAIM_OCTETS:]
    # Every key is tried, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(mac, _mac(claim, key)) for key in keys]
    recipient_id = UUID(bytes=claim)
    # Of the spellings that differ in unused bits only one is ours.
    return (
        recipient_id if any(fits) and base64.b32encode(signed).decode().rstrip("=").lower() == token.lower() else None
    )


def url_for(token: str, *, public_url: str) -> str:
    """The page a reader's browser and mail program go to (RFC 8058)."""
    return public_url + PATH.format(token=token)


def mailbox_for(token: str) -> str:
    """The local part of the mailbox that takes unsubscribe mails."""
    return MAILBOX_PREFIX + token


def token_of(mailbox: Mailbox) -> str | None:
    """The token in a local part that has the form of one."""
    local_part = mailbox.local_part.lower()
    token = local_part.removeprefix(MAILBOX_PREFIX)
    return token if token != local_part and len(token) == _CHARACTERS else None


def _mac(claim: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + claim, "sha256")[:_MAC_OCTETS]
