"""Hands mail over and keeps a ledger of what was answered; it stops when its standard input ends.

    python -m bench.crash.client LEDGER SMTP-PORT HTTP-PORT OPTIONS

OPTIONS is a JSON object: seed, prefix (of every recipient's name), domains (recipients' ones, drawn from), sessions, every_s
(the pace of each session), cuts (the share of mails in which we cut the connection ourselves), and for the API api_sessions
and key. Lines: ``try address`` before anything of a mail is sent, ``ok address`` flushed to disk after its 250 (or 202),
``no address code`` where it was refused, ``lost address phase`` where the connection ended before an answer. Over SMTP no
mail is tried twice; over HTTP it is repeated with its Idempotency-Key until there is an answer, so that ``lost`` and ``no``
of those are not the last word.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.crash.ledger import Ledger

SENDER = "news@bench.example"
_PADDING = "A relay is trusted for what it does with the mail that it cannot deliver at once.\r\n"
_ANSWERED_WITHIN_S = 60.0
_PAUSE_S = 0.1


@dataclass
class Client:
    ledger: Ledger
    smtp_port: int
    http_port: int
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self._random = random.Random(str(self.options["seed"]))
        self._number = 0
        self._is_stopping = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wait_for_the_end())
            for _ in range(self.options["sessions"]):
                group.create_task(self._keep_sending())
            for _ in range(self.options.get("api_sessions", 0)):
                group.create_task(self._keep_posting())

    async def _wait_for_the_end(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        self._is_stopping.set()

    def _next_recipient(self) -> str:
        self._number += 1
        return f"{self.options['prefix']}-{self._number}@{self._random.choice(self.options['domains'])}"

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_stopping.wait(), seconds)

    # ---------------------------------------------------------------- SMTP

    async def _keep_sending(self) -> None:
        while not self._is_stopping.is_set():
            with suppress(ConnectionError, OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._session()
            await self._pause(_PAUSE_S)

    async def _session(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.smtp_port)
        try:
            if await _answer(reader) != 220:
                return
            writer.write(b"EHLO client.example\r\n")
            if await _answer(reader) != 250:
                return
            # A connection is used for some mails only: a gate that is new gets its share.
            for _ in range(self._random.randint(5, 40)):
                if self._is_stopping.is_set() or not await self._hand_over(reader, writer):
                    break
                await self._pause(self.options["every_s"])
            writer.write(b"QUIT\r\n")
        finally:
            writer.close()

    async def _hand_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        recipient = self._next_recipient()
        phase = "before"
        self.ledger.note("try", recipient)
        try:
            for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{recipient}>", "DATA"):
                writer.write(f"{command}\r\n".encode())
                if (code := await _answer(reader)) >= 400:
                    self.ledger.note("no", recipient, code)
                    return False
            phase = "data"
            content = self._content(recipient)
            half = len(content) // 2
            writer.write(content[:half])
            await writer.drain()
            self._cut_now_and_then(writer)
            writer.write(content[half:])
            await writer.drain()
            phase = "dot"
            writer.write(b".\r\n")
            await writer.drain()
            self._cut_now_and_then(writer)
            code = await _answer(reader)
        except (ConnectionError, OSError, asyncio.IncompleteReadError, TimeoutError):
            self.ledger.note("lost", recipient, phase)
            raise
        if code != 250:
            self.ledger.note("no", recipient, code)
            return False
        await self.ledger.keep("ok", recipient, "smtp")
        return True

    def _cut_now_and_then(self, writer: asyncio.StreamWriter) -> None:
        if self._random.random() < self.options.get("cuts", 0):
            writer.transport.abort()
            raise ConnectionAbortedError

    def _content(self, recipient: str) -> bytes:
        lines = self._random.choice((5, 20, 50, 50, 800))
        head = (
            f"From: {SENDER}\r\nTo: {recipient}\r\nSubject: {recipient}\r\nX-Proof: {recipient}\r\n"
            f"Message-ID: <{recipient.replace('@', '.')}@bench.example>\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n\r\n"
        )
        return (head + _PADDING * lines).encode()

    # ---------------------------------------------------------------- the API

    async def _keep_posting(self) -> None:
        while not self._is_stopping.is_set():
            recipient = self._next_recipient()
            self.ledger.note("try", recipient)
            # A mail that was begun is repeated until it is answered, or for a while after the end.
            for _ in range(300):
                try:
                    code = await asyncio.wait_for(self._post(recipient), _ANSWERED_WITHIN_S)
                except (ConnectionError, OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
                    self.ledger.note("lost", recipient, "http")
                else:
                    if code == 202:
                        await self.ledger.keep("ok", recipient, "http")
                        break
                    self.ledger.note("no", recipient, code)
                await asyncio.sleep(_PAUSE_S)
            await self._pause(self.options["every_s"])

    async def _post(self, recipient: str) -> int:
        body = json.dumps({"from": SENDER, "to": recipient, "subject": recipient, "text": _PADDING}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
        try:
            writer.write(
                f"POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.options['key']}\r\n"
                f"Idempotency-Key: {recipient}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            status = await reader.readuntil(b"\r\n")
            await reader.read()
            return int(status.split(b" ")[1])
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    """The code of the next reply, at whose end we are."""
    while True:
        line = await asyncio.wait_for(reader.readuntil(b"\n"), _ANSWERED_WITHIN_S)
        if line[3:4] != b"-":
            return int(line[:3])


async def _main() -> None:
    ledger, smtp_port, http_port, options = sys.argv[1:5]
    await Client(Ledger(Path(ledger)), int(smtp_port), int(http_port), json.loads(options)).run()


if __name__ == "__main__":
    asyncio.run(_main())
