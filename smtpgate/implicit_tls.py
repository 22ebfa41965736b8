"""A listener whose peers begin with TLS (RFC 8314 §3.3).

It accepts connections itself, so that a peer is counted, and turned away where there are too many, before anything is
spent on a handshake. (An event loop's own TLS server tells of a peer only afterwards, and one that changes to TLS once
connected may have read the peer's first words by then.)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import structlog

from smtpgate.boundary import Boundary, loggable, plain_address
from smtpgate.protocol import SmtpProtocol

log = structlog.get_logger(__name__)

# With no descriptor left, accepting fails at once, again and again.
_PAUSE_SECONDS = 0.1


class ImplicitTlsServer:
    """``bound`` is bound and not yet listening; it is ours from here on."""

    def __init__(
        self, boundary: Boundary, bound: socket.socket, new_session: Callable[[], SmtpProtocol], *, backlog: int
    ) -> None:
        self._boundary = boundary
        self._socket = bound
        self._new_session = new_session
        bound.listen(backlog)
        self._accepting = asyncio.create_task(self._accept(), name="gate-accept-tls")
        self._handshakes: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Accept no more. Sessions go on."""
        self._accepting.cancel()
        self._accepting.add_done_callback(lambda _: self._socket.close())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._socket)
            except OSError as error:
                log.error("not_accepted", error=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._receive(connection, plain_address(str(peer[0])))

    def _receive(self, connection: socket.socket, address: str) -> None:
        session = self._new_session()
        if self._boundary.has_enough_handshakes or session.come_in(address) is not None:
            connection.close()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.handshake = asyncio.create_task(self._shake_hands(session, connection))
        self._handshakes.add(session.handshake)
        session.handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, session: SmtpProtocol, connection: socket.socket) -> None:
        assert self._boundary.tls_context is not None
        self._boundary.handshakes += 1
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: session,
                connection,
                ssl=self._boundary.tls_context(),
                ssl_handshake_timeout=self._boundary.limits.tls_handshake_seconds,
            )
        except OSError as error:  # an SSLError or a TimeoutError, too
            log.info("tls_handshake_failed", peer=session.address, error=loggable(str(error)))
        finally:
            self._boundary.handshakes -= 1
            if session.handshake is not None:  # it did not come to a session
                session.leave()
                connection.close()
