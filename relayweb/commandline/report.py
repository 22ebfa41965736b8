"""report parse"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from delivery.core.reports import ReportedRecipient
from delivery.reports.reading import read_returned_file
from relayweb.commandline import output


@click.group("report")
def command() -> None:
    """Mail that came back: bounces, complaints, automatic replies."""


@command.command("parse")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def parse(files: tuple[Path, ...]) -> None:
    """What reports say about each recipient. A FILE is one mail, or an mbox."""
    if output.is_json():
        output.write({str(file): _rows(file) for file in files})
        return
    lines = [[file.name, *(_word(row[column]) for column in _COLUMNS)] for file in files for row in _rows(file)]
    output.table(["file", *_COLUMNS], lines)


_COLUMNS = ("recipient", "kind", "class", "hard", "status", "reply_code", "feedback_type")


def _rows(file: Path) -> list[dict[str, Any]]:
    return [_row(one) for report in read_returned_file(file.read_bytes()) for one in report.rows]


def _row(one: ReportedRecipient) -> dict[str, Any]:
    return {
        "recipient": one.address,
        "kind": one.kind.value,
        "class": one.class_word,
        "hard": one.is_hard,
        "status": one.status,
        "reply_code": one.reply_code,
        "feedback_type": one.feedback_type,
    }


def _word(value: Any) -> Any:
    return None if value == "" else value
