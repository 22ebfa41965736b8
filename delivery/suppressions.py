"""The suppression list as people and programs change it: add, remove, restore, search, import and export.

Whatever is removed stays restorable for ``RESTORABLE``. Every change is in the audit log, an import as one entry. Lists
are read by keyset in short transactions, and an import is written in batches: who stops in the middle loses nothing, and
doing it again changes nothing. What mail must not go to is asked in ``delivery.suppression_list``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain, parse_mailbox
from delivery.models import Stream, Suppression, SuppressionKind, SuppressionReason, SuppressionScope
from delivery.models.suppression import OPERATOR
from delivery.suppression_list import key_of

RESTORABLE = timedelta(days=30)
MOST_PATTERNS = 100
MOST_IMPORTED = 100_000
MOST_ERRORS_TOLD = 100
MOST_VALUES_TOLD = 100  # in the audit log; who removed a row stands in the row as well
_PAGE = 2_000
_BATCH = 5_000
_FEWEST_LITERALS = 4
_PATTERN = re.compile(r"[!-~\u0080-\U0010ffff]{1,320}")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose suppression it is: a stream's (its tenant is given too), a tenant's, or (neither) the operator's for everybody."""

    tenant: Tenant | None = None
    stream: Stream | None = None

    @property
    def scope(self) -> SuppressionScope:
        if self.stream is not None:
            return SuppressionScope.STREAM
        return SuppressionScope.OPERATOR if self.tenant is None else SuppressionScope.TENANT

    @property
    def id(self) -> UUID:
        if self.stream is not None:
            return self.stream.pk
        return OPERATOR if self.tenant is None else self.tenant.pk


@dataclass(frozen=True, slots=True)
class Target:
    """What is suppressed, in the one form in which it is kept."""

    kind: SuppressionKind
    value: str

    @property
    def like_pattern(self) -> str:
        if self.kind != SuppressionKind.PATTERN:
            return ""
        escaped = self.value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return escaped.replace("*", "%")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why: a reason, and where it came from."""

    reason: SuppressionReason
    reply_class: str = ""
    detail: str = ""
    message_id: UUID | None = None
    recipient_id: UUID | None = None
    expires_at: datetime | None = None


def read_target(text: str) -> Target:
    """An address, a domain (``example.com`` or ``@example.com``), or a pattern with ``*``. Raises Refused."""
    text = text.strip()
    if "*" in text:
        return _read_pattern(text)
    try:
        if "@" in text.lstrip("@"):
            return Target(SuppressionKind.ADDRESS, key_of(parse_mailbox(text).address))
        return Target(SuppressionKind.DOMAIN, parse_domain(text.removeprefix("@")))
    except MailboxSyntaxError:
        raise Refused(
            _("%(value)s is neither an address nor a domain nor a pattern.") % {"value": text[:320]},
            reason="target_malformed",
            field="address",
        ) from None


def _read_pattern(text: str) -> Target:
    if not _PATTERN.fullmatch(text) or len(re.sub(r"[*@.]", "", text)) < _FEWEST_LITERALS:
        raise Refused(
            _("A pattern needs at least %(count)d characters besides * and @, so that it does not stop everything.")
            % {"count": _FEWEST_LITERALS},
            reason="pattern_too_wide",
            field="address",
        )
    return Target(SuppressionKind.PATTERN, key_of(text))


# ---------------------------------------------------------------- changing


def add(owner: Owner, target: Target, cause: Cause, *, actor: Actor) -> tuple[Suppression, bool]:
    """The suppression, and whether anything changed: what stands already for longer is left as it is.

    Raises Refused where the owner has too many patterns.
    """
    with transaction.atomic():
        if target.kind == SuppressionKind.PATTERN:
            _ensure_room_for_pattern(owner, target)
        changed = _put(owner, [(target, cause)], by=actor.name)
        row = Suppression.objects.get(owner_id=owner.id, kind=target.kind, value=target.value)
        if changed:
            _record(actor, "suppression.add", row, after=_shown(row))
    return row, bool(changed)


def remove(suppression: Suppression, *, actor: Actor, reason: str = "") -> Suppression:
    """Mail may go there again. Lifting a person's own word (a complaint, an unsubscribe) needs a reason. Raises Refused."""
    if suppression.reason in {SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE} and not reason.strip():
        raise Refused(_("The recipient asked for this; say why it is lifted."), reason="reason_missing", field="reason")
    with transaction.atomic():
        changed = Suppression.objects.filter(pk=suppression.pk, removed_at=None).update(
            removed_at=timezone.now(), removed_by=actor.name[:254], removed_reason=reason[:500]
        )
        if not changed:
            raise Refused(_("It has been removed already."), reason="already_removed")
        _record(actor, "suppression.remove", suppression, before=_shown(suppression), reason=reason)
    suppression.refresh_from_db()
    return suppression


