"""Whom nobody's mail must go to: the operator's own suppressions, which hold for every tenant."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import suppression_search, suppressions
from delivery.models import Suppression, SuppressionReason
from delivery.suppressions import Cause, Owner
from relayweb.console import suppression_words
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of
from relayweb.console.suppressions import ENDS, MOST_CHARACTERS, MOST_COUNTED, WHICH, Query, line_of

SECTION = "operator-suppressions"


class AddForm(ConsoleForm):
    address = forms.CharField(
        label=_("Address, domain or pattern"),
        max_length=MOST_CHARACTERS,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("bob@example.com, example.com for everybody there, or *@*.example.com with * for anything."),
    )
    ends = forms.ChoiceField(label=_("Ends"), required=False, choices=list(ENDS.items()))
    note = forms.CharField(
        label=pgettext_lazy("remark", "Note"),
        required=False,
        max_length=500,
        help_text=_("For other operators: who asked, and where. Tenants do not see it."),
    )


class RemoveForm(ConsoleForm):
    reason = forms.CharField(label=_("Reason"), required=False, max_length=500)


@operator_page
@require_safe
def suppression_list(request: HttpRequest) -> HttpResponse:
    query = Query.read(request.GET)
    page = suppression_search.page_of(
        None, query.wanted, before=key_of(request, "before"), after=key_of(request, "after")
    )
    is_first = "before" not in request.GET and "after" not in request.GET
    exact = suppression_search.exact_matches(None, query.wanted.query) if query.wanted.query and is_first else []
    known = {row.pk for row in exact}
    total = suppression_search.count_up_to(None, query.wanted, most=MOST_COUNTED)
    context = {
        "section": SECTION,
        "query": query,
        "page": page,
        "lines": [line_of(row) for row in (*exact, *(row for row in page.rows if row.pk not in known))],
        "total": min(total, MOST_COUNTED),
        "is_more": total > MOST_COUNTED,
        "is_unused": not total and not query.is_narrowed,
        "which": WHICH,
        "reasons": suppression_words.SUPPRESSION_REASONS,
        "restorable_from": timezone.now() - suppressions.RESTORABLE,
    }
    return render(request, "console/admin/suppressions.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    form = AddForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        until = timezone.now() + timedelta(days=int(given["ends"])) if given["ends"] else None
        try:
            row, changed = suppressions.add(
                Owner(),
                suppressions.read_target(given["address"]),
                Cause(SuppressionReason.MANUAL, detail=given["note"], expires_at=until),
                actor=actor_of(request),
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            said = (
                gettext("Nobody's mail goes to “{address}” from now on.")
                if changed
                else gettext("“{address}” was on the list already, for as long or longer.")
            )
            tell(request, said.format(address=row.value))
            return redirect("operator-suppressions")
    question = Question(
        section=SECTION,
        title=_("Whom should nobody's mail go to?"),
        button=_("Put it on the list"),
        up=reverse("operator-suppressions"),
        above=_("Suppressions"),
        here=_("Put on the suppression list"),
        effects=(
            _("It holds for every tenant, at once, and before every attempt."),
            _("Tenants see that the operator keeps mail back, and cannot lift it."),
        ),
    )
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, suppression_id: UUID) -> HttpResponse:
    row = _found(suppression_id)
    form = RemoveForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            suppressions.remove(row, actor=actor_of(request), reason=form.cleaned_data["reason"])
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(
                request,
                gettext("Sending to “{address}” is allowed again, from the next mail on.").format(address=row.value),
            )
            return redirect("operator-suppressions")
    question = Question(
        section=SECTION,
        title=gettext("Allow mail to “{address}” again?").format(address=row.value),
        button=_("Allow mail again"),
        up=reverse("operator-suppressions"),
        above=_("Suppressions"),
        here=_("Allow mail again"),
        effects=(
            _(
                "The next mail on is sent there, unless a tenant keeps it back itself. What was kept back stays kept back."
            ),
            _("You can take this back for 30 days."),
        ),
        is_dangerous=True,
    )
    return ask(request, question, form)


@operator_page
@require_POST
def restore(request: HttpRequest, suppression_id: UUID) -> HttpResponse:
    row = _found(suppression_id)
    try:
        suppressions.restore(row, actor=actor_of(request))
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("Mail to “{address}” is kept back again.").format(address=row.value))
    return redirect("operator-suppressions")


def _found(key: UUID) -> Suppression:
    try:
        return suppression_search.find_by_id(None, key)
    except NotFound:
        raise Http404 from None
