"""asyncio's reader for a protocol of lines, with three abilities a server of SMTP needs."""

from __future__ import annotations

import asyncio

CRLF = b"\r\n"


class LineReader(asyncio.StreamReader):
    """Can take something back, can forget what it holds, and can follow its session onto TLS."""

    _buffer: bytearray
    _transport: asyncio.BaseTransport | None

    def unread(self, octets: bytes) -> None:
        self._buffer[:0] = octets

    def forget(self) -> None:
        self._buffer.clear()
        self._maybe_resume_transport()  # type: ignore[attr-defined]

    def follow(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    @property
    def holds_a_line(self) -> bool:
        return b"\n" in self._buffer
