"""The engine's group commit: marks before final dots, settlements and releases after attempts.

Two connections, so that a mark never waits behind a settlement's flush. A mark that cannot be recorded is refused, and the
dot stays here. A settlement is never given up while the process lives: when the database is away it is tried again, since
the claim stays ours until somebody else takes the path.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg
import structlog

from accounts import database
from delivery import settlement
from delivery.queue import claim
from delivery.queue.claim import ClaimedEntry, Mark
from delivery.settlement import KeptBack, Settled

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 200
_RETRY_S = 0.5

Connection = psycopg.AsyncConnection[Any]
Item = TypeVar("Item")


@dataclass(slots=True)
class _Waiting(Generic[Item]):
    item: Item
    done: asyncio.Future[bool]


class _Group(Generic[Item]):
    """Collects items while a write is under way and writes them together."""

    def __init__(
        self,
        name: str,
        write: Callable[[Connection, list[Item]], Awaitable[Sequence[bool]]],
        *,
        persists: bool,
        commits_asynchronously: bool = False,
    ) -> None:
        self._name = name
        self._write = write
        self._persists = persists
        self._commits_asynchronously = commits_asynchronously
        self._waiting: deque[_Waiting[Item]] = deque()
        self._arrived = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_writing = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"committer-{self._name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._disconnect()

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self.is_writing

    async def put(self, item: Item) -> bool:
        waiting = _Waiting(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        return await asyncio.shield(waiting.done)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            self.is_writing = True
            await self._write_batch(batch)
            self.is_writing = False

    async def _write_batch(self, batch: list[_Waiting[Item]]) -> None:
        is_first_try = True
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                answers = await self._write(self._connection, [waiting.item for waiting in batch])
                break
            except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the next batch must be written
                await self._disconnect()
                if not _is_about_the_database(error):
                    await self._find_culprit(batch, error)
                    return
                log.warning("committer_lost_the_database", group=self._name, waiting=len(batch), error=str(error))
                if not is_first_try and not self._persists:
                    answers = [False] * len(batch)
                    break
                # At once on a new connection, since the old one may have been dead for long; then with patience.
                await asyncio.sleep(0 if is_first_try else _RETRY_S)
                is_first_try = False
        _answer(batch, answers)

    async def _find_culprit(self, batch: list[_Waiting[Item]], error: Exception) -> None:
        """Something in this batch cannot be written: the others are not held up by it."""
        if len(batch) > 1:
            log.warning("committer_splits", group=self._name, waiting=len(batch), error=str(error))
            for waiting in batch:
                await self._write_batch([waiting])
            return
        log.error("committer_refused", group=self._name, item=str(batch[0].item)[:500], exc_info=error)
        _answer(batch, [False])

    async def _connect(self) -> Connection:
        connection = await database.connect()
        if self._commits_asynchronously:
            await connection.execute("SET synchronous_commit TO off")
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()


def _is_about_the_database(error: Exception) -> bool:
    """It is away, or busy, or out of something; the same can be written later."""
    return isinstance(error, psycopg.OperationalError | OSError) and not isinstance(
        error, psycopg.errors.ProgramLimitExceeded
    )


def _answer(batch: Sequence[_Waiting[Item]], answers: Sequence[bool]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if not waiting.done.done():
            waiting.done.set_result(answer)


@dataclass(frozen=True, slots=True)
class Release:
    """An entry goes back untried; ``lane_id`` where it waits from now on, None: where it did; ``delay`` for how long."""

    entry: ClaimedEntry
    path_id: int
    fence: int
    lane_id: int | None = None
    delay: timedelta = timedelta(0)


class EngineCommitter:
    def __init__(self) -> None:
        self._marks: _Group[Mark] = _Group("marks", _write_marks, persists=False, commits_asynchronously=True)
        self._ends: _Group[Settled | KeptBack | Release] = _Group("settlements", _write_ends, persists=True)

    def start(self) -> None:
        self._marks.start()
        self._ends.start()

    async def stop(self, *, drain_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while not self._ends.is_idle:
                    await asyncio.sleep(0.02)
        await self._marks.stop()
        await self._ends.stop()

    async def mark(self, mark: Mark) -> bool:
        """True: the dot may go out. False: the entry is not ours any more, or nobody could write it down."""
        return await self._marks.put(mark)

    async def settle(self, settled: Settled) -> bool:
        """True once committed; False when the claim was lost before."""
        return await self._ends.put(settled)

    async def keep_back(self, kept: KeptBack) -> None:
        await self._ends.put(kept)

    async def release(self, release: Release) -> None:
        await self._ends.put(release)


async def _write_marks(connection: Connection, marks: list[Mark]) -> list[bool]:
    good = await claim.mark_dots(connection, marks)
    return [mark.recipient_id in good for mark in marks]


async def _write_ends(connection: Connection, ends: list[Settled | KeptBack | Release]) -> list[bool]:
    settled = [end for end in ends if isinstance(end, Settled)]
    done: set[UUID] = await settlement.settle(connection, settled) if settled else set()
    kept = [end for end in ends if isinstance(end, KeptBack)]
    if kept:
        await settlement.keep_back(connection, kept)
    await _write_releases(connection, [end for end in ends if isinstance(end, Release)])
    return [not isinstance(end, Settled) or end.entry.recipient_id in done for end in ends]


async def _write_releases(connection: Connection, releases: list[Release]) -> None:
    groups: dict[tuple[int, int, int | None, timedelta], list[ClaimedEntry]] = {}
    for release in releases:
        key = (release.path_id, release.fence, release.lane_id, release.delay)
        groups.setdefault(key, []).append(release.entry)
    for (path_id, fence, lane_id, delay), entries in groups.items():
        await claim.release(connection, entries, path_id=path_id, fence=fence, lane_id=lane_id, delay=delay)
