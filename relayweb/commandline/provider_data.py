"""provider-data import | list | show | undo"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any
from uuid import UUID

import click

from accounts.audit import Actor
from delivery.models import ProviderImport
from delivery.provider_data import imports
from relayweb.commandline import output
from relayweb.commandline.verbs import IDENTIFIER, Noun, subject

ID_HELP = "The import's id."


@click.group("provider-data", cls=Noun)
def command() -> None:
    """What providers tell of our mail: exports of Google Postmaster Tools and Microsoft SNDS."""


@command.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Tell what would be taken up; write nothing.")
def import_(file: IO[bytes], dry_run: bool) -> None:
    """Take a file up; which of the formats it is shows by itself. FILE - is stdin."""
    name = "" if file.name == "<stdin>" else Path(str(file.name)).name
    # One octet more than is taken shows that there are too many; a larger file is not read to its end.
    content = file.read(imports.MOST_OCTETS + 1)
    made = imports.take_up(content, file_name=name, actor=Actor.command_line(), is_dry=dry_run)
    shape = _shape(made)
    output.record({"dry_run": dry_run, **shape, "id": None if dry_run else made.pk, "errors": _errors(made)})


@command.command("list")
@click.option("--before", type=IDENTIFIER, help="Older than this import.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
def list_(before: UUID | None, limit: int) -> None:
    """The files that were taken up, newest first."""
    found, _older = imports.page(before=before, size=limit)
    columns = ("id", "kind", "file", "rows", "refused", "imported_at", "imported_by", "undone_at")
    output.rows(map(_shape, found), columns, empty="No file was taken up yet.")


@command.command("show")
@subject("id", "id", ID_HELP)
def show(id: str) -> None:
    """One file, with the rows that could not be read."""
    made = imports.find(_identifier(id))
    output.record({**_shape(made), "errors": _errors(made)})


@command.command("undo")
@subject("id", "id", ID_HELP)
def undo(id: str) -> None:
    """Take an import back; what earlier files told counts again. Importing the file again undoes it."""
    made = imports.take_back(imports.find(_identifier(id)), actor=Actor.command_line())
    output.record(_shape(made))


def _identifier(text: str) -> UUID:
    identifier: UUID = IDENTIFIER.convert(text, None, None)
    return identifier


def _errors(made: ProviderImport) -> list[dict[str, Any]]:
    return [{"line": one["line"], "sentence": one["why"]} for one in made.bad_rows]


def _shape(made: ProviderImport) -> dict[str, Any]:
    return {
        "id": made.pk,
        "kind": made.kind,
        "file": made.file_name,
        "rows": made.rows,
        "refused": len(made.bad_rows),
        "imported_at": made.imported_at,
        "imported_by": made.imported_by,
        "undone_at": made.undone_at,
    }