def restore(suppression: Suppression, *, actor: Actor) -> Suppression:
    """Take a removal back, as long as it is remembered. Raises Refused."""
    with transaction.atomic():
        changed = Suppression.objects.filter(pk=suppression.pk, removed_at__gt=timezone.now() - RESTORABLE).update(
            removed_at=None, removed_by="", removed_reason=""
        )
        if not changed:
            raise Refused(_("It is not removed, or was removed too long ago."), reason="not_restorable")
        suppression.refresh_from_db()
        _record(actor, "suppression.restore", suppression, after=_shown(suppression))
    return suppression


def add_many(owner: Owner, rows: Mapping[Target, Cause], *, actor: Actor) -> int:
    """Addresses and domains in one statement; how many were new or changed. One entry of the audit log."""
    with transaction.atomic():
        changed = _put(owner, rows.items(), by=actor.name) if rows else 0
        if changed:
            _record_many(owner, "suppression.add_many", rows, changed, actor)
    return changed


def remove_many(owner: Owner, targets: Collection[Target], *, actor: Actor, reason: str = "") -> set[Target]:
    """Those that stood and are removed now. A person's own word is lifted only where ``reason`` says why."""
    standing = Suppression.objects.filter(
        owner_id=owner.id, value__in=[target.value for target in targets], removed_at=None
    )
    if not reason.strip():
        standing = standing.exclude(reason__in=[SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE])
    with transaction.atomic():
        found = {
            Target(SuppressionKind(row.kind), row.value): row.pk
            for row in standing.select_for_update(of=("self",)).order_by("pk")
        }
        removed = {target: found[target] for target in targets if target in found}
        Suppression.objects.filter(pk__in=removed.values()).update(
            removed_at=timezone.now(), removed_by=actor.name[:254], removed_reason=reason[:500]
        )
        if removed:
            _record_many(owner, "suppression.remove_many", removed, len(removed), actor, reason=reason)
    return set(removed)


def forget_old(*, now: datetime | None = None) -> int:
    """What was removed, or ran out, longer ago than it can be restored."""
    before = (now or timezone.now()) - RESTORABLE
    return Suppression.objects.filter(Q(removed_at__lt=before) | Q(expires_at__lt=before)).delete()[0]


def set_refusing(tenant: Tenant, refuses: bool, *, actor: Actor) -> None:
    """Whether RCPT for a suppressed recipient is refused, or the recipient accepted and shown as suppressed."""
    with transaction.atomic():
        if Tenant.objects.filter(pk=tenant.pk, refuses_suppressed=not refuses).update(refuses_suppressed=refuses):
            audit.record(
                actor,
                "tenant.update",
                tenant=tenant,
                object_id=tenant.pk,
                object_name=tenant.slug,
                before={"refuses_suppressed": not refuses},
                after={"refuses_suppressed": refuses},
            )
    tenant.refuses_suppressed = refuses


def _ensure_room_for_pattern(owner: Owner, target: Target) -> None:
    if _patterns_of(owner).exclude(value=target.value).count() >= MOST_PATTERNS:
        raise _too_many_patterns()


def _patterns_of(owner: Owner) -> QuerySet[Suppression]:
    return Suppression.objects.filter(owner_id=owner.id, kind=SuppressionKind.PATTERN, removed_at=None)


def _too_many_patterns() -> Refused:
    return Refused(
        _("There are %(count)d patterns already; use domains or addresses.") % {"count": MOST_PATTERNS},
        reason="too_many_patterns",
    )


