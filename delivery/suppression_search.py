"""Suppressions found: one, a page, all of a list, or what keeps mail from an address.

Lists are read by keyset in short transactions, however long they are. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.models import Suppression, SuppressionKind, SuppressionScope
from delivery.models.suppression import OPERATOR
from delivery.suppression_list import key_of
from delivery.suppressions import MOST_PATTERNS, Owner, read_target

PAGE = 2_000


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


def lists_of(tenant: Tenant | None) -> QuerySet[Suppression]:
    rows = (
        Suppression.objects.filter(scope=SuppressionScope.OPERATOR)
        if tenant is None
        else Suppression.objects.of(tenant)
    )
    return rows.select_related("stream", "tenant")


def find_by_id(tenant: Tenant | None, key: UUID) -> Suppression:
    """Also one that is removed. Raises NotFound."""
    found = lists_of(tenant).filter(pk=key).first()
    if found is None:
        raise NotFound(_("There is no such suppression."), field="id")
    return found


def exact_matches(tenant: Tenant | None, text: str) -> list[Suppression]:
    """What keeps mail to this very address, domain or pattern back: itself first, then its domain, then patterns."""
    try:
        target = read_target(text)
    except Refused:
        return []
    active = ListFilter().narrowed(lists_of(tenant))
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
    rows = wanted.narrowed(lists_of(tenant))
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
    return wanted.narrowed(lists_of(tenant)).order_by()[: most + 1].count()


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
    rows = wanted.narrowed(lists_of(tenant))
    before: UUID | None = None
    while True:
        page = list((rows if before is None else rows.filter(id__lt=before)).order_by("-id")[:PAGE])
        yield from page
        if len(page) < PAGE:
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
