"""Celery's wake-up after a commit, rung from a thread of its own so that a dead or hanging broker costs acceptance nothing.

At most one ring waits: engines claim everything that is due, so a second ring would say nothing new. Whatever goes wrong is
dropped: NOTIFY went out with the commit, and engines look by themselves.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

import structlog
from celery import Celery
from django.conf import settings

from delivery import broker

log = structlog.get_logger(__name__)

_LEAST_GAP_S = 1.0
_AFTER_FAILURE_S = 5.0

_WAKE = "delivery.wake"
_READ = "delivery.reports.read"
_JOBS = "delivery.work_on_jobs"
_IMPORT = "delivery.import_suppressions"

_start = threading.Lock()
_bells: dict[str, _Bell] = {}


def ring() -> None:
    """Something is due. Never blocks, never raises."""
    _bell(_WAKE, f"egress.{settings.NODE}").ring()


def ring_for_reports() -> None:
    """Something came back. Never blocks, never raises."""
    _bell(_READ, "reports").ring()


def ring_for_jobs() -> None:
    """Somebody has asked for an export or a change. Never blocks, never raises."""
    _bell(_JOBS, "housekeeping").ring()


def ring_for_imports() -> None:
    """A list was handed in. Never blocks, never raises."""
    _bell(_IMPORT, "housekeeping").ring()


def _bell(task: str, queue_name: str) -> _Bell:
    if task not in _bells:
        with _start:
            if task not in _bells:
                _bells[task] = _Bell(task, queue_name)
    return _bells[task]


class _Bell:
    def __init__(self, task: str, queue_name: str) -> None:
        self._task = task
        self._queue_name = queue_name
        self._wanted: queue.Queue[None] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        self._ensure_thread()
        with suppress(queue.Full):
            self._wanted.put_nowait(None)

    def _ensure_thread(self) -> None:
        # Also after a fork, which threads do not survive.
        if self._thread is None or not self._thread.is_alive():
            with _start:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        app = _publisher()
        while True:
            self._wanted.get()
            try:
                app.send_task(self._task, queue=self._queue_name, expires=10, retry=False)
                time.sleep(_LEAST_GAP_S)
            except Exception as error:  # noqa: BLE001 - the edge of a thread that must not end
                log.warning("doorbell_failed", error=str(error))
                time.sleep(_AFTER_FAILURE_S)


def _publisher() -> Celery:
    """Only publishes; the workers' application with its queues and tasks stands in relayweb.celery."""
    app = Celery("doorbell", broker=settings.BROKER_URL, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=1,
        broker_connection_max_retries=0,
        # For Redis and Valkey: fail at once when it is away. Other transports ignore them.
        broker_transport_options={"max_retries": 0, "socket_timeout": 1, "socket_connect_timeout": 1},
        task_publish_retry=False,
        task_ignore_result=True,
        **broker.queue_settings(settings.BROKER_URL),
    )
    return app
