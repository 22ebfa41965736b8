"""Reading the ledger from its end, so that the newest mails are found at once however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Entries, newest first. `older` is the position to go on from, None at the beginning of the ledger."""

    entries: list[dict[str, Any]]
    older: int | None


def read_newest(
    file: Path, *, limit: int, before: int | None = None, recipient: str | None = None, mail_id: str | None = None
) -> LedgerPage:
    """Entries that end before the position `before`, of one recipient (any case) or with one id where asked."""
    needles = [_as_written(text).lower() for text in (recipient, mail_id) if text]
    entries: list[dict[str, Any]] = []
    for start, line in _lines_from_end(file, before):
        # Most lines are set aside by a search in the raw bytes; only candidates are parsed.
        if needles and not all(needle in line.lower() for needle in needles):
            continue
        entry = _parse(line)
        if entry is None or (mail_id and entry["id"] != mail_id) or not _is_for(entry, recipient):
            continue
        entries.append(entry)
        if len(entries) == limit:
            return LedgerPage(entries, start or None)
    return LedgerPage(entries, None)


def _as_written(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "backslashreplace")


def _is_for(entry: dict[str, Any], recipient: str | None) -> bool:
    return recipient is None or any(recipient.lower() == known.lower() for known in entry["recipients"])


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"id", "recipients", "file"} <= entry.keys() else None


def _lines_from_end(file: Path, before: int | None) -> Iterator[tuple[int, bytes]]:
    """(position, line) from the last one backwards."""
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return
    with stream:
        position = stream.seek(0, 2)
        if before is not None:
            position = max(0, min(position, before))
        rest = b""
        while position > 0:
            start = max(0, position - _BLOCK_BYTES)
            stream.seek(start)
            block = stream.read(position - start) + rest
            lines = block.split(b"\n")
            rest = lines[0]
            end = start + len(block)
            for line in reversed(lines[1:]):
                end -= len(line) + 1
                if line:
                    yield end + 1, line
            position = start
        if rest:
            yield 0, rest
