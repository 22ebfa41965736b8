"""A connection that is read reply by reply and written with back-pressure; the bottom of the transport.

Everything a hostile or broken peer can do ends in a `WireFailure` that is raised by whoever waits next: replies are
bounded in line length, lines and octets, a reply that comes one octet at a time still has one deadline, and what is
no SMTP reply ends the connection. Nothing that arrived before the failure is lost: replies are handed out first.
"""

from __future__ import annotations

import _ssl
import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, cast

MAX_LINE_OCTETS: Final = 4096
MAX_REPLY_LINES: Final = 100
MAX_REPLY_OCTETS: Final = 64 * 1024
# With PIPELINING at most four replies are under way; whoever sends more than this is not talking to us.
MAX_REPLIES_WAITING: Final = 16
WRITE_BUFFER_OCTETS: Final = 64 * 1024
# Content the kernel may hold unsent: small, so that a peer that stopped reading is noticed before the final dot.
UNSENT_OCTETS: Final = 128 * 1024
CLOSING_SECONDS: Final = 5.0
TLS_HANDSHAKE_SECONDS: Final = 60.0
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h; the socket module does not name it before Python 3.12


class FailureKind(StrEnum):
    """What went wrong, for decisions that need more than the reply."""

    CANNOT_BIND = "cannot_bind"  # our source address cannot be used on this machine
    LOCAL = "local"  # we are out of ports, sockets or memory
    REFUSED = "refused"  # connection refused
    RESET = "reset"  # connection reset by the peer
    UNREACHABLE = "unreachable"  # no route to the address
    TIMEOUT = "timeout"
    CLOSED = "closed"  # the peer closed the connection
    NOT_SMTP = "not_smtp"  # what the peer says is not SMTP
    ANSWERED = "answered"  # the peer said no in SMTP; the reply is its own
    BROKEN_TLS = "broken_tls"  # opportunistic TLS failed: connect again without
    TLS = "tls"  # TLS that the policy demands failed or is not offered
    AUTH = "auth"  # our login at a smarthost failed
    CONTENT = "content"  # the content is no strict SMTP; it was not sent


