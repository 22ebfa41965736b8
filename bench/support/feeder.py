"""Hands mail over by SMTP, to relayweb and to its peer alike: so many sessions, each one mail after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DOMAIN = "bench.example"
SENDER = f"news@{DOMAIN}"
_PADDING = "A relay is trusted for what it does with the mail that it cannot deliver at once.\r\n"


def content(subject: str, size: int = 4_096) -> bytes:
    head = "".join(
        f"{line}\r\n"
        for line in (
            f"From: {SENDER}",
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


def feed(port: int, recipients: Iterable[str], *, sessions: int = 20, size: int = 4_096, every_s: float = 0.0) -> Fed:
    """One mail to each recipient; ``every_s`` paces a single session. Raises AssertionError when one is refused."""
    fed = Fed(time.monotonic(), 0.0, {})
    asyncio.run(_feed(port, iter(recipients), fed, sessions=sessions, size=size, every_s=every_s))
    fed.ended = time.monotonic()
    return fed


async def _feed(port: int, recipients: Iterator[str], fed: Fed, *, sessions: int, size: int, every_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(_session(port, recipients, fed, size=size, every_s=every_s))


async def _session(port: int, recipients: Iterator[str], fed: Fed, *, size: int, every_s: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _answer(reader, b"220")
        writer.write(b"EHLO bench.example\r\n")
        await _answer(reader, b"250")
        for recipient in recipients:
            writer.write(f"MAIL FROM:<{SENDER}>\r\n".encode())
            await _answer(reader, b"250")
            writer.write(f"RCPT TO:<{recipient}>\r\n".encode())
            await _answer(reader, b"250")
            writer.write(b"DATA\r\n")
            await _answer(reader, b"354")
            writer.write(content(recipient.replace("@", "."), size) + b".\r\n")
            await _answer(reader, b"250")
            fed.accepted[recipient] = time.monotonic()
            if every_s:
                await asyncio.sleep(every_s)
        writer.write(b"QUIT\r\n")
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            break
    assert line.startswith(wanted), f"{line!r} instead of {wanted!r}"
