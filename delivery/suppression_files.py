"""Suppression lists as CSV: written out, and taken up.

An import is written in batches and stands in the audit log as one entry: who stops in the middle loses nothing, and doing
it again changes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery.models import SuppressionReason
from delivery.suppression_search import PAGE, ListFilter, lists_of
from delivery.suppressions import Cause, Owner, RoomForPatterns, Target, put, read_target

MOST_IMPORTED = 100_000
MOST_ERRORS_TOLD = 100
_BATCH = 5_000


COLUMNS = ("address", "kind", "scope", "stream", "reason", "class", "created_at", "expires_at", "hits", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKED = tuple(f"'{character}" for character in (*_FORMULA, "'"))


def export_csv(tenant: Tenant | None, wanted: ListFilter | None = None) -> Iterator[str]:
    """Lines of CSV with a header, newest first, however many; a spreadsheet takes no cell for a formula."""
    yield csv_line(COLUMNS)
    for row in _plain_rows(tenant, wanted or ListFilter()):
        yield csv_line(_cells(row))


class _PlainRow(NamedTuple):
    id: UUID
    value: str
    kind: str
    scope: str
    stream: str | None
    reason: str
    reply_class: str
    created_at: datetime
    expires_at: datetime | None
    hits: int
    detail: str


def _plain_rows(tenant: Tenant | None, wanted: ListFilter) -> Iterator[_PlainRow]:
    """Without the objects around them, which cost most of the time where there are a hundred thousand."""
    names = tuple("stream__name" if name == "stream" else name for name in _PlainRow._fields)
    rows = wanted.narrowed(lists_of(tenant).select_related(None)).order_by("-id")
    before: UUID | None = None
    while True:
        page = list((rows if before is None else rows.filter(id__lt=before)).values_list(*names)[:PAGE])
        yield from map(_PlainRow._make, page)
        if len(page) < PAGE:
            return
        before = page[-1][0]


def _cells(row: _PlainRow) -> tuple[str, ...]:
    return (
        row.value,
        row.kind,
        row.scope,
        row.stream or "",
        row.reason,
        row.reply_class,
        row.created_at.astimezone(UTC).isoformat(timespec="seconds"),
        row.expires_at.astimezone(UTC).isoformat(timespec="seconds") if row.expires_at else "",
        str(row.hits),
        row.detail,
    )


def csv_line(cells: Iterable[str]) -> str:
    """A spreadsheet takes none of the cells for a formula."""
    line = io.StringIO()
    csv.writer(line).writerow([f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell for cell in cells])
    return line.getvalue()


def _cell(text: str) -> str:
    """A cell as it was meant: without the mark that keeps spreadsheets from calculating."""
    text = text.strip()
    return text[1:] if text.startswith(_MARKED) else text


@dataclass(slots=True)
class Imported:
    """``errors`` are line numbers with a sentence each, the first ``most_errors`` of them."""

    read: int = 0
    changed: int = 0
    refused: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)
    most_errors: int = MOST_ERRORS_TOLD

    def refuse(self, line: int, sentence: str) -> None:
        self.refused += 1
        if len(self.errors) < self.most_errors:
            self.errors.append((line, sentence))


def import_csv(
    owner: Owner,
    lines: Iterable[str],
    *,
    actor: Actor,
    progress: Callable[[Imported], None] = lambda _so_far: None,
    import_id: UUID | None = None,
    most_errors: int = MOST_ERRORS_TOLD,
) -> Imported:
    """Take up a list: one address, domain or pattern a line, or columns with a header as ``export_csv`` writes.

    Of the columns ``address`` (or ``email``), ``expires_at`` and ``detail`` are read. Raises Refused beyond 100,000 lines;
    what was written before stays.
    """
    rows = ((line, text, _imported_cause(expires, detail)) for line, text, expires, detail in read_csv(lines))
    return import_rows(owner, rows, actor=actor, progress=progress, import_id=import_id, most_errors=most_errors)


def _imported_cause(expires: str, detail: str) -> Cause | Refused:
    try:
        return Cause(SuppressionReason.IMPORT, detail=detail, expires_at=_moment(expires))
    except Refused as refusal:
        return refusal


def import_rows(
    owner: Owner,
    rows: Iterable[tuple[int, str, Cause | Refused]],
    *,
    actor: Actor,
    progress: Callable[[Imported], None] = lambda _so_far: None,
    import_id: UUID | None = None,
    most_errors: int = MOST_ERRORS_TOLD,
) -> Imported:
    """Take up rows: a line number, a target as text, and why, or what is wrong with the row. Raises Refused as ``import_csv``."""
    done = Imported(most_errors=most_errors)
    room = RoomForPatterns(owner)
    batch: dict[Target, Cause] = {}

    def write() -> None:
        if batch:
            with transaction.atomic():
                done.changed += put(owner, batch.items(), by=actor.name, import_id=import_id)
            batch.clear()
        progress(done)

    for number, target_text, cause in rows:
        if done.read >= MOST_IMPORTED:
            write()
            _record_import(owner, done, actor, import_id)
            raise Refused(
                _("A list has at most %(count)d lines; the rest was not read.") % {"count": MOST_IMPORTED},
                reason="list_too_long",
            )
        done.read += 1
        try:
            if isinstance(cause, Refused):
                raise cause
            target = read_target(target_text)
            room.ensure(target)
        except Refused as refusal:
            done.refuse(number, refusal.sentence)
            continue
        batch[target] = cause
        if len(batch) >= _BATCH:
            write()
    write()
    _record_import(owner, done, actor, import_id)
    return done


def read_csv(lines: Iterable[str]) -> Iterator[tuple[int, str, str, str]]:
    """Line number, target, expiry and detail of each row that is not empty. Raises Refused for what is no CSV."""
    reader = csv.reader(line.removeprefix("\ufeff").replace("\0", "") for line in lines)
    names: list[str] | None = None
    targets: list[int] = []
    expires: int | None = None
    detail: int | None = None
    try:
        for cells in reader:
            if not any(cells) or not any(cell.strip() for cell in cells):
                continue
            if names is None:
                lowered = [cell.strip().lower() for cell in cells]
                is_header = any(name in lowered for name in ("address", "email", "value"))
                names = lowered if is_header else ["address"]
                targets = [names.index(name) for name in ("address", "email", "value") if name in names]
                expires, detail = (names.index(name) if name in names else None for name in ("expires_at", "detail"))
                if is_header:
                    continue
            target = next((cells[place] for place in targets if place < len(cells) and cells[place]), "")
            yield reader.line_num, _cell(target), _cell(_at(cells, expires)), _cell(_at(cells, detail))
    except csv.Error as error:
        raise Refused(
            _("Line %(line)d is no CSV: %(error)s.") % {"line": reader.line_num, "error": error}, reason="no_csv"
        ) from None


def _at(cells: list[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(_("%(text)s is no ISO 8601 time.") % {"text": text[:40]}, reason="time_malformed") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _record_import(owner: Owner, done: Imported, actor: Actor, import_id: UUID | None) -> None:
    audit.record(
        actor,
        "suppression.import",
        tenant=owner.tenant,
        object_id=import_id or owner.id,
        object_name=str(owner.stream or owner.tenant or "operator"),
        after={"read": done.read, "changed": done.changed, "refused": done.refused},
    )
