"""The Celery application: how work that is not a conversation with a mail server is spread over processes.

A task only says "look now": what is to be done stands in PostgreSQL, so losing a task costs time and running one twice
changes nothing. There are no results, no time limits (an engine's conversations are never bounded by a task), no ETAs. A
broker that is away stops none of the delivery: engines look by themselves, and publishers fail at once instead of waiting.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import django
from celery import Celery, bootsteps
from celery.exceptions import SecurityWarning
from celery.signals import beat_init, setup_logging, task_postrun, task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")

from django.conf import settings
from django.db import close_old_connections

from delivery import broker
from relayweb.schedule import SCHEDULE

QUEUES = ("housekeeping", "webhooks", "reports")


def egress_queue(node: str) -> str:
    """The queue of a node's delivery workers: only they own its source addresses."""
    return f"egress.{node}"


def route(name: str, _args: Any, _kwargs: Any, _options: Any, task: Any = None, **_more: Any) -> dict[str, str]:
    """By the task's name: wake-ups to the engines of this node, the rest to the queue named by its subject."""
    words = name.split(".")
    if words[-1] == "wake":
        return {"queue": egress_queue(settings.NODE)}
    for queue in QUEUES:
        if queue in words:
            return {"queue": queue}
    return {"queue": "housekeeping"}


def transport_options(broker_url: str) -> dict[str, Any]:
    if broker.is_amqp(broker_url):
        return {"confirm_publish": True}
    return {
        # A worker that died gives its unfinished tasks back after about this long.
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 100,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "max_retries": 0,  # publishers fail at once while the broker is away; workers reconnect all the same
    }


# Celery's own support for Django would run every system check, and so load all pages, in each worker that starts.
app = Celery("relayweb", set_as_current=True, fixups=[])
# Celery warns root because of pickled tasks; only JSON is accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)
app.conf.update(
    broker_url=settings.BROKER_URL,
    broker_transport_options=transport_options(settings.BROKER_URL),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=3,
    broker_pool_limit=10,
    result_backend=None,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_publish_retry=False,
    task_default_queue="housekeeping",
    task_routes=[route],
    task_send_sent_event=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # a lease decides who goes on, not the broker
    worker_enable_soft_shutdown_on_idle=False,
    worker_hijack_root_logger=False,
    timezone="UTC",
    enable_utc=True,
    beat_schedule=SCHEDULE,
    **broker.queue_settings(settings.BROKER_URL),
)


@setup_logging.connect
def _use_our_logging(**_signal: Any) -> None:
    """Being connected is what keeps Celery from setting up its own."""


class SayThatWeAreUp(bootsteps.StartStopStep):
    """Before the consumer connects: a worker whose broker is away is up all the same."""

    requires = {"celery.worker.components:Pool"}

    def start(self, worker: Any) -> None:
        say_that_we_are_up()


@beat_init.connect
def say_that_we_are_up(**_signal: Any) -> None:
    """For the supervisor, which compares the number with the process it started."""
    path = os.environ.get("RELAY_ALIVE_FILE")
    if path:
        with contextlib.suppress(OSError):
            Path(path).write_text(f"{os.getpid()}\n", encoding="ascii")


def _engine_step() -> type[bootsteps.StartStopStep]:
    from delivery.engine.bootstep import EngineStep

    return EngineStep


def _caller_step() -> type[bootsteps.StartStopStep]:
    from delivery.webhooks.bootstep import CallerStep

    return CallerStep


@task_prerun.connect
@task_postrun.connect
def drop_dead_connections(**_signal: Any) -> None:
    """A task never begins with a connection that the database has closed meanwhile."""
    close_old_connections()


# Beat only sends names; publishers in other parts have Django set up already.
if settings.PART in {"worker", "webhooks", "housekeeping"}:
    django.setup()
    # Workers load neither pages nor letters.
    app.autodiscover_tasks(["delivery", "relayweb"] if settings.PART == "housekeeping" else ["delivery"], force=True)
app.steps["worker"].add(SayThatWeAreUp)
if settings.PART == "worker":
    app.steps["worker"].add(_engine_step())
elif settings.PART == "webhooks":
    app.steps["worker"].add(_caller_step())
