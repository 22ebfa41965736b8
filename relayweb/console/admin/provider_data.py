"""Figures of providers as files: taken up, with every bad row told, and taken back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery.models import ProviderDataKind, ProviderImport
from delivery.provider_data import imports
from delivery.provider_data.imports import Beside
from relayweb.console import moments
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import actor_of
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of
from relayweb.console.words import Text

SECTION = "provider-data"
BAD_ROWS_SHOWN = 100
KINDS: dict[str, Text] = {
    ProviderDataKind.GOOGLE: _("Google Postmaster Tools"),
    ProviderDataKind.MICROSOFT: _("Microsoft SNDS"),
}
_REPUTATIONS: dict[str, Text] = {"high": _("High"), "medium": _("Medium"), "low": _("Low"), "bad": _("Bad")}
_FILTER_RESULTS: dict[str, Text] = {"green": _("Green"), "yellow": _("Yellow"), "red": _("Red")}


class FileForm(ConsoleForm):
    file = forms.FileField(label=_("File"), help_text=_("As the provider exports it, up to 16 MB."))


@dataclass(frozen=True, slots=True)
class Line:
    """A day in words: what the provider told, then what we counted."""

    day: str
    period: str
    told: Sequence[str]
    own: Sequence[str]
    is_bad: bool


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    form = FileForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            made = imports.take_up(file.read(), file_name=file.name or "", actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            return redirect("operator-provider-import", import_id=made.pk)
    rows, older = imports.page(before=key_of(request))
    context = {
        "section": SECTION,
        "form": form,
        "lines": [(row, KINDS[row.kind], len(row.bad_rows)) for row in rows],
        "older": older,
    }
    return render(request, "console/admin/provider_data/list.html", context)


@operator_page
@require_safe
def import_page(request: HttpRequest, import_id: UUID) -> HttpResponse:
    made = _found(import_id)
    context = {
        "section": SECTION,
        "made": made,
        "kind": KINDS[made.kind],
        "bad": made.bad_rows[:BAD_ROWS_SHOWN],
        "bad_number": len(made.bad_rows),
    }
    return render(request, "console/admin/provider_data/page.html", context)


@operator_page
@require_safe
def bad_rows(request: HttpRequest, import_id: UUID) -> HttpResponse:
    """All of them, as they stood in the file."""
    made, text = _found(import_id), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("line", "why", "row"))
    writer.writerows((one["line"], one["why"], f"'{one['text']}") for one in made.bad_rows)
    return HttpResponse(
        "\ufeff" + text.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="bad-rows-{made.pk.hex[:8]}.csv"'},
    )


@operator_page
@require_POST
def undo(request: HttpRequest, import_id: UUID) -> HttpResponse:
    made = _found(import_id)
    try:
        imports.take_back(made, actor=actor_of(request))
        tell(request, gettext("The import is taken back; what earlier files told counts again."))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-provider-import", import_id=made.pk)


# ---------------------------------------------------------------- beside our own figures

GOOGLE_HEADS: tuple[Text, ...] = (_("Spam rate"), _("Reputation"), _("SPF"), _("DKIM"), _("DMARC"), _("TLS"))
GOOGLE_OWN: tuple[Text, ...] = (
    _("Complaint rate (ours)"),
    _("Accepted (ours)"),
    _("Accepted by Gmail, whole tenant (ours)"),
)
SNDS_HEADS: tuple[Text, ...] = (_("Filter result"), _("Complaint rate"), _("Trap hits"), _("Recipients"))
SNDS_OWN: tuple[Text, ...] = (_("Attempts (ours)"), _("Accepted (ours)"))


def google_lines(found: Sequence[Beside]) -> list[Line]:
    return [_google(one) for one in found]


def _google(one: Beside) -> Line:
    figures = one.figures
    reputation = figures.get("domain_reputation", "")
    shares = (_share(figures, f"{name}_ratio") for name in ("spf_success", "dkim_success", "dmarc_success"))
    told = [
        _share(figures, "user_reported_spam_ratio"),
        str(_REPUTATIONS.get(reputation, "–")),
        *shares,
        _share(figures, "inbound_encryption_ratio"),
    ]
    rate = one.own.complaint_rate
    own = [
        "–" if rate is None else f"{moments.percent(rate)} %",
        f"{one.own.accepted:,}",
        f"{one.at_provider.accepted:,}",
    ]
    is_bad = reputation in {"low", "bad"} or figures.get("user_reported_spam_ratio", 0) >= 0.003
    return Line(one.day.isoformat(), one.period, told, own, is_bad)


def snds_lines(found: Sequence[Beside]) -> list[Line]:
    return [_snds(one) for one in found]


def _snds(one: Beside) -> Line:
    figures = one.figures
    told = [
        str(_FILTER_RESULTS[figures["filter_result"]]),
        figures["complaint_rate"] or "–",
        f"{figures['trap_hits']:,}",
        f"{figures['recipients']:,}",
    ]
    own = [f"{one.own.total:,}", f"{one.own.accepted:,}"]
    return Line(
        one.day.isoformat(), one.period, told, own, figures["filter_result"] != "green" or figures["trap_hits"] > 0
    )


def _share(figures: Mapping[str, float], name: str) -> str:
    return f"{moments.percent(figures[name])} %" if name in figures else "–"


def _found(import_id: UUID) -> ProviderImport:
    try:
        return imports.find(import_id)
    except NotFound:
        raise Http404 from None