# Many rows stand in a table of their own for the length of the transaction, and go there by COPY; a few are handed over as
# arrays, since a table made for each of them would fill PostgreSQL's catalogue.
_FEW = 100
_COLUMNS_PUT = "id, kind, value, like_pattern, reason, reply_class, detail, message_id, recipient_id, expires_at"
_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS relay_suppression_put (
    id uuid, kind text, value text, like_pattern text, reason text, reply_class text, detail text, message_id uuid,
    recipient_id uuid, expires_at timestamptz
) ON COMMIT DROP
"""
_ARRAYS = f"""unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[], %s::uuid[],
                       %s::timestamptz[]) AS new ({_COLUMNS_PUT})"""


def _put_from(source: str) -> str:
    """What stands is replaced when it is not in force any more, or would end before the new one does.

    Taking an import back leaves alone what was in force before it.
    """
    return f"""
INSERT INTO delivery_suppression AS standing (id, scope, owner_id, tenant_id, stream_id, kind, value, like_pattern, reason,
    reply_class, detail, message_id, recipient_id, hits, created_at, created_by, expires_at, removed_by, removed_reason,
    import_id)
SELECT id, %s, %s, %s, %s, kind, value, like_pattern, reason, reply_class, detail, message_id, recipient_id, 0, now(), %s,
    expires_at, '', '', %s
FROM {source} ORDER BY value
ON CONFLICT (value, kind, owner_id) DO UPDATE
SET reason = EXCLUDED.reason, reply_class = EXCLUDED.reply_class, detail = EXCLUDED.detail,
    message_id = EXCLUDED.message_id, recipient_id = EXCLUDED.recipient_id, created_at = EXCLUDED.created_at,
    created_by = EXCLUDED.created_by, expires_at = EXCLUDED.expires_at, removed_at = NULL, removed_by = '',
    removed_reason = '',
    import_id = CASE WHEN standing.removed_at IS NULL AND (standing.expires_at IS NULL OR standing.expires_at > now())
                     THEN NULL ELSE EXCLUDED.import_id END
WHERE standing.removed_at IS NOT NULL OR standing.expires_at < now()
   OR (standing.expires_at IS NOT NULL AND (EXCLUDED.expires_at IS NULL OR EXCLUDED.expires_at > standing.expires_at))
"""


_PUT_FEW, _PUT_MANY = _put_from(_ARRAYS), _put_from("relay_suppression_put")


def _put(owner: Owner, rows: Iterable[tuple[Target, Cause]], *, by: str, import_id: UUID | None = None) -> int:
    """How many were new or changed. A target stands at most once among ``rows``. Inside a transaction."""
    values = [_put_row(target, cause) for target, cause in rows]
    common: list[Any] = [
        owner.scope.value,
        owner.id,
        owner.tenant.pk if owner.tenant is not None else None,
        owner.stream.pk if owner.stream is not None else None,
        by[:254],
        import_id,
    ]
    with connection.cursor() as cursor:
        if len(values) <= _FEW:
            cursor.execute(_PUT_FEW, [*common, *(list(column) for column in zip(*values, strict=True))])
            return int(cursor.rowcount)
        cursor.execute(_STAGE)
        with cursor.copy(f"COPY relay_suppression_put ({_COLUMNS_PUT}) FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)
        cursor.execute(_PUT_MANY, common)
        changed = int(cursor.rowcount)
        cursor.execute("TRUNCATE relay_suppression_put")
        return changed


def _put_row(target: Target, cause: Cause) -> tuple[Any, ...]:
    return (
        uuid7(),
        target.kind.value,
        target.value,
        target.like_pattern,
        cause.reason.value,
        cause.reply_class,
        _plain(cause.detail),
        cause.message_id,
        cause.recipient_id,
        cause.expires_at,
    )


def _plain(text: str) -> str:
    return text.replace("\0", "�").encode("utf-8", "replace").decode()[:500]


# ---------------------------------------------------------------- finding


def find(owner: Owner, text: str) -> Suppression:
    """By the address, domain or pattern itself. Raises NotFound, Refused."""
    target = read_target(text)
    found = Suppression.objects.filter(owner_id=owner.id, kind=target.kind, value=target.value).first()
    if found is None:
        raise NotFound(_("%(value)s is not on this suppression list.") % {"value": target.value}, field="address")
    return found


@dataclass(frozen=True, slots=True)
class ListFilter:
    """What of a list is wanted. ``query`` is a part of what is sought; ``stream`` is a stream's name."""

    query: str = ""
    scope: str = ""
    reason: str = ""
    reply_class: str = ""
    stream: str = ""
    kind: str = ""
    which: str = "active"  # or expiring (within 30 days), expired, removed

    def narrowed(self, rows: QuerySet[Suppression]) -> QuerySet[Suppression]:
        now = timezone.now()
        match self.which:
            case "removed":
                rows = rows.filter(removed_at__isnull=False)
            case "expired":
                rows = rows.filter(removed_at=None, expires_at__lte=now)
            case "expiring":
                rows = rows.filter(removed_at=None, expires_at__gt=now, expires_at__lte=now + EXPIRES_SOON)
            case _:
                rows = rows.filter(removed_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))
        exact = {
            "scope": self.scope,
            "reason": self.reason,
            "reply_class": self.reply_class,
            "stream__name": self.stream,
            "kind": self.kind,
        }
        rows = rows.filter(**{name: value for name, value in exact.items() if value})
        return rows.filter(value__contains=key_of(self.query.strip())) if self.query.strip() else rows


