"""What was refused before acceptance: nothing of such mail is stored, so this page is all a customer can see of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from delivery import history
from delivery.models import RejectionEntry
from relayweb.console import words
from relayweb.console.access import Seat, tenant_page

SHOWN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Line:
    entry: RejectionEntry
    what: SafeString
    remedy: SafeString


@require_safe
@tenant_page()
def rejections(request: HttpRequest, seat: Seat) -> HttpResponse:
    page = history.page_of_rejections(
        seat.tenant,
        since=timezone.now() - SHOWN,
        before=_key(request, "before"),
        after=_key(request, "after"),
    )
    return render(
        request,
        "console/rejections.html",
        {"section": "rejections", "page": page, "lines": [_line(entry) for entry in page.rows]},
    )


def _line(entry: RejectionEntry) -> Line:
    known = words.REJECTIONS.get(entry.reason)
    if known is None:
        return Line(entry, SafeString(""), SafeString(""))
    values = {"domain": entry.author_domain or "?", "reference": entry.reference}
    return Line(entry, words.fill(known.what, **values), words.fill(known.remedy, **values))


def _key(request: HttpRequest, name: str) -> UUID | None:
    try:
        return UUID(request.GET.get(name, ""))
    except ValueError:
        return None
