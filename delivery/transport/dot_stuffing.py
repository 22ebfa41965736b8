"""Content as it goes on the wire: dots at the beginnings of lines doubled, and nothing that is not strict SMTP.

The content must be CRLF-only when it comes here; it was refused or normalised before it was signed. This is the last
look at it, and it is not repaired: a bare CR, a bare LF or a NUL means that something before us is wrong, and what a
receiving host would make of it is exactly what SMTP smuggling is built from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BLOCK_OCTETS = 64 * 1024

Chunk = bytes | bytearray | memoryview


class UnsafeContent(ValueError):
    """A bare CR, a bare LF or a NUL in content that was to go out."""


class DotStuffer:
    """Stuffs one message given in chunks, wherever the borders between them fall."""

    __slots__ = ("_ends_in_cr", "_is_at_line_start")

    def __init__(self) -> None:
        self._is_at_line_start = True
        self._ends_in_cr = False

    def stuff(self, data: bytes) -> bytes:
        """Raises UnsafeContent. Works at the speed of memory: searching and replacing are done in C."""
        if not data:
            return data
        self._refuse_unsafe(data)
        stuffed = data.replace(b"\n.", b"\n..") if b"\n." in data else data
        if self._is_at_line_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._is_at_line_start = data.endswith(b"\n")
        self._ends_in_cr = data.endswith(b"\r")
        return stuffed

    def ending(self) -> bytes:
        """What ends the content: the final dot on a line of its own. Raises UnsafeContent after a lone CR."""
        if self._ends_in_cr:
            raise UnsafeContent("bare CR at the end of the content")
        return b".\r\n" if self._is_at_line_start else b"\r\n.\r\n"

    def _refuse_unsafe(self, data: bytes) -> None:
        pairs = data.count(b"\r\n")
        if self._ends_in_cr:
            if not data.startswith(b"\n"):
                raise UnsafeContent("bare CR")
            pairs += 1  # its CR was the last octet of the chunk before
        if data.count(b"\n") != pairs:
            raise UnsafeContent("bare LF")
        carriage_returns = data.count(b"\r") + self._ends_in_cr - data.endswith(b"\r")
        if carriage_returns != pairs:
            raise UnsafeContent("bare CR")
        if b"\0" in data:
            raise UnsafeContent("NUL")


def size_of(content: Sequence[Chunk]) -> int:
    return sum(map(len, content))


def blocks_of(content: Sequence[Chunk]) -> Iterator[bytes]:
    """The content in pieces of at most BLOCK_OCTETS; large chunks are cut without copying them as a whole."""
    for chunk in content:
        if len(chunk) <= BLOCK_OCTETS:
            yield bytes(chunk)
            continue
        view = memoryview(chunk)
        for start in range(0, len(view), BLOCK_OCTETS):
            yield bytes(view[start : start + BLOCK_OCTETS])
