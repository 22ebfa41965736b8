"""The ASGI application around Django's WSGI handler.

Each request: receive its body (bodies.py), make the answer in one of a bounded number of threads, send it. A long answer
is made piece by piece, each in a thread that is free again while the client reads; pieces may therefore be made in
different threads, one after the other and in one context: a generator behind an answer may keep a language, and no
database cursor, from one piece to the next. A client that does not read is cut off after SENDING_SECONDS for a piece.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import structlog

from relayweb.serving.bodies import INCOMPLETE, Bodies, Body, Limits, Receive, Refusal, Refused
from relayweb.serving.environ import environment

log = structlog.get_logger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]

# Where Django's side finds why a body was not received (relayweb.middleware.RefusedBody).
REFUSAL = "relayweb.refusal"

PIECE_OCTETS = 64 * 1024
PIECE_SECONDS = 0.5  # what a generator has made until then is sent
SENDING_SECONDS = 60.0


@dataclass(slots=True)
class Answer:
    """What the handler said so far. `pieces` is None once all is in `piece`."""

    status: int = 500
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    piece: bytes = b""
    pieces: Iterator[bytes] | None = None
    source: Any = None

    def start(self, status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status[:3])
        self.fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


class Shell:
    """`most_octets`: a body declared larger is not read; the handler answers by its length alone."""

    def __init__(
        self,
        handler: Wsgi,
        *,
        threads: int,
        limits: Limits,
        most_octets: int,
        address_of: Callable[[dict[str, Any]], str],
    ) -> None:
        self.handler = handler
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="page")
        self.bodies = Bodies(limits)
        self.most_octets = most_octets
        self.address_of = address_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        environ = environment(scope, body=BytesIO())
        body: Body | None = None
        try:
            body = await self._receive(environ, receive)
        except Refused as refused:
            if refused.refusal == INCOMPLETE:
                await _say_incomplete(send)
                return
            await self._answer(self._refused(environ, refused.refusal), send, is_last=True)
            return
        try:
            if body is not None:
                environ["wsgi.input"] = body.file
            await self._answer(environ, send)
        finally:
            if body is not None:
                self.bodies.close(body)

    # ---------------------------------------------------------------- steps

    async def _receive(self, environ: dict[str, Any], receive: Receive) -> Body | None:
        """None where there is none that the handler would read: it reads no chunks either."""
        declared = environ.get("CONTENT_LENGTH", "")
        length = int(declared) if declared.isdecimal() and declared.isascii() else 0
        if length == 0 or length > self.most_octets:
            return None
        return await self.bodies.receive(receive, length=length, address=self.address_of(environ))

    def _refused(self, environ: dict[str, Any], refusal: Refusal) -> dict[str, Any]:
        return environ | {REFUSAL: refusal, "CONTENT_LENGTH": "0"}

    async def _answer(self, environ: dict[str, Any], send: Send, *, is_last: bool = False) -> None:
        in_thread, context = asyncio.get_running_loop().run_in_executor, contextvars.copy_context()
        answer: Answer = await in_thread(self.threads, context.run, self._begin, environ)
        try:
            if is_last:
                answer.fields.append((b"connection", b"close"))
            async with asyncio.timeout(SENDING_SECONDS) as patience:
                await send({"type": "http.response.start", "status": answer.status, "headers": answer.fields})
                while answer.pieces is not None:
                    await send({"type": "http.response.body", "body": answer.piece, "more_body": True})
                    patience.reschedule(None)
                    await in_thread(self.threads, context.run, _go_on, answer)
                    patience.reschedule(asyncio.get_running_loop().time() + SENDING_SECONDS)
                await send({"type": "http.response.body", "body": answer.piece})
        except TimeoutError:
            if not patience.expired():
                raise
            log.info("client_reads_too_slowly", path=environ["PATH_INFO"])
        finally:
            if answer.pieces is not None:
                await in_thread(self.threads, context.run, _end, answer)

    def _begin(self, environ: dict[str, Any]) -> Answer:
        answer = Answer()
        answer.source = self.handler(environ, answer.start)
        answer.pieces = iter(answer.source)
        _go_on(answer)
        return answer


async def _say_incomplete(send: Send) -> None:
    """For who closed only its own side; nobody else reads it, so no thread makes a page of it."""
    fields = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": INCOMPLETE.status, "headers": fields})
    await send({"type": "http.response.body", "body": b""})


def _go_on(answer: Answer) -> None:
    """Make the next piece; with the last one the source is closed, in the thread that made it."""
    assert answer.pieces is not None
    parts: list[bytes] = []
    octets, until = 0, time.monotonic() + PIECE_SECONDS
    try:
        for part in answer.pieces:
            parts.append(part)
            octets += len(part)
            if octets >= PIECE_OCTETS or time.monotonic() >= until:
                answer.piece = b"".join(parts)
                return
    except BaseException:
        _end(answer)
        raise
    answer.piece = b"".join(parts)
    _end(answer)


def _end(answer: Answer) -> None:
    answer.pieces = None
    close = getattr(answer.source, "close", None)
    if close is not None:
        close()
