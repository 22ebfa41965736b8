"""A gate's protocol on a real port, with a listener behind it that only writes down what it was handed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from delivery.core import replies
from delivery.core.envelope import MailCommand, RcptCommand
from delivery.core.replies import OwnReply, Rejection
from smtpgate import server
from smtpgate.boundary import Boundary, Network
from smtpgate.limits import Limits
from smtpgate.protocol import SmtpProtocol
from smtpgate.tls import Certificate
from tests.support.loop_thread import LoopThread
from tests.support.wire import Wire

LIMITS = Limits(
    max_message_bytes=200_000,
    max_recipients=5,
    connections=60,
    connections_per_address=40,
    commands_per_session=20_000,
    idle_commands=100,
    errors=20,
    command_seconds=20,
    stress_command_seconds=10,
    unproductive_seconds=20,
    data_seconds=20,
    data_bytes_per_second=500,
    content_memory_bytes=2_000_000,
    tls_handshakes=10,
    tls_handshake_seconds=5,
    login_failures_per_session=5,
    login_failures_per_address=30,
    login_window_seconds=600,
    login_delay_seconds=0.01,
    login_delay_maximum_seconds=0.05,
    drain_seconds=5,
)


@dataclass
class Taken:
    """A content as the listener got it."""

    mail: MailCommand
    recipients: list[RcptCommand]
    content: bytes
    peer: str


@dataclass
class Desk:
    """What was handed in at one port, and what its listener is to do about it."""

    address: tuple[str, int]
    implicit_address: tuple[str, int]
    boundary: Boundary
    loop: LoopThread
    taken: list[Taken] = field(default_factory=list)
    fails_with: Exception | None = None
    # Set by a test that wants to keep the answer to a content back.
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    is_available: bool = True
    watch: asyncio.Task[None] | None = None

    def connect(self, **options: Any) -> Wire:
        return Wire(self.address, **options)

    def greeted(self, **options: Any) -> Wire:
        wire = self.connect(**options)
        assert wire.greet().code == 250
        return wire

    def in_data(self, **options: Any) -> Wire:
        """A session to which 354 was just said."""
        wire = self.greeted(**options)
        assert [said.code for said in wire.envelope(b"alice@acme.test", b"bob@example.com")] == [250, 250]
        assert wire.say(b"DATA").code == 354
        return wire

    @property
    def contents(self) -> list[bytes]:
        return [taken.content for taken in self.taken]

    def hold_answers(self) -> None:
        self.loop.loop.call_soon_threadsafe(self.may_answer.clear)

    def answer(self) -> None:
        self.loop.loop.call_soon_threadsafe(self.may_answer.set)


class DeskSession(SmtpProtocol):
    def __init__(self, desk: Desk, *, is_implicit_tls: bool) -> None:
        super().__init__(desk.boundary, is_implicit_tls=is_implicit_tls)
        self.desk = desk

    @property
    def is_available(self) -> bool:
        return self.desk.is_available

    async def begin(self, mail: MailCommand) -> None:
        if self.desk.fails_with is not None:
            raise self.desk.fails_with
        if mail.size is not None and mail.size > self.max_message_bytes:
            raise Rejection(replies.TOO_LARGE)

    async def add(self, recipient: RcptCommand) -> None:
        if recipient.mailbox.local_part == "nobody":
            raise Rejection(replies.RECIPIENT_NOT_HERE)

    async def take(self, content: bytes) -> OwnReply:
        if self.desk.fails_with is not None:
            raise self.desk.fails_with
        await self.desk.may_answer.wait()
        assert self.mail is not None
        self.desk.taken.append(Taken(self.mail, list(self.recipients), content, self.address))
        return replies.ACCEPTED


async def open_desk(
    loop: LoopThread, certificate_file: Path | None, host: str, limits: Limits, proxies: Sequence[Network] = ()
) -> Desk:
    certificate = Certificate(certificate_file, certificate_file) if certificate_file else None
    boundary = Boundary(
        limits, hostname="relay.test", tls_context=certificate.context if certificate else None, proxies=proxies
    )
    plain, implicit = server.bind([(host, 0)], is_implicit_tls=False) + server.bind([(host, 0)], is_implicit_tls=True)
    desk = Desk(plain.socket.getsockname()[:2], implicit.socket.getsockname()[:2], boundary, loop)
    desk.may_answer.set()
    running = asyncio.get_running_loop()
    for listener in (plain, implicit):
        await server.listen(boundary, listener, partial(DeskSession, desk, is_implicit_tls=listener.is_implicit_tls))
    desk.watch = running.create_task(boundary.watch())
    return desk
