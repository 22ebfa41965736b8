"""Pages of a list by keyset: a cursor is where the page before ended, and nothing is counted or skipped."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from relayweb.api.problems import invalid

MOST = 100


def cursor_of(key: UUID | None, *more: int) -> str | None:
    """Opaque to clients."""
    if key is None:
        return None
    return base64.urlsafe_b64encode(bytes(more) + key.bytes).decode("ascii").rstrip("=")


def read_cursor(text: str, *, numbers: int = 0) -> tuple[UUID, list[int]]:
    """The key and so many small numbers before it. Raises Problem."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if len(octets) != 16 + numbers:
        raise invalid("cursor", "not a cursor of this list")
    return UUID(bytes=octets[numbers:]), list(octets[:numbers])