EXPIRES_SOON = timedelta(days=30)


def _all_of(tenant: Tenant | None) -> QuerySet[Suppression]:
    rows = (
        Suppression.objects.filter(scope=SuppressionScope.OPERATOR)
        if tenant is None
        else Suppression.objects.of(tenant)
    )
    return rows.select_related("stream", "tenant")


def find_by_id(tenant: Tenant | None, key: UUID) -> Suppression:
    """Also one that is removed. Raises NotFound."""
    found = _all_of(tenant).filter(pk=key).first()
    if found is None:
        raise NotFound(_("There is no such suppression."), field="id")
    return found


def exact_matches(tenant: Tenant | None, text: str) -> list[Suppression]:
    """What keeps mail to this very address, domain or pattern back: itself first, then its domain, then patterns."""
    try:
        target = read_target(text)
    except Refused:
        return []
    active = ListFilter().narrowed(_all_of(tenant))
    found = list(active.filter(kind=target.kind, value=target.value)[:MOST_PATTERNS])
    if target.kind == SuppressionKind.ADDRESS:
        found += active.filter(kind=SuppressionKind.DOMAIN, value=target.value.rpartition("@")[2])[:MOST_PATTERNS]
        patterns = active.filter(kind=SuppressionKind.PATTERN)[: 10 * MOST_PATTERNS]
        found += [row for row in patterns if _fits(row.value, target.value)]
    return found


