"""The line between the network and the sessions of one gate process.

It lets peers in or turns them away, holds what all sessions share (limits, counts, TLS), ends those that take too long,
and empties the process when it is to stop. Nothing here waits for a peer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from delivery.core import replies
from delivery.core.replies import OwnReply
from smtpgate.limits import Limits
from smtpgate.throttle import Connections, ContentMemory, LoginFailures, neighbourhood

if TYPE_CHECKING:
    from smtpgate.protocol import SmtpProtocol

log = structlog.get_logger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A peer that does not read what we say last is cut off after this time.
_LINGER_SECONDS = 5.0
_LONGEST_LOGGED = 200


class Boundary:
    """What the sessions of a process share. Belongs to one event loop."""

    def __init__(
        self,
        limits: Limits,
        *,
        hostname: str,
        tls_context: Callable[[], ssl.SSLContext] | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        """``proxies`` begin each connection by telling whose it is, and are believed."""
        self.limits = limits
        self.proxies = tuple(proxies)
        self.hostname = hostname
        # Asked for each handshake, so that a renewed certificate is used from the next one on.
        self.tls_context = tls_context
        self.connections = Connections(limits)
        self.memory = ContentMemory(limits.content_memory_bytes)
        self.logins = LoginFailures(limits)
        self.handshakes = 0
        self.is_draining = False
        self._sessions: set[SmtpProtocol] = set()

    # ------------------------------------------------------------ in and out

    def is_proxy(self, address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in self.proxies)

    def enter(self, session: SmtpProtocol, address: str) -> OwnReply | None:
        """Let a session in, or say why not. A session that was let in must leave."""
        if self.is_draining:
            return replies.SHUTTING_DOWN
        peer = neighbourhood(address)
        if not self.connections.enter(peer):
            if self.connections.times_refused(peer) == 1:
                log.warning("too_many_connections", peer=address, open=self.connections.count)
            return replies.TOO_MANY_CONNECTIONS
        self._sessions.add(session)
        return None

    def leave(self, session: SmtpProtocol, address: str) -> None:
        self._sessions.discard(session)
        self.connections.leave(neighbourhood(address))

    @property
    def has_enough_handshakes(self) -> bool:
        return self.handshakes >= self.limits.tls_handshakes

    # ------------------------------------------------------------ time

    async def watch(self) -> None:
        """End sessions that take too long, until cancelled."""
        while True:
            await asyncio.sleep(self.limits.watch_seconds)
            now = asyncio.get_running_loop().time()
            is_stressed = self.connections.is_stressed
            for session in list(self._sessions):
                session.look_at_the_clock(
                    now, is_stressed=is_stressed, linger_seconds=min(_LINGER_SECONDS, self.limits.command_seconds)
                )

    async def drain(self) -> None:
        """Let nobody in any more, end sessions between transactions at once and the others when they are through.

        Who is not through in time is told 421: it has not got its 250, so its mail is still its own.
        """
        self.is_draining = True
        for session in list(self._sessions):
            session.end_if_idle(replies.SHUTTING_DOWN)
        await self._wait_until(lambda: all(session.has_ended for session in self._sessions), self.limits.drain_seconds)
        for session in list(self._sessions):
            session.end(replies.SHUTTING_DOWN)
        # So that what was said last is read.
        await self._wait_until(lambda: not self._sessions, 1.0)
        for session in list(self._sessions):
            session.abort()

    async def _wait_until(self, holds: Callable[[], bool], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not holds() and loop.time() < deadline:
            await asyncio.sleep(0.02)

    @property
    def session_count(self) -> int:
        return len(self._sessions)


# ---------------------------------------------------------------- what peers say and are called


def peer_address(transport: asyncio.BaseTransport) -> str:
    name: Any = transport.get_extra_info("peername")
    if not name:
        return "0.0.0.0"  # noqa: S104 - gone before we looked
    return plain_address(str(name[0]))


def plain_address(host: str) -> str:
    """An IP address without zone, and IPv4 where it is IPv4 in IPv6's clothes."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or address)


def loggable(text: str | bytes) -> str:
    """What a peer said, short and in printable ASCII, so that it can neither forge nor flood the log."""
    if isinstance(text, bytes):
        text = text[:_LONGEST_LOGGED].decode("utf-8", "replace")
    text = text[:_LONGEST_LOGGED]
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def new_reference() -> str:
    """Under which trouble told to a peer is found in our log."""
    return secrets.token_hex(4).upper()
