"""The suppression list as people and programs change it: add, remove, restore.

Whatever is removed stays restorable for ``RESTORABLE``, and every change is in the audit log. What mail must not go to is
asked in ``delivery.suppression_list``; lists are read in ``delivery.suppression_search``, and go in and out as CSV in
``delivery.suppression_files``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain, parse_mailbox
from delivery.models import Stream, Suppression, SuppressionKind, SuppressionReason, SuppressionScope
from delivery.models.suppression import OPERATOR
from delivery.suppression_list import key_of

RESTORABLE = timedelta(days=30)
MOST_PATTERNS = 100
MOST_VALUES_TOLD = 100  # in the audit log; who removed a row stands in the row as well
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
        changed = put(owner, [(target, cause)], by=actor.name)
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
        changed = put(owner, rows.items(), by=actor.name) if rows else 0
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


def put(owner: Owner, rows: Iterable[tuple[Target, Cause]], *, by: str, import_id: UUID | None = None) -> int:
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


class RoomForPatterns:
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
