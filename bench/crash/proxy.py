"""Stands between relayweb and its database, and can lose the answer to a COMMIT that was sent.

    python -m bench.crash.proxy LEDGER HOST PORT TARGET-SOCKET

For each line on standard input the next COMMIT that anybody sends is passed on; when the database has answered, which is to say
that it was carried out, the connection ends without that answer. Lines of the ledger: ``answer-lost connection``.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from bench.crash.ledger import Ledger

_COMMIT = b"COMMIT"


class Proxy:
    def __init__(self, ledger: Ledger, target: str) -> None:
        self._ledger, self._target = ledger, target
        self._to_lose = 0
        self._connections = 0

    def lose_one(self) -> None:
        self._to_lose += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        is_doomed = asyncio.Event()
        ways = [
            asyncio.create_task(self._pass_on_questions(reader, there_writer, is_doomed)),
            asyncio.create_task(self._pass_on_answers(number, there_reader, writer, is_doomed)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, there_writer):
            end.transport.abort()

    async def _pass_on_questions(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, is_doomed: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while octets := await reader.read(65536):
                if self._to_lose and _COMMIT in octets:
                    self._to_lose -= 1
                    is_doomed.set()
                there.write(octets)
                await there.drain()

    async def _pass_on_answers(
        self, number: int, there: asyncio.StreamReader, writer: asyncio.StreamWriter, is_doomed: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while octets := await there.read(65536):
                if is_doomed.is_set():
                    self._ledger.note("answer-lost", number)
                    return
                writer.write(octets)
                await writer.drain()


async def _main() -> None:
    ledger, host, port, target = sys.argv[1:5]
    proxy = Proxy(Ledger(Path(ledger)), target)
    server = await asyncio.start_server(proxy.serve, host, int(port), backlog=512)
    print("listening", flush=True)
    loop = asyncio.get_running_loop()
    async with server:
        while await loop.run_in_executor(None, sys.stdin.readline):
            proxy.lose_one()


if __name__ == "__main__":
    asyncio.run(_main())
