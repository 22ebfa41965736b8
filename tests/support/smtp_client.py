"""Our transport pointed at a scripted peer, with the settings a test does not care about filled in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from delivery.transport.hops import Hop
from delivery.transport.session import Delivery, SmtpSession
from delivery.transport.timeouts import SmtpTimeouts
from delivery.transport.tls_policy import TlsMode, TlsPolicy
from delivery.transport.transcript import Transcript
from tests.support.smtp_peer import SmtpPeer

TIMEOUTS = SmtpTimeouts(connect=5, banner=5, command=5, data=5, dot=5)
# For waiting in vain: short, but longer than a busy machine keeps a loop waiting.
IMPATIENT = SmtpTimeouts(connect=0.4, banner=0.4, command=0.4, data=0.4, dot=0.4)
CONTENT = b"Subject: hello\r\n\r\nHello Bob\r\n"


def hop_to(peer: SmtpPeer, *, name: str = "mx.acme.test", has_implicit_tls: bool = False) -> Hop:
    return Hop(name, peer.port, peer.host, name, has_implicit_tls)


async def open_session(peer: SmtpPeer | Hop, **options: Any) -> SmtpSession:
    settings: dict[str, Any] = {
        "source_address": None,
        "ehlo_name": "relay.test",
        "tls": TlsPolicy(TlsMode.NONE),
        "timeouts": TIMEOUTS,
        "transcript": Transcript(),
    }
    hop = peer if isinstance(peer, Hop) else hop_to(peer)
    return await SmtpSession.open(hop, **(settings | options))


class Mark:
    """A mark for the dot that a test can keep waiting, or refuse."""

    def __init__(self, answer: bool = True, *, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.calls = 0
        self._answer = answer
        self._meanwhile = meanwhile

    async def __call__(self) -> bool:
        self.calls += 1
        if self._meanwhile is not None:
            await self._meanwhile()
        return self._answer


async def deliver(
    session: SmtpSession, content: bytes | Sequence[bytes | memoryview] = CONTENT, **options: Any
) -> Delivery:
    settings: dict[str, Any] = {
        "reverse_path": "bounce@relay.test",
        "recipient": "bob@acme.test",
        "mark_dot": Mark(),
        "transcript": Transcript(),
    }
    chunks = [content] if isinstance(content, bytes) else content
    return await session.deliver(content=chunks, **(settings | options))


async def until_unusable(session: SmtpSession) -> None:
    """Let the loop run until the session has noticed that its connection is of no use."""
    while session.is_usable:
        await asyncio.sleep(0)


def texts(transcript: Transcript) -> list[str]:
    """The entries without times: `> MAIL FROM:<…>`."""
    return [f"{direction} {text}" for _, direction, text in transcript.to_json()]