def _fits(pattern: str, address: str) -> bool:
    """As LIKE does it: each part between asterisks in its turn."""
    first, *rest = pattern.split("*")
    if not address.startswith(first):
        return False
    position = len(first)
    for part in rest[:-1]:
        found = address.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    last = rest[-1] if rest else ""
    return address.endswith(last) and len(address) - len(last) >= position


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page, newest first; ``newer`` and ``older`` are keys for ``after`` and ``before``, None where nothing more is."""

    rows: tuple[Suppression, ...]
    newer: UUID | None
    older: UUID | None


def page_of(
    tenant: Tenant | None,
    wanted: ListFilter,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
    size: int = 50,
) -> ListPage:
    rows = wanted.narrowed(_all_of(tenant))
    if after is not None:
        found = list(rows.filter(id__gt=after).order_by("id")[: size + 1])
        is_more, found = len(found) > size, found[:size][::-1]
        return ListPage(tuple(found), found[0].id if is_more else None, found[-1].id if found else None)
    found = list((rows if before is None else rows.filter(id__lt=before)).order_by("-id")[: size + 1])
    is_more, found = len(found) > size, found[:size]
    return ListPage(
        tuple(found), found[0].id if found and before is not None else None, found[-1].id if is_more else None
    )


def count_up_to(tenant: Tenant | None, wanted: ListFilter, *, most: int = 10_000) -> int:
    """How many there are; ``most`` + 1 stands for more than that."""
    return wanted.narrowed(_all_of(tenant)).order_by()[: most + 1].count()


def rows_of(
    tenant: Tenant | None, *, query: str = "", scope: str = "", reason: str = "", removed: bool = False
) -> Iterator[Suppression]:
    """A tenant's suppressions with those of its streams (None: the operator's), newest first, however many.

    ``query`` is a part of what is sought.
    """
    return all_rows(
        tenant, ListFilter(query=query, scope=scope, reason=reason, which="removed" if removed else "active")
    )


def all_rows(tenant: Tenant | None, wanted: ListFilter) -> Iterator[Suppression]:
    """However many, newest first."""
    rows = wanted.narrowed(_all_of(tenant))
    before: UUID | None = None
    while True:
        page = list((rows if before is None else rows.filter(id__lt=before)).order_by("-id")[:_PAGE])
        yield from page
        if len(page) < _PAGE:
            return
        before = page[-1].id


def matching(tenant: Tenant, *, address: str, domain: str) -> list[Suppression]:
    """All that keep this tenant's mail from an address now: its own, its streams' and the operator's; the nearest first."""
    rows = Suppression.objects.raw(
        """SELECT * FROM (
               SELECT * FROM delivery_suppression WHERE value = %s AND kind = 'address'
               UNION ALL SELECT * FROM delivery_suppression WHERE value = %s AND kind = 'domain'
               UNION ALL SELECT * FROM delivery_suppression WHERE kind = 'pattern' AND %s LIKE like_pattern
           ) AS found
           WHERE (tenant_id = %s OR owner_id = %s) AND removed_at IS NULL AND (expires_at IS NULL OR expires_at > now())
           ORDER BY kind, id LIMIT 100""",
        [key_of(address), domain, key_of(address), tenant.pk, OPERATOR],
    ).prefetch_related("stream")
    return list(rows)


# ---------------------------------------------------------------- CSV

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
    rows = wanted.narrowed(_all_of(tenant).select_related(None)).order_by("-id")
    before: UUID | None = None
    while True:
        page = list((rows if before is None else rows.filter(id__lt=before)).values_list(*names)[:_PAGE])
        yield from map(_PlainRow._make, page)
        if len(page) < _PAGE:
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
    room = _RoomForPatterns(owner)
    batch: dict[Target, Cause] = {}

    def write() -> None:
        if batch:
            with transaction.atomic():
                done.changed += _put(owner, batch.items(), by=actor.name, import_id=import_id)
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


class _RoomForPatterns:
    """Counts the patterns of an owner while a list brings more."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._values: set[str] | None = None

    def ensure(self, target: Target) -> None:
        """Raises Refused."""
        if target.kind != SuppressionKind.PATTERN:
            return
        if self._values is None:
            self._values = set(_patterns_of(self._owner).values_list("value", flat=True))
        self._values.add(target.value)
        if len(self._values) > MOST_PATTERNS:
            self._values.discard(target.value)
            raise _too_many_patterns()


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


# ---------------------------------------------------------------- audit


def _record(actor: Actor, action: str, row: Suppression, **more: Any) -> None:
    audit.record(
        actor,
        action,
        tenant=row.tenant,
        object_id=row.pk,
        object_name=row.value,
        **more,
    )


def _shown(row: Suppression) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "stream": row.stream.name if row.stream else None,
        "reason": row.reason,
        "class": row.reply_class,
        "expires_at": row.expires_at,
    }


def _record_many(
    owner: Owner, action: str, targets: Iterable[Target], changed: int, actor: Actor, *, reason: str = ""
) -> None:
    named = [target.value for target in targets]
    audit.record(
        actor,
        action,
        tenant=owner.tenant,
        object_id=owner.id,
        object_name=str(owner.stream or owner.tenant or "operator"),
        after={"changed": changed, "values": named[:MOST_VALUES_TOLD]},
        reason=reason,
    )


def _record_import(owner: Owner, done: Imported, actor: Actor, import_id: UUID | None) -> None:
    audit.record(
        actor,
        "suppression.import",
        tenant=owner.tenant,
        object_id=import_id or owner.id,
        object_name=str(owner.stream or owner.tenant or "operator"),
        after={"read": done.read, "changed": done.changed, "refused": done.refused},
    )
