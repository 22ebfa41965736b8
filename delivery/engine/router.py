"""The engine's side of routing: domains that wait in unrouted lanes are looked up, many at once, each by one engine.

A look-up that takes long (a name server that does not answer) keeps nobody waiting but its own domain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from delivery.engine.services import Services
from delivery.queue.claim import refresh_lanes
from delivery.routing import lookup
from delivery.routing.lookup import LookedUp, WaitingDomain

log = structlog.get_logger(__name__)

_AT_ONCE = 100


class Router:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._task: asyncio.Task[None] | None = None
        self._lane_ids: list[int] = []
        self._looking: set[asyncio.Task[None]] = set()
        self._found: deque[LookedUp] = deque()
        self._writer: asyncio.Task[None] | None = None

    def look_up(self, lane_ids: Sequence[int]) -> None:
        """Look up what waits in these unrouted lanes, in the background."""
        self._lane_ids = list(lane_ids)
        if self._lane_ids and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="router")

    def stop(self) -> None:
        for task in (self._task, self._writer, *self._looking):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        try:
            while self._lane_ids:
                # What is handed in while we ask is asked for again.
                lane_ids, self._lane_ids = self._lane_ids, []
                await self._begin(lane_ids)
        except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
            log.warning("routing_failed", error=str(error))

    async def _begin(self, lane_ids: list[int]) -> None:
        while (free := _AT_ONCE - len(self._looking)) > 0:
            async with self._services.pool.connection() as connection:
                waiting = await lookup.take_waiting(connection, lane_ids, most=free)
                if not waiting:
                    # Nothing of ours: what is left is being looked up by somebody, or the lanes are empty.
                    await refresh_lanes(connection, lane_ids)
                    return
            for domain in waiting:
                task = asyncio.create_task(self._route(domain), name=f"route {domain.domain}")
                self._looking.add(task)
                task.add_done_callback(self._looking.discard)

    async def _route(self, waiting: WaitingDomain) -> None:
        try:
            group = await lookup.look_up(waiting.domain, self._services.resolver)
        except Exception:
            # Not for ever unrouted: the attempt looks again, and what happens there has a history.
            log.exception("lookup_broke", domain=waiting.domain)
            group = None
        self._found.append(LookedUp(waiting, group))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="router-writer")

    async def _write(self) -> None:
        """What was found out while one write is under way is written together."""
        while self._found:
            together = [self._found.popleft() for _ in range(len(self._found))]
            try:
                async with self._services.pool.connection() as connection:
                    await lookup.settle_routes(connection, together, self._services.routes)
            except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
                # They are looked up again half a minute after they were taken.
                log.warning("routing_failed", domains=[one.waiting.domain for one in together][:20], error=str(error))
