"""A submission: a message offered to us and not yet accepted (RFC 6409), whatever door it came through."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.authentication import Principal
from delivery.core.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a submission came from. ``protocol`` is a word of RFC 3848, or API or SYSTEM."""

    address: str | None
    ehlo: str
    protocol: str
    tls: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """``content`` holds the header section and body exactly as received: CRLF lines, dots unstuffed."""

    principal: Principal
    envelope: Envelope
    content: bytes
    peer: Peer
