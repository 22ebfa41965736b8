"""The suppression list as people and programs change it: add, remove, restore, search, import and export.

Whatever is removed stays restorable for ``RESTORABLE``. Every change is in the audit log, an import as one entry. Lists
are read by keyset in short transactions, and an import is written in batches: who stops in the middle loses nothing, and
doing it again changes nothing. What mail must not go to is asked in ``delivery.suppression_list``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
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
_PAGE = 2_000
_BATCH = 1_000
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
    patterns = Suppression.objects.filter(owner_id=owner.id, kind=SuppressionKind.PATTERN, removed_at=None)
    if patterns.exclude(value=target.value).count() >= MOST_PATTERNS:
        raise Refused(
            _("There are %(count)d patterns already; use domains or addresses.") % {"count": MOST_PATTERNS},
            reason="too_many_patterns",
        )


# What stands is replaced when it is not in force any more, or would end before the new one does.
_PUT = """
INSERT INTO delivery_suppression (id, scope, owner_id, tenant_id, stream_id, kind, value, like_pattern, reason, reply_class,
    detail, message_id, recipient_id, hits, created_at, created_by, expires_at, removed_by, removed_reason)
SELECT id, %s, %s, %s, %s, kind, value, like_pattern, reason, reply_class, detail, message_id, recipient_id, 0, now(), %s,
    expires_at, '', ''
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[], %s::uuid[],
            %s::timestamptz[])
     AS new (id, kind, value, like_pattern, reason, reply_class, detail, message_id, recipient_id, expires_at)
ORDER BY value
ON CONFLICT (value, kind, owner_id) DO UPDATE
SET reason = EXCLUDED.reason, reply_class = EXCLUDED.reply_class, detail = EXCLUDED.detail,
    message_id = EXCLUDED.message_id, recipient_id = EXCLUDED.recipient_id, created_at = EXCLUDED.created_at,
    created_by = EXCLUDED.created_by, expires_at = EXCLUDED.expires_at, removed_at = NULL, removed_by = '',
    removed_reason = ''
WHERE delivery_suppression.removed_at IS NOT NULL OR delivery_suppression.expires_at < now()
   OR (delivery_suppression.expires_at IS NOT NULL
       AND (EXCLUDED.expires_at IS NULL OR EXCLUDED.expires_at > delivery_suppression.expires_at))
