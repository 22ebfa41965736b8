"""DATA: a content on its way in, in bounded memory, ended by CRLF.CRLF and by nothing else (RFC 5321 §4.1.1.4).

Chunks are found and unstuffed by the primitives of ``bytes``, each when it arrives, so that the end of a large content
holds nobody up; no line is ever looked at from Python. Whether the lines in it are good is for acceptance to say: nothing
of a content is taken for a command before its end.
"""

from __future__ import annotations

import asyncio

from delivery.core import replies
from delivery.core.replies import OwnReply
from smtpgate.lines import CRLF, LineReader
from smtpgate.throttle import ContentMemory

END_OF_DATA = b"\r\n.\r\n"
_FINAL_LINE = b".\r\n"
_STUFFED_DOT = b"\r\n."


class EndlessContent(Exception):
    """The peer goes on although the content was too large long ago."""


class IncomingContent:
    """One content. Whoever makes it calls ``release`` in the end, whatever happened."""

    def __init__(self, reader: LineReader, memory: ContentMemory, *, max_octets: int) -> None:
        self._reader = reader
        self._memory = memory
        self._max_octets = max_octets
        self._held = bytearray()  # begins with the CRLF of the DATA command
        self._undecided = b""  # a CRLF or CR at the end of a chunk: the next may begin with a dot that belongs to it
        self._octets_taken = 0

    async def read(self) -> OwnReply | None:
        """Read to the end; what is to be said if it cannot be kept. Raises EndlessContent."""
        # The line end of DATA itself is the first half of the end of an empty content, and before a stuffed first line.
        self._reader.unread(CRLF)
        refusal: OwnReply | None = None
        octets_refused = 0
        is_complete = False
        while not is_complete:
            chunk, is_complete = await self._next_chunk()
            if refusal is None:
                refusal = self._keep(chunk, is_last=is_complete)
            else:
                octets_refused += len(chunk)
                if octets_refused > self._max_octets:
                    raise EndlessContent
        return refusal

    def content(self) -> bytes:
        """The lines between, each with its CRLF and without the stuffed dot (RFC 5321 §4.5.2)."""
        del self._held[: len(CRLF)]
        return bytes(self._held)

    def release(self) -> None:
        self._held = bytearray()
        self._memory.give_back(self._octets_taken)
        self._octets_taken = 0

    async def _next_chunk(self) -> tuple[bytes, bool]:
        try:
            return await self._reader.readuntil(END_OF_DATA), True
        except asyncio.LimitOverrunError as error:
            return await self._reader.readexactly(error.consumed), False

    def _keep(self, chunk: bytes, *, is_last: bool) -> OwnReply | None:
        if not self._memory.take(len(chunk)):
            self.release()
            return replies.STORAGE_SHORT
        self._octets_taken += len(chunk)
        self._held += self._unstuff(chunk, is_last=is_last)
        if len(self._held) - len(CRLF) > self._max_octets:
            self.release()
            return replies.TOO_LARGE
        return None

    def _unstuff(self, chunk: bytes, *, is_last: bool) -> bytes:
        octets = self._undecided + chunk
        if is_last:
            return octets.removesuffix(_FINAL_LINE).replace(_STUFFED_DOT, CRLF)
        self._undecided = CRLF if octets.endswith(CRLF) else b"\r" if octets.endswith(b"\r") else b""
        return octets.removesuffix(self._undecided).replace(_STUFFED_DOT, CRLF)
