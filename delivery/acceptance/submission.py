"""A submission: a message offered to us and not yet accepted (RFC 6409), whatever door it came through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

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
class Once:
    """What makes a submission happen once: the client's key, the place within its request, and a digest of the request.

    ``is_in_mail``: the mail's own header named the key, so whoever hands the mail over knows nothing of it.
    """

    key: str
    digest: bytes
    position: int = 0
    is_in_mail: bool = False


class TlsRequirement(StrEnum):
    """What a mail may ask of its way to the receiving host, beyond what the host's domain and our settings ask."""

    REQUIRED = "required"  # encrypted, or not at all
    VERIFIED = "verified"  # and with a certificate that proves the host's name


@dataclass(frozen=True, slots=True)
class Controls:
    """What a program may say about its mail beside the envelope. ``stream`` and ``pool`` are names.

    Empty: the credential's stream, and the pool that follows from it; no requirement of TLS.
    """

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""
    pool: str = ""
    tls: TlsRequirement | None = None
    send_at: datetime | None = None
    lifetime: timedelta | None = None
    once: Once | None = None


NO_CONTROLS = Controls()


@dataclass(frozen=True, slots=True)
class Submission:
    """``content`` holds the header section and body exactly as received: CRLF lines, dots unstuffed."""

    principal: Principal
    envelope: Envelope
    content: bytes
    peer: Peer
    controls: Controls = NO_CONTROLS
