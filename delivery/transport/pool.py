"""The connections of one path: opened at the next address when one fails, kept between messages, closed politely.

A connection has one user from `acquire` to `release`; the caller releases it only after its settlement is
committed. Idle ones are closed with QUIT after a few seconds, and one that the peer closed meanwhile is noticed
before it is handed out. How many connections a path may use at once is decided by the caller's permits; with
`max_connections` the pool sees to it that idle and closing connections do not come on top of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from delivery.transport.hops import MAX_HOPS, Hop
from delivery.transport.session import Login, SessionFailed, SmtpSession
from delivery.transport.timeouts import SmtpTimeouts
from delivery.transport.tls_policy import BrokenTls, TlsMode, TlsPolicy
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind

IDLE_SECONDS = 5.0
MAX_MESSAGES = 100

_Key = tuple[Hop, TlsPolicy, Login | None]
# Another address of the peer cannot help when it is ours that is at fault.
_OUR_OWN = frozenset({FailureKind.CANNOT_BIND, FailureKind.LOCAL})


class ConnectionPool:
    """For one source address and EHLO name. Belongs to the event loop it is used on.

    `before_connecting` is awaited before each address that is dialled, and may raise to prevent it.
    `max_messages` and `max_connections` may be changed at any time and count from then on.
    """

    def __init__(
        self,
        *,
        source_address: str | None,
        ehlo_name: str,
        timeouts: SmtpTimeouts,
        broken_tls: BrokenTls,
        max_messages: int = MAX_MESSAGES,
        max_connections: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
        before_connecting: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.max_messages = max_messages
        self.max_connections = max_connections
        self._source_address = source_address
        self._ehlo_name = ehlo_name
        self._timeouts = timeouts
        self._broken_tls = broken_tls
        self._idle_seconds = idle_seconds
        self._before_connecting = before_connecting
        self._idle: OrderedDict[SmtpSession, asyncio.TimerHandle] = OrderedDict()  # the one idle longest first
        self._keys: dict[SmtpSession, _Key] = {}
        self._in_use = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def connections(self) -> int:
        """Connections the peer may see: in use or being opened, idle, and closing."""
        return self._in_use + len(self._idle) + len(self._leaving)

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def acquire(
        self,
        hops: Sequence[Hop],
        *,
        tls: TlsPolicy,
        login: Login | None = None,
        transcript: Transcript,
        is_fresh: bool = False,
    ) -> SmtpSession:
        """A session to one of the hops, kept or new; `is_fresh` asks for a new one, after a stale one.

        At most five addresses are dialled. Raises SessionFailed when all of them failed: with a transient reply
        where any could work later, with a permanent one only where every host answered so; `failures` has them all.
        """
        session = None if is_fresh else self._kept(hops, tls, login)
        self._in_use += 1
        try:
            if session is None:
                await self._make_room()
                session, hop = await self._open_first(hops, tls, login, transcript)
                self._keys[session] = (hop, tls, login)
        except BaseException:
            self._in_use -= 1
            raise
        return session

    def release(self, session: SmtpSession) -> None:
        """Give a session back: it is kept, or closed in the background if it should not carry another message."""
        self._in_use -= 1
        if self._is_closed or not session.is_usable or session.messages >= self.max_messages:
            self._dismiss(session)
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_idle, session)
        self._idle[session] = timer

    async def close_all(self) -> None:
        """Close what is idle, politely, and wait for it. Sessions in use are closed when they are released."""
        self._is_closed = True
        for session in list(self._idle):
            self._close_idle(session)
        while self._leaving:
            await asyncio.wait(self._leaving)

    # Keeping

    def _kept(self, hops: Sequence[Hop], tls: TlsPolicy, login: Login | None) -> SmtpSession | None:
        """The best hop's connection that was used last, so that surplus ones grow old and leave."""
        wanted = {(hop, tls, login): rank for rank, hop in enumerate(hops)}
        best: SmtpSession | None = None
        best_rank = len(hops)
        for session in reversed(self._idle):
            rank = wanted.get(self._keys[session], best_rank)
            if rank < best_rank and session.is_usable:
                best, best_rank = session, rank
                if rank == 0:
                    break
        if best is not None:
            self._idle.pop(best).cancel()
        return best

    def _close_idle(self, session: SmtpSession) -> None:
        self._idle.pop(session).cancel()
        self._dismiss(session)

    def _dismiss(self, session: SmtpSession) -> None:
        del self._keys[session]
        if not session.is_usable:
            session.close()
            return
        task = asyncio.get_running_loop().create_task(session.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    # Opening

    async def _make_room(self) -> None:
        """Let idle and closing connections go before another is opened, which is already counted as in use."""
        while self.max_connections is not None and self.connections > self.max_connections:
            if not self._leaving:
                if not self._idle:
                    return  # more permits than connections: the caller's decision
                self._close_idle(next(iter(self._idle)))
            if self._leaving:
                await asyncio.wait(self._leaving, return_when=asyncio.FIRST_COMPLETED)

    async def _open_first(
        self, hops: Sequence[Hop], tls: TlsPolicy, login: Login | None, transcript: Transcript
    ) -> tuple[SmtpSession, Hop]:
        failures: list[SessionFailed] = []
        for hop in hops[:MAX_HOPS]:
            try:
                return await self._open(hop, tls, login, transcript), hop
            except SessionFailed as failure:
                failures.append(failure)
                if failure.kind in _OUR_OWN:
                    break
        decisive = min(failures, key=_finality)
        decisive.failures = tuple(failures)
        raise decisive

    async def _open(self, hop: Hop, tls: TlsPolicy, login: Login | None, transcript: Transcript) -> SmtpSession:
        tls = hop.tls or tls
        host = f"{hop.address}:{hop.port}"
        if tls.mode is TlsMode.OPPORTUNISTIC and login is None and self._broken_tls.contains(host):
            transcript.note(f"TLS of {hop} was found broken before, so it is not tried")
            tls = replace(tls, mode=TlsMode.NONE)
        try:
            return await self._open_with(hop, tls, login, transcript)
        except SessionFailed as failure:
            if failure.kind is not FailureKind.BROKEN_TLS:
                raise
        self._broken_tls.remember(host)
        transcript.note("connecting again without TLS")
        return await self._open_with(hop, replace(tls, mode=TlsMode.NONE), login, transcript)

    async def _open_with(self, hop: Hop, tls: TlsPolicy, login: Login | None, transcript: Transcript) -> SmtpSession:
        if self._before_connecting is not None:
            await self._before_connecting()
        return await SmtpSession.open(
            hop,
            source_address=self._source_address,
            ehlo_name=self._ehlo_name,
            tls=tls,
            timeouts=self._timeouts,
            login=login,
            transcript=transcript,
        )


def _finality(failure: SessionFailed) -> tuple[bool, bool]:
    """What a host said about trying later comes before what the network did, and both before a permanent refusal."""
    return failure.reply.is_permanent, failure.kind is not FailureKind.ANSWERED
