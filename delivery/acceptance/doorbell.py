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

log = structlog.get_logger(__name__)

_LEAST_GAP_S = 0.25
_AFTER_FAILURE_S = 5.0

_wanted: queue.Queue[None] = queue.Queue(maxsize=1)
_thread: threading.Thread | None = None
_start = threading.Lock()


def ring() -> None:
    """Never blocks, never raises."""
    _ensure_thread()
    with suppress(queue.Full):
        _wanted.put_nowait(None)


def _ensure_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        with _start:
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_run, name="doorbell", daemon=True)
                _thread.start()


def _run() -> None:
    app = _publisher()
    while True:
        _wanted.get()
        try:
            app.send_task("delivery.wake", queue=f"egress.{settings.NODE}", expires=10, retry=False)
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
    )
    return app
