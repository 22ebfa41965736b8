"""ps"""

from __future__ import annotations

from typing import Any

import click
from django.utils import timezone

from delivery.models import Worker
from delivery.queue.figures import workers
from relayweb.commandline import output
from relayweb.commandline.verbs import Verb
from relayweb.health import HEARTBEAT_SECONDS


@click.command("ps", cls=Verb)
def command() -> None:
    """The delivery workers and callers of webhooks of all nodes, and whether each has been heard of lately."""
    columns = ("slot", "node", "pid", "alive", "draining", "started_at", "heartbeat_at", "version")
    output.rows(map(_shape, workers()), columns, empty="No worker has ever been heard of.")


def _shape(worker: Worker) -> dict[str, Any]:
    silent_s = (timezone.now() - worker.heartbeat_at).total_seconds()
    return {
        "slot": worker.slot,
        "node": worker.node_id,
        "part": worker.part,
        "pid": worker.pid,
        "alive": silent_s <= HEARTBEAT_SECONDS,
        "draining": worker.is_draining,
        "started_at": worker.started_at,
        "heartbeat_at": worker.heartbeat_at,
        "version": worker.version,
        "figures": worker.figures,
    }