class WireFailure(Exception):
    """The connection is of no more use. The text is for people and says what happened, in the third person."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Wire(asyncio.Protocol):
    """Used by one coroutine at a time. After `failure` is set nothing more can be written."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._tail = b""
        self._lines: list[bytes] = []
        self._reply_octets = 0
        self._replies: deque[list[bytes]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_paused = False
        self.failure: WireFailure | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._take(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        if self.failure is not None:
            return
        lines = (self._tail + data).split(b"\n") if self._tail else data.split(b"\n")
        tail = lines.pop()
        # Only the beginning of an endless line is kept, but all of it counts against the size of the reply.
        self._reply_octets += max(0, len(tail) - MAX_LINE_OCTETS)
        self._tail = tail[:MAX_LINE_OCTETS]
        for line in lines:
            self._take_line(line)
        if self._reply_octets > MAX_REPLY_OCTETS:
            self._fail(FailureKind.NOT_SMTP, f"the reply was longer than {MAX_REPLY_OCTETS} octets")
        elif len(self._replies) > MAX_REPLIES_WAITING:
            self._fail(FailureKind.NOT_SMTP, "the host sent replies that nobody asked for")
        if self._replies or self.failure is not None:
            _wake(self._reader)
            _wake(self._writer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.failure is None:
            self.failure = _failure_of(exc) if exc is not None else _closed()
        _wake(self._reader)
        _wake(self._writer)

    def eof_received(self) -> bool:
        if self.failure is None:
            self.failure = _closed()
        _wake(self._reader)
        _wake(self._writer)
        return False

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        _wake(self._writer)

    # What the session calls

    @property
    def has_input(self) -> bool:
        """Whether the peer said something that was not read yet, even half a line."""
        return bool(self._replies or self._lines or self._tail)

    @property
    def has_reply(self) -> bool:
        """Whether a whole reply can be read without waiting."""
        return bool(self._replies)

    async def reply(self, within: float) -> list[bytes]:
        """The lines of the next reply without line endings: at most 100 of at most 4096 octets, the last one always.

        Raises WireFailure, also when the whole reply has not come within so many seconds.
        """
        while not self._replies:
            self._raise_failure()
            self._reader = self._loop.create_future()
            timer = self._loop.call_later(within, self._expire, "no reply within {:g} seconds", within)
            try:
                await self._reader
            finally:
                timer.cancel()
                self._reader = None
        return self._replies.popleft()

    def write(self, data: bytes) -> None:
        """Raises WireFailure on a connection known to be lost."""
        self._raise_failure()
        self._transport.write(data)

    async def drain(self, within: float) -> None:
        """Wait until the peer took most of what was written, or says something instead.

        Raises WireFailure, also when it does neither within so many seconds.
        """
        while self._is_paused and self.failure is None and not self._replies:
            self._writer = self._loop.create_future()
            timer = self._loop.call_later(within, self._expire, "the host took no data for {:g} seconds", within)
            try:
                await self._writer
            finally:
                timer.cancel()
                self._writer = None
        self._raise_failure()

    async def start_tls(self, context: ssl.SSLContext, *, server_hostname: str, within: float) -> None:
        """Raises WireFailure with the kind TLS; the connection is of no use then.

        RFC 3207 §6: what came in plain text after the reply to STARTTLS must not be taken for part of the protected
        conversation; it could have been put there by anybody.
        """
        if self.has_input:
            self._fail(FailureKind.TLS, "the host, or somebody in between, sent plain text after the reply to STARTTLS")
        if self.failure is not None:
            raise WireFailure(FailureKind.TLS, self.failure.text)
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=server_hostname,
                ssl_handshake_timeout=min(within, TLS_HANDSHAKE_SECONDS),
                ssl_shutdown_timeout=CLOSING_SECONDS,
            )
            if transport is None or self.failure is not None:
                raise ConnectionAbortedError("connection lost during the handshake")
        except ssl.SSLCertVerificationError as error:
            self._fail(FailureKind.TLS, f"the certificate is not trusted: {error.verify_message}")
        except (OSError, ValueError) as error:
            self._fail(FailureKind.TLS, f"TLS handshake failed: {_reason(error)}")
        else:
            self._take(transport)
        if self.failure is not None:
            raise WireFailure(FailureKind.TLS, self.failure.text)

    @property
    def tls(self) -> tuple[str, str] | None:
        """Version and cipher, once TLS is on."""
        protected = self._transport.get_extra_info("ssl_object")
        if protected is None:
            return None
        return protected.version() or "TLS", (protected.cipher() or ("unknown",))[0]

    @property
    def peer_chain(self) -> list[bytes]:
        """The certificates the peer sent, its own first, in DER; nothing about them was verified."""
        protected = self._transport.get_extra_info("ssl_object")
        return [] if protected is None else _chain_of(protected)

    @property
    def local_address(self) -> str:
        name = self._transport.get_extra_info("sockname")
        return str(name[0]) if name else ""

    def close(self) -> None:
        """Close after what was written went out; not waiting for it longer than a few seconds."""
        if not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(CLOSING_SECONDS, self._transport.abort)
        self.failure = self.failure or WireFailure(FailureKind.CLOSED, "the connection was closed by us")

    def abort(self) -> None:
        """Close at once and drop what was not sent yet."""
        self._transport.abort()
        self.failure = self.failure or WireFailure(FailureKind.CLOSED, "the connection was closed by us")

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise WireFailure(self.failure.kind, self.failure.text)

    def _take(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=WRITE_BUFFER_OCTETS)
        self._transport = transport

    def _take_line(self, line: bytes) -> None:
        self._reply_octets += len(line)
        line = line[:MAX_LINE_OCTETS].rstrip(b"\r")
        is_last = line[3:4] != b"-"
        if not line[:3].isdigit() or line[:1] not in b"2345" or line[3:4] not in (b" ", b"-", b""):
            heard = line[:120].decode("ascii", "replace")
            self._fail(FailureKind.NOT_SMTP, f"the host does not speak SMTP, it said: {heard}")
        elif not is_last and len(self._lines) >= MAX_REPLY_LINES - 1:
            return
        elif is_last and self.failure is None:
            self._lines.append(line)
            self._replies.append(self._lines)
            self._lines = []
            self._reply_octets = 0
        else:
            self._lines.append(line)

    def _expire(self, text: str, seconds: float) -> None:
        self._fail(FailureKind.TIMEOUT, text.format(seconds))

    def _fail(self, kind: FailureKind, text: str) -> None:
        if self.failure is None:
            self.failure = WireFailure(kind, text)
        self._transport.abort()
        _wake(self._reader)
        _wake(self._writer)


async def connect(address: str, port: int, *, source_address: str | None, within: float) -> Wire:
    """Dial one address, from the given source address or from the one the system chooses. Raises WireFailure."""
    loop = asyncio.get_running_loop()
    sock = _bound_socket(address, source_address)
    try:
        try:
            async with asyncio.timeout(within):
                await loop.sock_connect(sock, (address, port))
            _, wire = await loop.create_connection(Wire, sock=sock)
        except TimeoutError:
            raise WireFailure(FailureKind.TIMEOUT, f"no connection within {within:g} seconds") from None
        except OSError as error:
            raise _failure_of(error) from error
    except BaseException:
        sock.close()
        raise
    return wire


def _bound_socket(address: str, source_address: str | None) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _failure_of(error) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_OCTETS)
        if source_address is not None:
            # The port is chosen when connecting, so that one address can have as many connections to each destination.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source_address, 0))
    except OSError as error:
        sock.close()
        text = f"cannot bind the source address {source_address}: {_reason(error)}"
        raise WireFailure(FailureKind.CANNOT_BIND, text) from error
    return sock


def _chain_of(protected: ssl.SSLObject) -> list[bytes]:
    if hasattr(protected, "get_unverified_chain"):
        return list(protected.get_unverified_chain())
    # Before Python 3.13 only the object underneath knows more than the first certificate.
    inner = getattr(protected, "_sslobj", None)
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return [certificate.public_bytes(_ssl.ENCODING_DER) for certificate in inner.get_unverified_chain() or ()]
    certificate = protected.getpeercert(binary_form=True)
    return [certificate] if certificate else []


_KINDS = {
    errno.ECONNREFUSED: FailureKind.REFUSED,
    errno.ECONNRESET: FailureKind.RESET,
    errno.EPIPE: FailureKind.RESET,
    errno.ETIMEDOUT: FailureKind.TIMEOUT,
    errno.EADDRNOTAVAIL: FailureKind.LOCAL,
    errno.EADDRINUSE: FailureKind.LOCAL,
    errno.EMFILE: FailureKind.LOCAL,
    errno.ENFILE: FailureKind.LOCAL,
    errno.ENOBUFS: FailureKind.LOCAL,
    errno.ENOMEM: FailureKind.LOCAL,
}


def _failure_of(error: Exception) -> WireFailure:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return WireFailure(_KINDS.get(error.errno or 0, FailureKind.UNREACHABLE), _reason(error).lower())
    return WireFailure(FailureKind.CLOSED, f"connection lost: {_reason(error)}")


def _closed() -> WireFailure:
    return WireFailure(FailureKind.CLOSED, "the host closed the connection")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
