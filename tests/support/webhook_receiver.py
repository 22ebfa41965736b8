"""A receiver of webhooks on loopback, scripted: what it answers is a function of the request, what it got is kept.

async with Receiver() as receiver:
    receiver.answers["/slow"] = hang
    ... receiver.url("/orders") ...
    await receiver.until(lambda: len(receiver.calls) == 3)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Script = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]


def status(code: int, body: bytes = b"", **headers: str) -> Script:
    lines = [f"HTTP/1.1 {code} Reason", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    answer = "\r\n".join([*lines, "", ""]).encode() + body

    async def write(_call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return write


OK = status(200, b"ok")


async def hang(_call: Call, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def endless(_call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 16384)
        await writer.drain()


def in_turn(*scripts: Script) -> Script:
    """The last one repeats."""
    left = list(scripts)

    async def write(call: Call, writer: asyncio.StreamWriter) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        await script(call, writer)

    return write


@dataclass
class Receiver:
    host: str = "127.0.0.1"
    answers: dict[str, Script] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: Any = None

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str = "/", *, host: str = "") -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{path}"

    def at(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    async def until(self, is_so: Callable[[], bool], *, seconds: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, f"not within {seconds:g} s; {len(self.calls)} calls so far"
            await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (call := await _read(reader)) is not None:
                self.calls.append(call)
                await self.answers.get(call.path, OK)(call, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Call(first.split(" ")[1], headers, body, time.monotonic())
