"""How the caller lives in a Celery worker: a thread with its own event loop, as the engine does in a delivery worker.

The tasks of this worker only ring the bell or keep house; calls are never bounded by a task.
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
from delivery.engine.ownership import WorkerIdentity
from delivery.version import VERSION
from delivery.webhooks.caller import Caller, slot_name

log = structlog.get_logger(__name__)

_STOP_S = 20.0

_running: CallerThread | None = None


class CallerThread(threading.Thread):
    def __init__(self, me: WorkerIdentity) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._me = me
        self._loop: asyncio.AbstractEventLoop | None = None
        self._caller: Caller | None = None
        self._is_up = threading.Event()

    def run(self) -> None:
        try:
            uvloop.run(self._main())
        except Exception:
            log.exception("webhook_caller_died", worker=self._me.slot)
            # Without its caller the worker is of no use; the supervisor starts a new one.
            os._exit(70)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._caller = Caller(self._me)
        self._is_up.set()
        await self._caller.run()

    def ring(self) -> None:
        if self._is_up.is_set() and self._loop is not None and self._caller is not None:
            self._loop.call_soon_threadsafe(self._caller.ring)

    def stop(self) -> None:
        self._is_up.wait(5)
        if self._loop is not None and self._caller is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._caller.stop)
            self.join(_STOP_S)


def ring() -> None:
    """Ring the caller of this process, if it has one."""
    if _running is not None:
        _running.ring()


class CallerStep(bootsteps.StartStopStep):
    """Starts the caller with a worker of the part ``webhooks``."""

    requires = {"celery.worker.components:Pool"}

    def start(self, worker: Any) -> None:
        global _running
        _running = CallerThread(WorkerIdentity(slot_name(), uuid7(), settings.NODE, VERSION))
        _running.start()

    def stop(self, worker: Any) -> None:
        if _running is not None:
            _running.stop()

    terminate = stop
