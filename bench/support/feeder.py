"""Hands mail over by SMTP, to relayweb and to its peer alike: so many sessions, each one mail after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

DOMAIN = "bench.example"
SENDER = f"news@{DOMAIN}"
_PADDING = "A relay is trusted for what it does with the mail that it cannot deliver at once.\r\n"


def content(subject: str, size: int = 4_096, *, sender: str = SENDER) -> bytes:
    head = "".join(
        f"{line}\r\n"
        for line in (
            f"From: {sender}",
            f"Subject: {subject}",
            "Date: Tue, 24 Nov 2026 09:00:00 +0000",
            f"Message-ID: <{subject}@{DOMAIN}>",
            "",
        )
    )
    lines = max(1, (size - len(head)) // len(_PADDING))
    return (head + _PADDING * lines).encode()


@dataclass
class Fed:
    """Moments are of time.monotonic(); ``accepted`` holds that of each recipient's 250."""

    began: float
    ended: float
    accepted: dict[str, float]

    @property
    def per_second(self) -> float:
        return len(self.accepted) / (self.ended - self.began)


@dataclass(frozen=True)
class Load:
    """How mail is handed over. ``every_s`` paces each session; ``source`` is the address that is connected from."""

    sessions: int = 20
    size: int = 4_096
    every_s: float = 0.0
    recipients_each: int = 1
    sender: str = SENDER
    source: str = "127.0.0.1"


def feed(port: int, recipients: Iterable[str], load: Load | None = None) -> Fed:
    """Mail to all recipients, one to each unless ``load`` says so. Raises AssertionError when one is refused."""
    load = load or Load()
    fed = Fed(time.monotonic(), 0.0, {})
    asyncio.run(_feed(port, iter(recipients), fed, load))
    fed.ended = time.monotonic()
    return fed


async def _feed(port: int, recipients: Iterator[str], fed: Fed, load: Load) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(load.sessions):
            group.create_task(_session(port, recipients, fed, load))


async def _session(port: int, recipients: Iterator[str], fed: Fed, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(load.source, 0))
    try:
        await _answer(reader, b"220")
        writer.write(b"EHLO bench.example\r\n")
        await _answer(reader, b"250")
        while together := list(islice(recipients, load.recipients_each)):
            writer.write(f"MAIL FROM:<{load.sender}>\r\n".encode())
            await _answer(reader, b"250")
            for recipient in together:
                writer.write(f"RCPT TO:<{recipient}>\r\n".encode())
                await _answer(reader, b"250")
            writer.write(b"DATA\r\n")
            await _answer(reader, b"354")
            subject = together[0].replace("@", ".")
            writer.write(content(subject, load.size, sender=load.sender) + b".\r\n")
            await _answer(reader, b"250")
            moment = time.monotonic()
            fed.accepted.update(dict.fromkeys(together, moment))
            if load.every_s:
                await asyncio.sleep(load.every_s)
        writer.write(b"QUIT\r\n")
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            break
    assert line.startswith(wanted), f"{line!r} instead of {wanted!r}"
