"""The bytes of one SMTP connection: lines and content coming in, replies going out, memory bounded throughout.

Lines and the end of the content are recognised by CRLF only (RFC 5321 §2.3.8, §4.1.1.4). A connection that ends, in
whatever way, raises `Disconnected` in whoever waits for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import cast

MAX_LINE_BYTES = 4096
_READ_AHEAD_BYTES = 256 * 1024
_END_OF_CONTENT = b"\r\n.\r\n"


class Disconnected(ConnectionError):
    """The peer has gone, or was silent for too long."""


class LineTooLongError(ValueError):
    """No CRLF within the longest line we take."""


class Wire(asyncio.Protocol):
    """A connection as a pair of buffers. One task reads; replies gather until it waits for more input."""

    def __init__(self, *, idle_s: float = 300.0) -> None:
        self._idle_s = idle_s
        self._input = bytearray()
        self._output = bytearray()
        self._transport: asyncio.Transport | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_over = False
        self.closed = asyncio.get_running_loop().create_future()

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._input += data
        if len(self._input) > _READ_AHEAD_BYTES and self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake(self._arrival)

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake(self._arrival)
        # A peer that sends no more may still read: its last reply is owed. TLS knows no half-closed connections.
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._wake(self._arrival)
        self._wake(self._room)
        self._wake(self.closed)

    def pause_writing(self) -> None:
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self._wake(self._room)

    # --- reading

    @property
    def has_input(self) -> bool:
        """The peer has sent something that has not been read yet."""
        return bool(self._input)

    async def line(self) -> bytes:
        """The next line without its CRLF; a line may hold a bare CR or LF, which is for the caller to judge."""
        searched = 0
        while True:
            end = self._input.find(b"\r\n", searched)
            if 0 <= end <= MAX_LINE_BYTES:
                line = bytes(self._input[:end])
                del self._input[: end + 2]
                return line
            if end > 0 or len(self._input) > MAX_LINE_BYTES:
                raise LineTooLongError
            searched = max(0, len(self._input) - 1)
            await self._more()

    def content(self) -> Content:
        return Content(self)

    async def arrival(self, *, within_s: float | None = None) -> None:
        """Wait until there is unread input."""
        while not self._input:
            await self._more(within_s)

    async def _more(self, within_s: float | None = None) -> None:
        await self.flush()
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        known = len(self._input)
        while len(self._input) == known:
            if self._is_over:
                raise Disconnected
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(within_s or self._idle_s):
                    await self._arrival
            except TimeoutError as error:
                raise Disconnected from error

    def take(self, count: int) -> bytearray:
        taken = self._input[:count]
        del self._input[:count]
        return taken

    def put_back(self, octets: bytes | bytearray) -> None:
        self._input[:0] = octets

    # --- writing

    def write(self, octets: bytes) -> None:
        self._output += octets

    async def flush(self) -> None:
        if not self._output or self._transport is None:
            return
        if self._transport.is_closing():
            raise Disconnected
        self._transport.write(bytes(self._output))
        self._output.clear()
        if self._room is not None and not self._room.done():
            await self._room

    async def trickle(self, octets: bytes, *, byte_delay_s: float) -> None:
        await self.flush()
        for octet in octets:
            # Never after the last one: what the peer says next may be a TLS handshake.
            await asyncio.sleep(byte_delay_s)
            if self._transport is None or self._transport.is_closing():
                raise Disconnected
            self._transport.write(bytes((octet,)))

    async def start_tls(self, context: ssl.SSLContext) -> dict[str, str]:
        """Answer a handshake; what was sent in the clear behind the command has been dropped (RFC 3207 §4.2)."""
        await self.flush()
        self._input.clear()
        if self._transport is None:
            raise Disconnected
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=30.0
            )
        except (OSError, TimeoutError) as error:
            raise Disconnected(str(error)) from error
        if transport is None:
            raise Disconnected
        self._transport = transport
        tls = self._transport.get_extra_info("ssl_object")
        cipher = tls.cipher()
        return {"version": tls.version() or "", "cipher": cipher[0] if cipher else ""}

    # --- the end

    def address(self, which: str) -> str:
        """`peername` or `sockname` as a bare IP address."""
        known = self._transport.get_extra_info(which) if self._transport is not None else None
        return str(known[0]) if known else ""

    @property
    def is_gone(self) -> bool:
        """Nothing that we say will be read any more."""
        return self._transport is None or self._transport.is_closing()

    async def close(self) -> None:
        """Send what is left to say, and close."""
        if self._transport is not None and not self._transport.is_closing():
            if self._output:
                self._transport.write(bytes(self._output))
                self._output.clear()
            self._transport.close()

    def reset(self) -> None:
        """End the connection with a TCP reset, as firewalls and overloaded hosts do."""
        if self._transport is None or self._transport.is_closing():
            return
        self._output.clear()
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Content:
    """The content after 354, dot-unstuffed piece by piece (RFC 5321 §4.5.2)."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # The line before the content ends with CRLF: a dot right at its start is at the start of a line.
        self._pending = bytearray(b"\r\n")
        self._is_first = True
        self.is_complete = False

    async def read(self) -> bytearray:
        """The next piece, perhaps empty; after the last one `is_complete`."""
        await self._wire.arrival()
        searched = max(0, len(self._pending) - len(_END_OF_CONTENT) + 1)
        self._pending += self._wire.take(_READ_AHEAD_BYTES)
        end = self._pending.find(_END_OF_CONTENT, searched)
        if end >= 0:
            self.is_complete = True
            self._give_back(end + len(_END_OF_CONTENT))
            return self._finished(end + 2)
        # A piece may not end inside of CRLF "." CR LF, and each beginning of that begins with a CR.
        start_of_rest = self._pending.find(b"\r", max(0, len(self._pending) - len(_END_OF_CONTENT) + 1))
        return self._finished(start_of_rest if start_of_rest >= 0 else len(self._pending))

    def _give_back(self, end: int) -> None:
        if len(self._pending) > end:
            self._wire.put_back(self._pending[end:])

    def _finished(self, end: int) -> bytearray:
        piece = self._pending[:end].replace(b"\r\n.", b"\r\n")
        del self._pending[:end]
        if self._is_first and len(piece) >= 2:
            self._is_first = False
            del piece[:2]
        return piece
