"""What operators, the command line and the service itself did, everywhere: a list with a filter, and the same as CSV.

Names of mail and of mailboxes are a tenant's own: they are left out here, also where an operator did something to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import audit
from accounts.models import AuditEntry, Tenant
from relayweb.console import deeds
from relayweb.console.access import operator_page
from relayweb.console.audit import PERIODS, Asked, as_csv, line_of, read
from relayweb.console.keysets import key_of

SECTION = "operator-audit"
NOUNS = {**deeds.OPERATORS_NOUNS, **deeds.NOUNS}
_OF_MAIL = frozenset({"message", "suppression", "log", "filter", "job"})
_HIDDEN = "***"


@operator_page
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    asked, slug, search = _asked(request)
    found = audit.page_of(None, search, before=key_of(request, "before"), after=key_of(request, "after"))
    context = {
        "section": SECTION,
        "page": found,
        "lines": [line_of(masked(entry)) for entry in found.rows],
        "asked": asked,
        "slug": slug,
        "query": asked.query + (f"&{urlencode({'tenant': slug})}" if slug else ""),
        "is_narrowed": asked.is_narrowed or bool(slug),
        "nouns": sorted(NOUNS.items(), key=lambda one: str(one[1])),
        "periods": PERIODS.items(),
    }
    return render(request, "console/admin/audit.html", context)


@operator_page
@require_safe
def export(request: HttpRequest) -> HttpResponseBase:
    """The same filter as CSV, however long: read and sent page by page."""
    _asked_for, _slug, search = _asked(request)
    response = StreamingHttpResponse(as_csv(_entries(search), with_tenant=True), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="audit-operators.csv"'
    return response


def _entries(search: audit.Search) -> Iterator[AuditEntry]:
    return map(masked, audit.entries(None, search))


def masked(entry: AuditEntry) -> AuditEntry:
    """Not saved: the entry as an operator reads it."""
    if entry.tenant_id is not None and entry.action.partition(".")[0] in _OF_MAIL:
        entry.object_name = _HIDDEN
        entry.before, entry.after = {}, {}
        entry.reason = _HIDDEN if entry.reason else ""
    return entry


def _asked(request: HttpRequest) -> tuple[Asked, str, audit.Search]:
    asked = read(request, NOUNS)
    slug = request.GET.get("tenant", "").replace("\0", "").strip()[:48]
    search = asked.search
    if slug:
        # A tenant that is not there has done nothing, and nothing was done to it.
        search = replace(search, tenant=Tenant.objects.filter(slug=slug).first() or Tenant())
    return asked, slug, search
