"""What was said in one attempt, for people who ask why: commands, replies, times, TLS; never content, never secrets.

Bounded whatever a peer says: what does not fit is left out and said to be missing. Entries are kept as they came and
made readable only when somebody wants them, because most attempts succeed at once and nobody looks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

MAX_ENTRIES = 200
MAX_OCTETS = 16 * 1024
MAX_REPLY_OCTETS = 2048

SENT = ">"
RECEIVED = "<"
NOTE = "*"

# Control characters would break terminals, logs and PostgreSQL (NUL); direction overrides would deceive readers.
_UNREADABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")

_Text = str | bytes | Sequence[bytes]


class Transcript:
    """Entries of (milliseconds since the beginning, direction, text). One attempt, one transcript."""

    __slots__ = ("_began", "_clock", "_entries", "_is_full", "_octets")

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._entries: list[tuple[float, str, _Text]] = []
        self._octets = 0
        self._is_full = False

    def sent(self, command: bytes) -> None:
        """A command without its line ending. Secrets must have been replaced by the caller."""
        self._add(SENT, command, len(command))

    def received(self, lines: Sequence[bytes]) -> None:
        """The lines of one reply."""
        octets = len(lines[0]) if len(lines) == 1 else sum(map(len, lines)) + len(lines)
        if octets > MAX_REPLY_OCTETS:
            beginning = b"\n".join(lines)[:MAX_REPLY_OCTETS]
            self._add(RECEIVED, beginning + f" … ({octets:,} octets)".encode(), MAX_REPLY_OCTETS)
        else:
            self._add(RECEIVED, lines, octets)

    def note(self, text: str) -> None:
        """Something that happened beside the conversation: connected, TLS established, connection lost."""
        self._add(NOTE, text[:MAX_REPLY_OCTETS], len(text))

    def content_sent(self, octets: int) -> None:
        self._add(SENT, f"(content, {octets:,} octets)", 32)

    def to_json(self) -> list[list[int | str]]:
        """Lists of [milliseconds, direction, text], ready for any JSON encoder and for PostgreSQL."""
        return [[round((at - self._began) * 1000), direction, _readable(text)] for at, direction, text in self._entries]

    def _add(self, direction: str, text: _Text, octets: int) -> None:
        if self._is_full:
            return
        self._octets += octets
        if len(self._entries) >= MAX_ENTRIES - 1 or self._octets > MAX_OCTETS:
            self._is_full = True
            direction, text = NOTE, "(the rest is not kept)"
        self._entries.append((self._clock(), direction, text))


def _readable(text: _Text) -> str:
    if not isinstance(text, str):
        raw = text if isinstance(text, bytes) else b"\n".join(text)
        text = raw.decode("utf-8", "replace")
    return text if text.isprintable() else _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", text)
