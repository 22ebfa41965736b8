"""A receiving host that takes every mail and writes down what it saw, and when.

    python -m bench.support.counting_sink HOST PORT SECONDS-BEFORE-THE-LAST-REPLY

Runs in a process of its own, so that its clock is not that of a busy benchmark. A line for each fact: kind, moment
(time.monotonic(), one clock for the whole machine), number of the connection, and the peer (open) or the recipient (rcpt).
Kinds are open, mail, rcpt, done and close. The moments of open are those at which the connection was taken; its line comes
after those of connections that the peer had ended by then.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Fact:
    kind: str
    at: float
    connection: int
    detail: str


class CountingSink:
    """Listens at ``host`` while the block runs. Mail takes ``delay_s`` there."""

    def __init__(self, host: str, port: int, *, delay_s: float = 0.0) -> None:
        self._command = [sys.executable, "-m", "bench.support.counting_sink", host, str(port), str(delay_s)]
        self._news = threading.Condition()
        self.facts: list[Fact] = []
        self.done = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n", "the counting sink has ended at once"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, at, connection, detail = line.rstrip("\n").split(" ", 3)
            with self._news:
                self.facts.append(Fact(kind, float(at), int(connection), detail))
                self.done += kind == "done"
                self._news.notify_all()

    def wait_for(self, mails: int, *, seconds: float) -> None:
        """Until so many mails were taken since the last ``forget``, or the beginning."""
        with self._news:
            if not self._news.wait_for(lambda: self.done >= mails, seconds):
                raise SystemExit(f"{self.done} of {mails} mails were delivered within {seconds:g} s")

    def wait_for_recipients(self, wanted: set[str], *, seconds: float) -> dict[str, float]:
        """When the attempt for each of them began here: its connection's opening, or its MAIL where another came before."""
        deadline = time.monotonic() + seconds
        while not wanted <= (attempted := self._attempted(wanted)).keys():
            if time.monotonic() > deadline:
                missing = sorted(wanted - attempted.keys())
                raise SystemExit(f"{len(missing)} of {len(wanted)} were not attempted in time, such as {missing[:3]}")
            time.sleep(0.1)
        return attempted

    def _attempted(self, wanted: set[str]) -> dict[str, float]:
        began: dict[int, float] = {}
        used: set[int] = set()
        first: dict[str, float] = {}
        with self._news:
            facts = list(self.facts)
        for fact in facts:
            if fact.kind == "open" or (fact.kind == "mail" and fact.connection in used):
                began[fact.connection] = fact.at
            elif fact.kind == "rcpt":
                used.add(fact.connection)
                if fact.detail in wanted:
                    first.setdefault(fact.detail, began[fact.connection])
        return first

    def wait_for_delivered(self, wanted: set[str], *, seconds: float) -> dict[str, float]:
        """When the mail of each of them was taken."""
        deadline = time.monotonic() + seconds
        while not wanted <= (delivered := self._delivered(wanted)).keys():
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(delivered)} of {len(wanted)} mails were delivered within {seconds:g} s")
            time.sleep(0.1)
        return delivered

    def _delivered(self, wanted: set[str]) -> dict[str, float]:
        with self._news:
            facts = list(self.facts)
        recipient: dict[int, str] = {}
        moments: dict[str, float] = {}
        for fact in facts:
            if fact.kind == "rcpt":
                recipient[fact.connection] = fact.detail
            elif fact.kind == "done" and recipient[fact.connection] in wanted:
                moments[recipient[fact.connection]] = fact.at
        return moments

    def forget(self) -> None:
        """What was seen so far; connections that are open should have been closed."""
        with self._news:
            self.facts.clear()
            self.done = 0


# ---------------------------------------------------------------- in its own process


class _Host:
    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._connections = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened_at = time.monotonic()
        self._connections += 1
        number = self._connections
        # What other peers had ended before this connection came is read first.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _note("open", number, writer.get_extra_info("peername")[0], at=opened_at)
        try:
            await self._converse(number, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            _note("close", number)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"MAIL":
                _note("mail", number)
                writer.write(b"250 2.1.0 ok\r\n")
            elif verb == b"RCPT":
                _note("rcpt", number, line.partition(b"<")[2].partition(b">")[0].decode())
                writer.write(b"250 2.1.5 ok\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go ahead\r\n")
                while (line := await reader.readline()) != b".\r\n":
                    if not line:
                        return
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                _note("done", number)
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")


def _note(kind: str, connection: int, detail: str = "", *, at: float | None = None) -> None:
    moment = time.monotonic() if at is None else at
    print(kind, f"{moment:.6f}", connection, detail, flush=True)


async def _listen(host: str, port: int, delay_s: float) -> None:
    server = await asyncio.start_server(_Host(delay_s).take, host, port, backlog=4_096)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
