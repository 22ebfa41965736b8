"""What was refused at the door, as its tenant reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.history.rows import Page
from delivery.models import RejectionEntry
from delivery.time_limit import within_the_time_limit


def page_of_rejections(
    tenant: Tenant,
    *,
    since: datetime | None = None,
    credential: UUID | None = None,
    reasons: Sequence[str] = (),
    codes: Sequence[int] = (),
    before: UUID | None = None,
    after: UUID | None = None,
    size: int = 50,
) -> Page[RejectionEntry]:
    """The rejection log, newest first; repeats within a minute are one row with a count. Empty criteria narrow nothing."""
    matching = RejectionEntry.objects.of(tenant).select_related("credential")
    if credential is not None:
        matching = matching.filter(credential=credential)
    if reasons:
        matching = matching.filter(reason__in=reasons)
    if codes:
        matching = matching.filter(code__in=codes)
    if since is not None:
        matching = matching.filter(id__gte=first_of(since))
    with within_the_time_limit():
        if after is not None:
            found = list(matching.filter(id__gt=after).order_by("id")[: size + 1])
            more, found = len(found) > size, found[:size][::-1]
            return Page(tuple(found), found[0].id if more else None, found[-1].id if found else None)
        bounded = matching if before is None else matching.filter(id__lt=before)
        found = list(bounded.order_by("-id")[: size + 1])
        more, found = len(found) > size, found[:size]
        return Page(tuple(found), found[0].id if found and before is not None else None, found[-1].id if more else None)


def reply_codes_of_rejections(tenant: Tenant) -> list[int]:
    """Those that a filter can choose from: what this tenant's clients were told."""
    codes = RejectionEntry.objects.of(tenant).order_by("code").values_list("code", flat=True).distinct()
    return list(codes[:50])