RETURNING id
"""


def _put(owner: Owner, rows: Iterable[tuple[Target, Cause]], *, by: str) -> int:
    """How many were new or changed. A target stands at most once among ``rows``."""
    rows = list(rows)
    tenant_id = owner.tenant.pk if owner.tenant is not None else None
    with connection.cursor() as cursor:
        cursor.execute(
            _PUT,
            [
                owner.scope.value,
                owner.id,
                tenant_id,
                owner.stream.pk if owner.stream is not None else None,
                by[:254],
                [uuid7() for _row in rows],
                [target.kind.value for target, _cause in rows],
                [target.value for target, _cause in rows],
                [target.like_pattern for target, _cause in rows],
                [cause.reason.value for _target, cause in rows],
                [cause.reply_class for _target, cause in rows],
                [_plain(cause.detail) for _target, cause in rows],
                [cause.message_id for _target, cause in rows],
                [cause.recipient_id for _target, cause in rows],
                [cause.expires_at for _target, cause in rows],
            ],
        )
        return len(cursor.fetchall())


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


def rows_of(
    tenant: Tenant | None, *, query: str = "", scope: str = "", reason: str = "", removed: bool = False
) -> Iterator[Suppression]:
    """A tenant's suppressions with those of its streams (None: the operator's), newest first, however many.

    ``query`` is an address, of which the exact one, its domain and patterns come, or a part of what is sought.
    """
    rows = (
        Suppression.objects.filter(scope=SuppressionScope.OPERATOR)
        if tenant is None
        else Suppression.objects.of(tenant)
    ).select_related("stream", "tenant")
    rows = rows.filter(removed_at__isnull=not removed)
    if not removed:
        rows = rows.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))
    if scope:
        rows = rows.filter(scope=scope)
    if reason:
        rows = rows.filter(reason=reason)
    if query:
        rows = rows.filter(value__contains=key_of(query.strip()))
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


def export_csv(tenant: Tenant | None, **filters: Any) -> Iterator[str]:
    """Lines of CSV with a header; a spreadsheet takes no cell for a formula."""
    yield _csv_line(COLUMNS)
    for row in rows_of(tenant, **filters):
        yield _csv_line(
            (
                row.value,
                row.kind,
                row.scope,
                row.stream.name if row.stream else "",
                row.reason,
                row.reply_class,
                row.created_at.astimezone(UTC).isoformat(timespec="seconds"),
                row.expires_at.astimezone(UTC).isoformat(timespec="seconds") if row.expires_at else "",
                str(row.hits),
                row.detail,
            )
        )


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell for cell in cells])
    return line.getvalue()


def _cell(text: str | None) -> str:
    """A cell as it was meant: without the mark that keeps spreadsheets from calculating."""
    text = (text or "").strip()
    is_marked = text.startswith("'") and text[1:].startswith((*_FORMULA, "'"))
    return text[1:] if is_marked else text


@dataclass(slots=True)
class Imported:
    """``errors`` are line numbers with a sentence each, the first ``MOST_ERRORS_TOLD`` of them."""

    read: int = 0
    changed: int = 0
    refused: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, sentence: str) -> None:
        self.refused += 1
        if len(self.errors) < MOST_ERRORS_TOLD:
            self.errors.append((line, sentence))


def import_csv(
    owner: Owner, lines: Iterable[str], *, actor: Actor, progress: Callable[[Imported], None] = lambda _so_far: None
) -> Imported:
    """Take up a list: one address, domain or pattern a line, or columns with a header as ``export_csv`` writes.

    Of the columns ``address`` (or ``email``), ``expires_at`` and ``detail`` are read. Raises Refused beyond 100,000 lines;
    what was written before stays.
    """
    done = Imported()
    batch: dict[Target, Cause] = {}
    for number, target_text, expires, detail in _read_csv(lines):
        if done.read >= MOST_IMPORTED:
            _write_batch(owner, batch, done, actor)
            _record_import(owner, done, actor)
            raise Refused(
                _("A list has at most %(count)d lines; the rest was not read.") % {"count": MOST_IMPORTED},
                reason="list_too_long",
            )
        done.read += 1
        try:
            target = read_target(target_text)
            if target.kind == SuppressionKind.PATTERN:
                _ensure_room_for_pattern(owner, target)
            until = _moment(expires)
        except Refused as refusal:
            done.refuse(number, refusal.sentence)
            continue
        batch[target] = Cause(SuppressionReason.IMPORT, detail=detail, expires_at=until)
        if len(batch) >= _BATCH or target.kind == SuppressionKind.PATTERN:
            _write_batch(owner, batch, done, actor)
            progress(done)
    _write_batch(owner, batch, done, actor)
    _record_import(owner, done, actor)
    progress(done)
    return done


def _write_batch(owner: Owner, batch: dict[Target, Cause], done: Imported, actor: Actor) -> None:
    if batch:
        done.changed += _put(owner, batch.items(), by=actor.name)
        batch.clear()


def _read_csv(lines: Iterable[str]) -> Iterator[tuple[int, str, str, str]]:
    reader = csv.reader(line.removeprefix("\ufeff").replace("\0", "") for line in lines)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            lowered = [cell.strip().lower() for cell in cells]
            if names is None:
                is_header = any(name in lowered for name in ("address", "email", "value"))
                names = lowered if is_header else ["address"]
                if is_header:
                    continue
            row = dict(zip(names, cells, strict=False))
            target = next((row[name] for name in ("address", "email", "value") if row.get(name)), "")
            yield reader.line_num, _cell(target), _cell(row.get("expires_at")), _cell(row.get("detail"))
    except csv.Error as error:
        raise Refused(
            _("Line %(line)d is no CSV: %(error)s.") % {"line": reader.line_num, "error": error}, reason="no_csv"
        ) from None


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


def _record_import(owner: Owner, done: Imported, actor: Actor) -> None:
    audit.record(
        actor,
        "suppression.import",
        tenant=owner.tenant,
        object_id=owner.id,
        object_name=str(owner.stream or owner.tenant or "operator"),
        after={"read": done.read, "changed": done.changed, "refused": done.refused},
    )
