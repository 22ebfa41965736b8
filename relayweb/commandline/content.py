"""content show | move | sweep"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from accounts.refusals import Refused
from delivery import content_store, content_sweep
from delivery.content_store import ContentUnreadable, StoreTrouble
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun

OBJECT_STORE, DATABASE = "object-store", "database"


@click.group("content", cls=Noun)
def command() -> None:
    """Where the content of mail stands."""


@command.command("show")
def show() -> None:
    """How much stands in the database and in the object store. Reads every row's head."""
    standing = content_sweep.standing()
    output.record(
        {
            "object_store": content_store.is_used(),
            "in_database": standing.in_database,
            "octets_in_database": standing.octets_in_database,
            "in_object_store": standing.in_object_store,
            "sealed": standing.sealed,
        }
    )


@command.command("move")
@click.option("--to", "target", type=click.Choice([OBJECT_STORE, DATABASE]), required=True)
@click.option("--limit", type=click.IntRange(min=1), help="Move so many, then stop.")
def move(target: str, limit: int | None) -> None:
    """Move content that is stored already. May be interrupted, repeated, and run beside everything else."""
    _insist_on_a_store()
    moving: Callable[[], Iterator[int]] = (
        content_sweep.move_to_object_store if target == OBJECT_STORE else content_sweep.move_to_database
    )
    moved = 0
    try:
        for step in moving():
            moved += step
            if limit is not None and moved >= limit:
                break
    except (StoreTrouble, ContentUnreadable) as error:
        raise Refused(f"Stopped after {moved}: {error}.", reason="object_store") from None
    output.record({"to": target, "moved": moved})


@command.command("sweep")
def sweep() -> None:
    """Delete every object whose mail is gone; housekeeping does so by itself once a day."""
    _insist_on_a_store()
    try:
        deleted = content_sweep.sweep(all_days=True)
    except StoreTrouble as error:
        raise Refused(f"The object store: {error}.", reason="object_store") from None
    output.record({"deleted": deleted})


def _insist_on_a_store() -> None:
    if not content_store.is_used():
        raise Refused("No object store is configured: set RELAY_OBJECT_STORE.", reason="no_object_store")
