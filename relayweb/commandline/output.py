"""What the command line says: one JSON document, or text for people in which Japanese keeps its columns."""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

_as_json = False


@contextlib.contextmanager
def mode(*, as_json: bool) -> Iterator[None]:
    global _as_json
    before, _as_json = _as_json, as_json
    try:
        yield
    finally:
        _as_json = before


def is_json() -> bool:
    return _as_json


def write(document: Any) -> None:
    """The one document of this command."""
    _write_bytes(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2) + b"\n")


def write_list(rows: Iterable[Mapping[str, Any]]) -> None:
    """A list as it comes, without ever holding all of it."""
    encoder = msgspec.json.Encoder(enc_hook=str)
    chunks = bytearray(b"[")
    separator = b"\n"
    for row in rows:
        chunks += separator + encoder.encode(row)
        separator = b",\n"
        if len(chunks) > 65_536:
            _write_bytes(bytes(chunks))
            chunks.clear()
    _write_bytes(bytes(chunks) + b"\n]\n")


def record(document: Mapping[str, Any], *, note: str = "") -> None:
    """One thing: the document, or its fields below each other. ``note`` is for people only."""
    if _as_json:
        write(document)
        return
    widest = max((width(name) for name in document), default=0)
    for name, value in document.items():
        click.echo(f"{pad(name.replace('_', ' '), widest)}  {cell(value)}")
    if note:
        click.echo(f"\n{note}")


def rows(documents: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Several things: a list, or a table of ``columns``."""
    if _as_json:
        write_list(documents)
        return
    table(columns, [[document[column] for column in columns] for document in documents], empty=empty)


def table(columns: Sequence[str], lines: Sequence[Sequence[Any]], *, empty: str = "") -> None:
    if not lines:
        click.echo(empty)
        return
    cells = [[cell(value) for value in line] for line in lines]
    widths = [max(width(title), *(width(line[index]) for line in cells)) for index, title in enumerate(columns)]
    titles = [title.replace("_", " ").upper() for title in columns]
    for line in [titles, *cells]:
        click.echo("  ".join(pad(text, widest) for text, widest in zip(line, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case list() | tuple():
            return ", ".join(cell(member) for member in value) or "-"
        case dict():
            return ", ".join(f"{name} {cell(member)}" for name, member in value.items()) or "-"
        case _:
            return printable(str(value))


def printable(text: str) -> str:
    """What others wrote must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def width(text: str) -> int:
    """Columns on a terminal: full-width characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
