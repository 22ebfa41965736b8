"""The audit log of a tenant: who changed what, when and from where. It is only ever added to."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts import audit
from accounts.models import AuditEntry
from relayweb.console import deeds, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.keysets import key_of

PERIODS: dict[str, words.Text] = {
    "7": _("7 days"),
    "30": _("30 days"),
    "365": _("A year"),
    "": _("Everything"),
}
_DEFAULT_PERIOD = "30"


@dataclass(frozen=True, slots=True)
class Line:
    entry: AuditEntry
    sentence: SafeString
    changes: list[tuple[words.Text, str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """The filter, as it stands in the address."""

    person: str
    noun: str
    thing: str
    period: str

    @property
    def search(self) -> audit.Search:
        since = timezone.now() - timedelta(days=int(self.period)) if self.period else None
        return audit.Search(person=self.person, noun=self.noun, thing=self.thing, since=since)

    @property
    def query(self) -> str:
        given = {"person": self.person, "noun": self.noun, "thing": self.thing}
        return urlencode({**{name: value for name, value in given.items() if value}, "period": self.period})

    @property
    def is_narrowed(self) -> bool:
        return bool(self.person or self.noun or self.thing)


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat) -> HttpResponse:
    asked = read(request)
    found = audit.page_of(seat.tenant, asked.search, before=key_of(request, "before"), after=key_of(request, "after"))
    context = {
        "section": "audit",
        "page": found,
        "lines": [line_of(entry) for entry in found.rows],
        "asked": asked,
        "nouns": deeds.NOUNS.items(),
        "periods": PERIODS.items(),
    }
    return render(request, "console/audit.html", context)


@tenant_page()
@require_safe
def export(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """The same filter as CSV, however long: read and sent page by page."""
    response = StreamingHttpResponse(
        as_csv(audit.entries(seat.tenant, read(request).search)), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="audit-{seat.tenant.slug}.csv"'
    return response


HEADINGS = ("time", "who", "on_behalf_of", "action", "object", "before", "after", "reason", "address")


def as_csv(entries: Iterable[AuditEntry], *, with_tenant: bool = False) -> Iterator[str]:
    writer = csv.writer(_Echo())
    # Spreadsheets take a file without the mark for one in their own character set.
    yield "\ufeff" + writer.writerow((*HEADINGS, "tenant") if with_tenant else HEADINGS)
    for entry in entries:
        yield writer.writerow(
            [
                entry.occurred_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                *map(
                    _harmless,
                    (
                        entry.actor_name,
                        entry.on_behalf_of,
                        entry.action,
                        entry.object_name,
                        _flat(entry.before),
                        _flat(entry.after),
                        entry.reason,
                        entry.peer_address or "",
                        *([entry.tenant.slug if entry.tenant else ""] if with_tenant else []),
                    ),
                ),
            ]
        )


class _Echo:
    """What the csv module writes is handed on instead of kept."""

    def write(self, text: str) -> str:
        return text


def _harmless(text: str) -> str:
    """A cell that a spreadsheet would run as a formula is marked as text."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _flat(values: dict[str, object]) -> str:
    return "; ".join(f"{name}={value}" for name, value in values.items())


def line_of(entry: AuditEntry) -> Line:
    sentence = deeds.DEEDS.get(entry.action)
    if sentence is None:
        # Written by a newer release than this one.
        sentence = gettext("{action}: {name}").replace("{action}", entry.action)
    return Line(entry, words.fill(sentence, name=entry.object_name or "–"), deeds.changes(entry.before, entry.after))


def read(request: HttpRequest, nouns: Mapping[str, words.Text] = deeds.NOUNS) -> Asked:
    period = request.GET.get("period", _DEFAULT_PERIOD)
    noun = request.GET.get("noun", "")
    return Asked(
        request.GET.get("person", "").replace("\0", "").strip()[:254],
        noun if noun in nouns else "",
        request.GET.get("thing", "").replace("\0", "").strip()[:254],
        period if period in PERIODS else _DEFAULT_PERIOD,
    )
