"""A receiver of webhooks with a ledger: a line ``told recipient/type event-id`` is on disk before a call is answered 200.

python -m bench.crash.receiver LEDGER HOST PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.crash.ledger import Ledger

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def take(ledger: Ledger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            document = json.loads(await reader.readexactly(length))
            for event in document.get("events", [document]):
                if event["recipient"] is not None:
                    await ledger.keep("told", f"{event['recipient']['id']}/{event['type']}", event["id"])
            writer.write(_OK)
            await writer.drain()
    writer.close()


async def _listen(ledger: Ledger, host: str, port: int) -> None:
    server = await asyncio.start_server(partial(take, ledger), host, port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_listen(Ledger(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
