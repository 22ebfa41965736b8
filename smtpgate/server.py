"""One gate process: its listeners, its store, and its end.

Several such processes share each port (SO_REUSEPORT). The database need not be there at the start, and may go away: peers
are then answered 421 or 451, and the gate finds its way back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from accounts.uses import UseBook
from delivery.acceptance.returns import Returns
from delivery.acceptance.store import MessageStore
from smtpgate.accepting import AcceptingServer
from smtpgate.boundary import Boundary, Network
from smtpgate.heartbeat import GATE, Heartbeat
from smtpgate.limits import Limits
from smtpgate.protocol import SmtpProtocol
from smtpgate.returns import ReturnsSession
from smtpgate.submission import SubmissionSession
from smtpgate.tls import Certificate

log = structlog.get_logger(__name__)

_BACKLOG = 1024


class CannotListen(Exception):
    """An address cannot be bound; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that is bound already, whether its peers begin with TLS, and whether it takes what comes back."""

    socket: socket.socket
    is_implicit_tls: bool
    is_for_returns: bool = False

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(
    endpoints: Iterable[tuple[str, int]], *, is_implicit_tls: bool, is_for_returns: bool = False
) -> list[Listener]:
    """Raises CannotListen."""
    return [Listener(_bind(host, port), is_implicit_tls, is_for_returns) for host, port in endpoints]


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has listeners of its own, and addresses that need no interpreting.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as error:
        raise CannotListen(f"the gate cannot listen on {host} port {port}: {error.strerror or error}") from error
    bound.setblocking(False)
    return bound


async def listen(
    boundary: Boundary, listener: Listener, new_session: Callable[[], SmtpProtocol]
) -> asyncio.Server | AcceptingServer:
    if listener.is_implicit_tls or boundary.proxies:
        return AcceptingServer(
            boundary, listener.socket, new_session, backlog=_BACKLOG, is_implicit_tls=listener.is_implicit_tls
        )
    return await asyncio.get_running_loop().create_server(new_session, sock=listener.socket, backlog=_BACKLOG)


class Gate:
    """The listeners of one process with what they share. ``number`` tells the processes of a node apart."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        limits: Limits,
        hostname: str,
        node: str,
        number: int,
        part: str = GATE,
        certificate: Certificate | None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._listeners = listeners
        self._certificate = certificate
        self.store = MessageStore(name=f"{part}-{number}")
        self.uses = UseBook(self.store.pool)
        self.returns = Returns(self.store)
        self.boundary = Boundary(
            limits,
            hostname=hostname,
            tls_context=certificate.context if certificate is not None else None,
            proxies=proxies,
        )
        self._heartbeat = Heartbeat(self.store.pool, node=node, part=part, number=number, figures=self._figures)
        self._servers: list[asyncio.Server | AcceptingServer] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self.store.open()
        self._tasks = [
            asyncio.create_task(self.boundary.watch(), name="gate-watch"),
            asyncio.create_task(self.uses.keep(), name="gate-uses"),
            asyncio.create_task(self._heartbeat.keep_beating(), name="gate-heartbeat"),
        ]
        for listener in self._listeners:
            self._servers.append(await self._listen(listener))

    async def keep_open(self, stop: asyncio.Event) -> None:
        """Until told to stop. What runs beside the sessions never ends by itself: if it does, its error is raised."""
        stopped = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait({stopped, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in ended - {stopped}:
            task.result()

    async def close(self) -> None:
        """Take no more, let those finish who are sending, commit what was handed in."""
        for server in self._servers:
            server.close()
        await self._heartbeat.beat(is_draining=True)
        await self.boundary.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.uses.write_down()
        await self._heartbeat.stop()
        await self.store.close()

    def read_certificate_again(self) -> None:
        if self._certificate is not None:
            self._certificate.read_again()

    @property
    def addresses(self) -> list[str]:
        return [listener.address for listener in self._listeners]

    async def _listen(self, listener: Listener) -> asyncio.Server | AcceptingServer:
        def new_session() -> SmtpProtocol:
            if listener.is_for_returns:
                return ReturnsSession(self.boundary, returns=self.returns, is_implicit_tls=listener.is_implicit_tls)
            return SubmissionSession(
                self.boundary, store=self.store, uses=self.uses, is_implicit_tls=listener.is_implicit_tls
            )

        return await listen(self.boundary, listener, new_session)

    def _figures(self) -> dict[str, int]:
        return {"sessions": self.boundary.session_count, "content_octets": self.boundary.memory.used}


async def serve(gate: Gate, *, number: int) -> None:
    """Run until SIGTERM or SIGINT, then drain. SIGHUP reads the certificate again."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, gate.read_certificate_again)
    await gate.open()
    # For whoever started us, beside the log.
    with contextlib.suppress(BrokenPipeError):
        print(f"gate ready {' '.join(gate.addresses)} (process {number})", flush=True)  # noqa: T201
    try:
        await gate.keep_open(stop)
    finally:
        log.info("gate_draining", process=number, sessions=gate.boundary.session_count)
        await gate.close()
        log.info("gate_stopped", process=number)
