"""An HTTPS server on loopback that answers every request with one response, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


class PolicyServer:
    """`answer` is the response to every request, as bytes; None never answers."""

    def __init__(self, tls: ssl.SSLContext, answer: bytes | None) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[list[bytes]] = []  # the lines of each request's head
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await writer.start_tls(self._tls)
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.split(b"\r\n"))
            if self.answer is None:
                await asyncio.Event().wait()
            else:
                writer.write(self.answer)
                await writer.drain()
        writer.close()


def policy_response(*lines: str, status: str = "200 OK", content_type: str = "text/plain", extra: str = "") -> bytes:
    body = "".join(f"{line}\r\n" for line in lines).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body
