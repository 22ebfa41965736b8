"""How the engine lives in a Celery worker: a thread with its own event loop, started and stopped with the worker.

Celery's tasks only ring its bell. Conversations are never bounded by a task: a final reply may take ten minutes, and a time
limit would cut it off in the middle.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import structlog
import uvloop
from celery import bootsteps
from django.conf import settings

from accounts.identifiers import uuid7
from delivery.engine.engine import Engine
from delivery.engine.ownership import WorkerIdentity
from delivery.version import VERSION

log = structlog.get_logger(__name__)

_STOP_S = 40.0

_running: EngineThread | None = None


class EngineThread(threading.Thread):
    def __init__(self, me: WorkerIdentity) -> None:
        super().__init__(name="engine", daemon=True)
        self._me = me
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._is_up = threading.Event()

    def run(self) -> None:
        try:
            uvloop.run(self._main())
        except Exception:
            log.exception("engine_died", worker=self._me.slot)
            # Without its engine the worker is of no use; the supervisor starts a new one.
            os._exit(70)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(self._me)
        self._is_up.set()
        await self._engine.run()

    def ring(self) -> None:
        if self._is_up.is_set() and self._loop is not None and self._engine is not None:
            self._loop.call_soon_threadsafe(self._engine.ring)

    def stop(self) -> None:
        self._is_up.wait(5)
        if self._loop is not None and self._engine is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._engine.stop)
            self.join(_STOP_S)


def ring() -> None:
    """Ring the engine of this process, if it has one."""
    if _running is not None:
        _running.ring()


class EngineStep(bootsteps.StartStopStep):
    """Starts the engine with a delivery worker. Other workers (housekeeping) do not have this step."""

    requires = {"celery.worker.components:Pool"}

    def start(self, worker: Any) -> None:
        global _running
        slot = f"{settings.NODE}/worker-{os.environ.get('RELAY_WORKER_SLOT', '1')}"
        _running = EngineThread(WorkerIdentity(slot, uuid7(), settings.NODE, VERSION))
        _running.start()

    def stop(self, worker: Any) -> None:
        if _running is not None:
            _running.stop()

    terminate = stop
