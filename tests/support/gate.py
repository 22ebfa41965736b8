"""A whole gate, with its store and the test database behind it, on loopback ports."""

from __future__ import annotations

import base64
import smtplib
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import zstandard
from django.conf import settings

from accounts.credentials import Issued
from delivery.models import Content, Message
from smtpgate import server
from smtpgate.limits import Limits
from smtpgate.tls import Certificate
from tests.support.loop_thread import LoopThread
from tests.support.waiting import until
from tests.support.wire import CLIENT_TLS, Said, Wire

LETTER = (
    "From: Alice <alice@acme.example>\r\n"
    "To: bob@example.com\r\n"
    "Subject: =?utf-8?B?44GT44KT44Gr44Gh44Gv?=\r\n"
    "Date: Tue, 24 Nov 2026 14:31:40 +0900\r\n"
    "Message-ID: <letter.1@acme.example>\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "ご注文ありがとうございます。\r\n"
).encode()


@dataclass
class RunningGate:
    gate: server.Gate
    loop: LoopThread
    address: tuple[str, int]
    implicit_address: tuple[str, int]
    returns_address: tuple[str, int]

    @classmethod
    def start(cls, loop: LoopThread, certificate_file: Path, *, host: str = "127.0.0.1", **limits: Any) -> Self:
        plain, implicit = server.bind([(host, 0)], is_implicit_tls=False) + server.bind(
            [(host, 0)], is_implicit_tls=True
        )
        (returns,) = server.bind([(host, 0)], is_implicit_tls=False, is_for_returns=True)
        quick = {"login_delay_seconds": 0.01, "login_delay_maximum_seconds": 0.02, "drain_seconds": 5}

        async def open_gate() -> server.Gate:
            gate = server.Gate(
                [plain, implicit, returns],
                limits=replace(Limits.from_settings(), **(quick | limits)),
                hostname="relay.test",
                node=settings.NODE,
                number=1,
                certificate=Certificate(certificate_file, certificate_file),
            )
            await gate.open()
            return gate

        gate = loop.run(open_gate())
        addresses = [listener.socket.getsockname()[:2] for listener in (plain, implicit, returns)]
        return cls(gate, loop, *addresses)

    def wait_until_ready(self) -> None:
        until(lambda: self.gate.store.is_ready, what="the store")

    def stop(self) -> None:
        self.loop.run(self.gate.close())

    # ------------------------------------------------------------ clients

    def greeted(self, **options: Any) -> Wire:
        wire = Wire(self.address, **options)
        assert wire.greet().code == 250
        return wire

    def encrypted(self, **options: Any) -> Wire:
        wire = self.greeted(**options)
        wire.encrypt()
        return wire

    def logged_in(self, issued: Issued, **options: Any) -> Wire:
        wire = self.encrypted(**options)
        assert log_in(wire, issued).code == 235
        return wire

    def smtplib(self, *, source: str = "127.0.0.1", is_implicit_tls: bool = False) -> smtplib.SMTP:
        host, port = self.implicit_address if is_implicit_tls else self.address
        context: ssl.SSLContext = CLIENT_TLS
        if is_implicit_tls:
            return smtplib.SMTP_SSL(host, port, context=context, source_address=(source, 0), timeout=15)
        client = smtplib.SMTP(host, port, source_address=(source, 0), timeout=15)
        client.starttls(context=context)
        return client


def plain(username: str, secret: str, *, authorization: str = "") -> bytes:
    return base64.b64encode(f"{authorization}\0{username}\0{secret}".encode())


def log_in(wire: Wire, issued: Issued) -> Said:
    assert issued.credential.username and issued.secret
    return wire.say(b"AUTH PLAIN " + plain(issued.credential.username, issued.secret))


def stored_content(message: Message) -> bytes:
    compressed = Content.objects.get(message_id=message.pk).compressed
    return zstandard.ZstdDecompressor().decompress(bytes(compressed), max_output_size=50_000_000)


def message_of(said: Said) -> Message:
    """The message that a 250 named."""
    assert said.code == 250, said
    return Message.objects.get(pk=said.text.rpartition(" ")[2])
