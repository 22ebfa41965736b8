"""A listener that accepts connections itself, where something is to be done before there is a session.

- Peers that begin with TLS (RFC 8314 §3.3) are counted, and turned away where there are too many, before anything is spent on
  a handshake. (An event loop's own TLS server tells of a peer only afterwards, and one that changes to TLS once connected
  may have read the peer's first words by then.)
- Proxies say whose connection they pass on, before anything else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from smtpgate.boundary import Boundary, loggable, plain_address
from smtpgate.protocol import SmtpProtocol
from smtpgate.proxy_protocol import ProxyHeaderError, read_source

log = structlog.get_logger(__name__)

# With no descriptor left, accepting fails at once, again and again.
_PAUSE_SECONDS = 0.1
# A proxy says whose connection it is together with opening it.
_PROXY_HEADER_SECONDS = 5.0


class AcceptingServer:
    """``bound`` is bound and not yet listening; it is ours from here on."""

    def __init__(
        self,
        boundary: Boundary,
        bound: socket.socket,
        new_session: Callable[[], SmtpProtocol],
        *,
        backlog: int,
        is_implicit_tls: bool,
    ) -> None:
        self._boundary = boundary
        self._socket = bound
        self._new_session = new_session
        self._is_implicit_tls = is_implicit_tls
        bound.listen(backlog)
        self._accepting = asyncio.create_task(self._accept(), name="gate-accept")
        # What goes on before there is a session.
        self._beginnings: set[asyncio.Task[None]] = set()

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
            address = plain_address(str(peer[0]))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._boundary.is_proxy(address):
                self._begin(self._ask_the_proxy(connection, address))
            else:
                self._receive(connection, address)

    async def _ask_the_proxy(self, connection: socket.socket, proxy: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PROXY_HEADER_SECONDS):
                source = await read_source(lambda octets: loop.sock_recv(connection, octets))
        except (ProxyHeaderError, OSError) as error:  # a TimeoutError, too
            # A probe that only connects says nothing: no news.
            log.info("proxy_header_missing", proxy=proxy, error=str(error) or "it did not come in time")
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            self._receive(connection, plain_address(source or proxy))

    def _receive(self, connection: socket.socket, address: str) -> None:
        session = self._new_session()
        session.address = address
        if not self._is_implicit_tls:
            self._begin(self._start(session, connection))
            return
        if self._boundary.has_enough_handshakes or session.come_in(address) is not None:
            connection.close()
            return
        session.handshake = self._begin(self._shake_hands(session, connection))

    async def _start(self, session: SmtpProtocol, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: session, connection)
        except OSError as error:
            log.info("not_connected", peer=session.address, error=str(error))
            connection.close()

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

    def _begin(self, beginning: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(beginning)
        self._beginnings.add(task)
        task.add_done_callback(self._beginnings.discard)
        return task
