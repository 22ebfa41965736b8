"""queue stats | sweep"""

from __future__ import annotations

from dataclasses import asdict

import click

from delivery import history
from delivery.engine import recovery
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun

_COLUMNS = ("provider", "open", "due", "claimed", "deferred", "held", "oldest_age_s", "reason")


@click.group("queue", cls=Noun)
def command() -> None:
    """What waits."""


@command.command("stats")
def stats() -> None:
    """How many recipients are open, and why: in all, and by provider."""
    figures = asdict(history.queue_stats())
    if output.is_json():
        output.write(figures)
        return
    output.table(_COLUMNS[1:7], [[figures[column] for column in _COLUMNS[1:7]]])
    if figures["by_provider"]:
        click.echo()
        output.table(_COLUMNS, [[row[column] for column in _COLUMNS] for row in figures["by_provider"]])


@command.command("sweep")
def sweep() -> None:
    """Free now what engines that died had claimed, and ring for what is due. Engines do both by themselves."""
    output.record({"freed": recovery.sweep_now()})
