"""Tells a tenant's people what they must know, once per episode.

Whoever notices something calls ``raise_notice`` as often as it likes: while the episode is open nothing more happens.
``close_notice`` ends it, so that the next one is told again. Letters follow from a task; the console reads the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Membership, Notice, NoticeChoice, NoticeKind, Role, Tenant, User

# What is said once and needs nobody to end it.
PASSING = frozenset({NoticeKind.LEVEL_UP, NoticeKind.APPROVED, NoticeKind.BRAKE_RELEASED, NoticeKind.APPEAL_REFUSED})
KEPT = timedelta(days=90)


def raise_notice(
    tenant: Tenant, kind: NoticeKind, *, subject: str = "", data: Mapping[str, Any] | None = None
) -> Notice | None:
    """The new notice; None while the episode is open already."""
    now = timezone.now()
    notice = Notice(
        tenant=tenant,
        kind=kind,
        subject=subject[:120],
        data=dict(data or {}),
        opened_at=now,
        closed_at=now if kind in PASSING else None,
    )
    # One statement: two processes that notice the same thing do not both tell it.
    Notice.objects.bulk_create([notice], ignore_conflicts=True)
    return Notice.objects.filter(pk=notice.pk).first()


def close_notice(tenant: Tenant, kind: NoticeKind, *, subject: str | None = None, but: tuple[str, ...] = ()) -> int:
    """The episode is over; without a ``subject`` every one of the kind, except those about ``but``."""
    found = Notice.objects.of(tenant).filter(kind=kind, closed_at=None).exclude(subject__in=but)
    if subject is not None:
        found = found.filter(subject=subject)
    return found.update(closed_at=timezone.now())


def open_notices(tenant: Tenant) -> list[Notice]:
    return list(Notice.objects.of(tenant).filter(closed_at=None).order_by("-id")[:100])


def past_notices(tenant: Tenant, *, size: int = 50) -> list[Notice]:
    """The newest of those that are over."""
    return list(Notice.objects.of(tenant).exclude(closed_at=None).order_by("-id")[:size])


def to_be_mailed(*, size: int = 100) -> list[Notice]:
    """The longest waiting first; what nobody could be told within a day is no news any more."""
    since = timezone.now() - timedelta(days=1)
    found = Notice.objects.select_related("tenant").filter(mailed_at=None, opened_at__gte=since)
    return list(found.order_by("opened_at")[:size])


def lock_unmailed(notice: Notice) -> bool:
    """Within a transaction; False when another process is at it or was first."""
    return Notice.objects.select_for_update(skip_locked=True).filter(pk=notice.pk, mailed_at=None).exists()


def mark_mailed(notice: Notice) -> None:
    Notice.objects.filter(pk=notice.pk).update(mailed_at=timezone.now())


def readers_of(notice: Notice) -> list[User]:
    """Who gets a letter: those who chose to, and by default those whom ``is_default`` names."""
    chosen = dict(
        NoticeChoice.objects.filter(tenant=notice.tenant_id, kind=notice.kind).values_list("user_id", "by_mail")
    )
    members = Membership.objects.of(notice.tenant).select_related("user").filter(user__is_active=True)
    return [
        one.user
        for one in members
        if chosen.get(one.user_id, is_default(Role(one.role), NoticeKind(notice.kind)))
        and one.user.email_confirmed_at is not None
    ]


def is_default(role: Role, kind: NoticeKind) -> bool:
    """Whoever has chosen nothing: owners and admins of everything, developers of what they have to mend."""
    return role.includes(Role.DEVELOPER if kind == NoticeKind.WEBHOOK_OFF else Role.ADMIN)


def choices_of(membership: Membership) -> dict[NoticeKind, bool]:
    chosen = dict(
        NoticeChoice.objects.filter(tenant=membership.tenant_id, user=membership.user_id).values_list("kind", "by_mail")
    )
    role = Role(membership.role)
    return {kind: chosen.get(kind.value, is_default(role, kind)) for kind in NoticeKind}


def choose(membership: Membership, wanted: frozenset[NoticeKind]) -> None:
    """By mail exactly these kinds; the console shows all of them."""
    for kind in NoticeKind:
        NoticeChoice.objects.update_or_create(
            user=membership.user, tenant=membership.tenant, kind=kind, defaults={"by_mail": kind in wanted}
        )


def forget_old(*, now: datetime | None = None) -> int:
    return Notice.objects.filter(closed_at__lt=(now or timezone.now()) - KEPT).delete()[0]
