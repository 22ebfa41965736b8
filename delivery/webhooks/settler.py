"""Writes down what calls came to, many in one transaction, and tells the callers when it is done.

Only then is the next event of the same recipient told, so that a caller that dies repeats events but never turns their
order round. While the database is away, results wait here; those who made the calls wait with them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from accounts import database
from delivery.webhooks import outbox
from delivery.webhooks.outbox import Called, Standing

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 400
_RETRY_S = 1.0


class Settler:
    def __init__(self, me: str) -> None:
        self.settled = 0
        self._me = me
        self._waiting: deque[tuple[Called, Standing | None, asyncio.Future[None]]] = deque()
        self._arrived = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhook-settler")

    async def stop(self) -> None:
        """What came in before is written, if the database is there."""
        self._is_stopping = True
        self._arrived.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_RETRY_S * 3)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for _call, _standing, done in self._waiting:
            done.cancel()
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                await self._connection.close()

    async def settle(self, call: Called, standing: Standing | None) -> None:
        """Returns once it is committed. Of several standings of one webhook the last one counts."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, standing, done))
        self._arrived.set()
        await asyncio.shield(done)

    async def _run(self) -> None:
        while not (self._is_stopping and not self._waiting):
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
                try:
                    await self._write(batch)
                except (psycopg.Error, OSError) as error:
                    log.warning("webhook_results_wait", count=len(batch), error=str(error))
                    self._waiting.extendleft(reversed(batch))
                    if self._is_stopping:
                        return
                    await asyncio.sleep(_RETRY_S)

    async def _write(self, batch: list[tuple[Called, Standing | None, asyncio.Future[None]]]) -> None:
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = await database.connect(direct=False)
        standings = {standing.webhook_id: standing for _call, standing, _done in batch if standing is not None}
        calls = [call for call, _standing, _done in batch]
        await outbox.settle(self._connection, calls, standings.values(), me=self._me)
        self.settled += len(batch)
        for _call, _standing, done in batch:
            if not done.done():
                done.set_result(None)
