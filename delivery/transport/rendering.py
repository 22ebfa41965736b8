"""A rendering: the bytes of a message for one recipient at one hop, signed when it is attempted.

The content was stored once, as received below our trace fields; what is added here stands above it. The body's hash is
found once per message and serves every recipient; the signature is made anew for each rendering, so that a retry days later
carries the current key and a fresh date.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from delivery.core.content import HeaderSection, read_header_section
from delivery.transport.signing import DkimSigner, body_hash


@dataclass(slots=True)
class LoadedContent:
    """A message's content in memory, with what is worth finding out only once."""

    content: bytes
    section: HeaderSection = field(init=False)
    has_8bit: bool = field(init=False)
    _body_hash: bytes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.section = read_header_section(self.content)
        self.has_8bit = not self.content.isascii()

    def body_hash(self) -> bytes:
        if self._body_hash is None:
            self._body_hash = body_hash(memoryview(self.content)[self.section.body_start :])
        return self._body_hash


@dataclass(frozen=True, slots=True)
class Rendering:
    """``chunks`` together are the message; ``body`` is what MAIL says of it."""

    chunks: tuple[bytes, ...]
    body: str


def render(loaded: LoadedContent, *, signer: DkimSigner | None, now: datetime) -> Rendering:
    body = "8BITMIME" if loaded.has_8bit else "7BIT"
    if signer is None:
        return Rendering((loaded.content,), body)
    signature = signer.sign(loaded.section.fields, loaded.body_hash(), now=now)
    return Rendering((signature, loaded.content), body)
