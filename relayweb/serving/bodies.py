"""Request bodies, received on the event loop within limits of time, rate, number and size.

A body that goes silent, or comes slower than the least rate, is refused with 408. Where too many come at once, from one
address or in all, the slowest of them makes room: whoever sends at an honest rate is the last to notice. What is kept is
in memory while it is small and there are few, else in a nameless file that goes with the process.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Any

Receive = Callable[[], Awaitable[dict[str, Any]]]

# A body that is younger has no rate yet, and is never the one that makes room.
YOUNG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one web process."""

    silence_seconds: float  # without an octet; also the start that the least rate is given
    octets_per_second: int  # the least rate, on average
    bodies: int  # coming in at once
    bodies_per_address: int
    held_octets: int  # of all bodies, until they are answered
    memory_octets: int = 64 * 1024 * 1024  # of that in memory; the rest is in files
    memory_octets_per_body: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a body was not received; what the client is told is worded where requests are answered."""

    status: int
    retry_after_s: int = 0


TOO_SLOW = Refusal(408)
ADDRESS_BUSY = Refusal(429, retry_after_s=5)
BUSY = Refusal(503, retry_after_s=5)
INCOMPLETE = Refusal(400)


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal.status))
        self.refusal = refusal


@dataclass(eq=False, slots=True)
class Body:
    """One body; whoever has received it closes it."""

    address: str
    started: float
    file: IO[bytes] = field(default_factory=BytesIO)
    received: int = 0
    in_memory: int = 0
    deadline: asyncio.Timeout | None = None


class Bodies:
    """All bodies of this process. Used on its event loop alone."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        self.in_memory = 0
        self._coming: dict[str, set[Body]] = defaultdict(set)
        self._count = 0

    async def receive(self, receive: Receive, *, length: int, address: str) -> Body:
        """The whole body, read from its beginning. Raises Refused, and then keeps nothing."""
        body = Body(address, asyncio.get_running_loop().time())
        self._admit(body)
        try:
            await self._read(body, receive)
            if body.received != length:  # the client went away
                raise Refused(INCOMPLETE)
        except TimeoutError:
            self.close(body)
            raise Refused(TOO_SLOW) from None
        except BaseException:
            self.close(body)
            raise
        finally:
            self._leave(body)
        body.file.seek(0)
        return body

    def close(self, body: Body) -> None:
        """Forget what it holds."""
        self.held -= body.received
        self.in_memory -= body.in_memory
        body.received = body.in_memory = 0
        body.file.close()

    # ---------------------------------------------------------------- steps

    def _admit(self, body: Body) -> None:
        mine = self._coming.get(body.address, ())
        if len(mine) >= self.limits.bodies_per_address:
            self._make_room(mine, body, otherwise=ADDRESS_BUSY)
        elif self._count >= self.limits.bodies:
            self._make_room(self._all(), body, otherwise=BUSY)
        self._coming[body.address].add(body)
        self._count += 1

    def _leave(self, body: Body) -> None:
        mine = self._coming.get(body.address)
        if mine is None or body not in mine:  # it has made room
            return
        mine.discard(body)
        self._count -= 1
        if not mine:
            del self._coming[body.address]

    async def _read(self, body: Body, receive: Receive) -> None:
        limits, now = self.limits, asyncio.get_running_loop().time
        async with asyncio.timeout_at(body.started + limits.silence_seconds) as body.deadline:
            while True:
                event = await receive()
                if event["type"] != "http.request":
                    return
                if chunk := event.get("body"):
                    self._keep(body, chunk)
                if not event.get("more_body"):
                    return
                if not body.deadline.expired() and body in self._coming.get(body.address, ()):
                    fair = body.started + body.received / limits.octets_per_second
                    body.deadline.reschedule(min(now(), fair) + limits.silence_seconds)

    def _keep(self, body: Body, chunk: bytes) -> None:
        if self.held + len(chunk) > self.limits.held_octets:
            self._make_room(self._all(), body, otherwise=BUSY)
        body.received += len(chunk)
        self.held += len(chunk)
        if isinstance(body.file, BytesIO):
            if (
                body.received <= self.limits.memory_octets_per_body
                and self.in_memory + len(chunk) <= self.limits.memory_octets
            ):
                body.in_memory += len(chunk)
                self.in_memory += len(chunk)
            else:
                self._move_to_file(body)
        body.file.write(chunk)

    def _move_to_file(self, body: Body) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the body
        with body.file as before:
            file.write(before.getvalue())  # type: ignore[attr-defined]
        body.file = file
        self.in_memory -= body.in_memory
        body.in_memory = 0

    def _all(self) -> list[Body]:
        return [body for mine in self._coming.values() for body in mine]

    def _make_room(self, candidates: Any, newcomer: Body, *, otherwise: Refusal) -> None:
        """End the slowest of them, which is then answered 408. Raises Refused where there is none to end."""
        now = asyncio.get_running_loop().time()
        old = [body for body in candidates if now - body.started >= YOUNG_SECONDS and body.deadline is not None]
        slowest = min(old, key=lambda body: body.received / (now - body.started), default=None)
        if slowest is None or slowest is newcomer:
            raise Refused(otherwise)
        self._leave(slowest)
        assert slowest.deadline is not None
        slowest.deadline.reschedule(now)
