"""The engine's group claim: what the paths want while a claim is under way is claimed together, in one statement.

A thousand small destinations want one mail each; a claim of its own for each of them would cost more than the mail. Two
asks for the same lane never meet in one claim, since within a statement nothing keeps them apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from delivery.brakes.gate import Gate
from delivery.engine import assignments
from delivery.engine.assignments import Assignment
from delivery.engine.committer import EngineCommitter, Release
from delivery.engine.contents import ContentShelf
from delivery.queue import claim
from delivery.queue.claim import Ask, ClaimedEntry

# Of one claim: enough to make the round trips cheap, few enough to hold their locks for a moment only.
_MOST_ASKS = 200
_MOST_ENTRIES = 500

Connection = psycopg.AsyncConnection[Any]


@dataclass(slots=True)
class Claimed:
    """What a path got. ``still_due``: lanes that gave less than was asked for although they have something.

    ``error`` is what went wrong after the claim was committed: the entries are ours, and must be given back.
    """

    entries: list[ClaimedEntry] = field(default_factory=list)
    known: dict[UUID, Assignment] = field(default_factory=dict)
    exhausted: list[int] = field(default_factory=list)
    still_due: set[int] = field(default_factory=set)
    error: Exception | None = None


@dataclass(slots=True)
class _Request:
    ask: Ask
    done: asyncio.Future[Claimed]

    @property
    def lane_ids(self) -> set[int]:
        return {want.lane_id for want in self.ask.wants}

    @property
    def most(self) -> int:
        return sum(want.most for want in self.ask.wants)


class Claimer:
    def __init__(self, pool: AsyncConnectionPool[Any], committer: EngineCommitter, contents: ContentShelf) -> None:
        self.rates: dict[UUID, float] = {}
        self.gate = Gate()
        self._pool = pool
        self._committer = committer
        self._contents = contents
        self._waiting: deque[_Request] = deque()
        self._task: asyncio.Task[None] | None = None

    async def claim(self, ask: Ask) -> Claimed:
        """Raises the database's errors when nothing was claimed; what goes wrong later is in the answer."""
        request = _Request(ask, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="claimer")
        return await request.done

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        # Whoever was woken by the same bell as the first asks within this turn of the loop.
        await asyncio.sleep(0)
        while self._waiting:
            batch = self._next_batch()
            try:
                answers = await self._claim(batch)
            except Exception as error:  # noqa: BLE001 - each path waits its trouble out by itself
                for request in batch:
                    if not request.done.done():
                        request.done.set_exception(error)
                continue
            for request, answer in zip(batch, answers, strict=True):
                if request.done.done():
                    await self._give_back(request.ask, answer.entries)
                else:
                    request.done.set_result(answer)

    def _next_batch(self) -> list[_Request]:
        """The oldest first; what wants a lane that is in the batch already waits for the next one, in its place."""
        batch: list[_Request] = []
        put_off: list[_Request] = []
        lanes: set[int] = set()
        most = 0
        while self._waiting and len(batch) < _MOST_ASKS and most < _MOST_ENTRIES:
            request = self._waiting.popleft()
            if request.done.done():
                continue
            if request.lane_ids & lanes:
                put_off.append(request)
                continue
            batch.append(request)
            lanes |= request.lane_ids
            most += request.most
        self._waiting.extendleft(reversed(put_off))
        return batch

    async def _claim(self, batch: Sequence[_Request]) -> list[Claimed]:
        if not batch:
            return []
        async with self._pool.connection() as connection:
            claimed = await claim.claim(connection, [request.ask for request in batch], rates=self.rates)
            answers = [_answer(request.ask, claimed.get(request.ask.path_id, [])) for request in batch]
            try:
                admitted = await self.gate.admit(connection, claimed)
                answers = [_answer(request.ask, admitted.get(request.ask.path_id, [])) for request in batch]
                await self._look_closer(connection, answers)
                await self._find_out(connection, answers)
            except Exception as error:  # noqa: BLE001 - what is ours already must be given back by whoever asked
                for answer in answers:
                    answer.error = error
                return answers
        await self._prefetch(answers)
        return answers

    async def _look_closer(self, connection: Connection, answers: Sequence[Claimed]) -> None:
        """Lanes that gave less than they were asked for say when they have something next."""
        lane_ids = sorted({lane_id for answer in answers for lane_id in answer.exhausted})
        if lane_ids:
            still_due = await claim.refresh_lanes(connection, lane_ids)
            for answer in answers:
                answer.still_due = still_due & set(answer.exhausted)

    async def _find_out(self, connection: Connection, answers: Sequence[Claimed]) -> None:
        entries = [entry for answer in answers for entry in answer.entries]
        if entries:
            known = await assignments.read(connection, entries)
            for answer in answers:
                answer.known = {
                    entry.recipient_id: known[entry.recipient_id]
                    for entry in answer.entries
                    if entry.recipient_id in known
                }

    async def _prefetch(self, answers: Sequence[Claimed]) -> None:
        wanted = [
            assignment.content
            for answer in answers
            for assignment in answer.known.values()
            if assignment.suppression_id is None
        ]
        try:
            await self._contents.prefetch(wanted)
        except Exception as error:  # noqa: BLE001 - as above
            for answer in answers:
                answer.error = error

    async def _give_back(self, ask: Ask, entries: Sequence[ClaimedEntry]) -> None:
        """Whoever asked is gone."""
        for entry in entries:
            await self._committer.release(Release(entry, ask.path_id, ask.fence))


def _answer(ask: Ask, entries: list[ClaimedEntry]) -> Claimed:
    got = Counter(entry.lane_id for entry in entries)
    return Claimed(entries, exhausted=[want.lane_id for want in ask.wants if got[want.lane_id] < want.most])
