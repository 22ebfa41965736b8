"""What was refused before acceptance: nothing of such mail is stored, so this page is all a customer can see of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from delivery import history
from delivery.models import RejectionEntry
from relayweb.console import rejection_words, words
from relayweb.console.access import Seat, tenant_page

SHOWN_DAYS = 30
PERIODS: dict[int, str | Promise] = {1: _("24 hours"), 7: _("7 days"), SHOWN_DAYS: _("30 days")}


@dataclass(frozen=True, slots=True)
class Line:
    entry: RejectionEntry
    what: SafeString
    remedy: SafeString


@dataclass(frozen=True, slots=True)
class Query:
    """The filter as it stands in the address. What cannot be read is left out."""

    days: int = SHOWN_DAYS
    credential: UUID | None = None
    code: int | None = None

    @classmethod
    def read(cls, given: QueryDict) -> Query:
        days, code = given.get("days", ""), given.get("code", "")
        return cls(
            days=int(days) if days.isdecimal() and int(days) in PERIODS else SHOWN_DAYS,
            credential=_uuid(given.get("credential", "")),
            code=int(code) if code.isdecimal() and len(code) == 3 else None,
        )

    @property
    def encoded(self) -> str:
        pairs = [("credential", self.credential), ("code", self.code)]
        if self.days != SHOWN_DAYS:
            pairs.append(("days", self.days))
        return urlencode([(name, value) for name, value in pairs if value])

    @property
    def is_narrow(self) -> bool:
        return bool(self.encoded)


@require_safe
@tenant_page()
def rejections(request: HttpRequest, seat: Seat) -> HttpResponse:
    query = Query.read(request.GET)
    page = history.page_of_rejections(
        seat.tenant,
        since=timezone.now() - timedelta(days=query.days),
        credential=query.credential,
        codes=[query.code] if query.code else (),
        before=_uuid(request.GET.get("before", "")),
        after=_uuid(request.GET.get("after", "")),
    )
    context = {
        "section": "rejections",
        "page": page,
        "lines": [_line(entry) for entry in page.rows],
        "query": query,
        "periods": PERIODS,
        "credentials": history.choices_of(seat.tenant).credentials,
        "codes": history.reply_codes_of_rejections(seat.tenant),
    }
    return render(request, "console/rejections.html", context)


def _line(entry: RejectionEntry) -> Line:
    known = rejection_words.REJECTIONS.get(entry.reason)
    if known is None:
        return Line(entry, SafeString(""), SafeString(""))
    values = {"domain": entry.author_domain or "?", "reference": entry.reference}
    return Line(entry, words.fill(known.what, **values), words.fill(known.remedy, **values))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
