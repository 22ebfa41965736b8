"""Saved filters of the send log: one's own, and those shared with the tenant."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import history, saved_filters
from delivery.models import SavedFilter
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.messages import LogQuery, chips_of


class SaveForm(ConsoleForm):
    name = forms.CharField(label=_("Name"), max_length=80)
    is_shared = forms.BooleanField(
        label=_("For everybody in the tenant"), required=False, help_text=_("Otherwise only you see it.")
    )

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        if not seat.may_set_up:
            del self.fields["is_shared"]


@tenant_page()
@require_safe
def filter_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    choices = history.choices_of(seat.tenant)
    found = saved_filters.visible_to(seat.tenant, seat.person)
    rows = [
        (saved, chips_of(LogQuery.read(QueryDict(saved.query)), choices), _may_change(seat, saved)) for saved in found
    ]
    return render(request, "console/filters/list.html", {"section": "messages", "rows": rows})


@tenant_page()
@require_http_methods(["GET", "HEAD", "POST"])
def save(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The filter travels in the page's address, and is kept as it reads there."""
    query = LogQuery.read(request.GET)
    form = SaveForm(seat, request.POST or None)
    if request.method == "POST" and form.is_valid():
        owner = None if form.cleaned_data.get("is_shared") else seat.person
        try:
            saved_filters.save(
                seat.tenant, name=form.cleaned_data["name"], query=query.encoded, owner=owner, actor=seat.actor
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The filter is saved. It stands under “Saved” from now on."))
            return redirect(f"{reverse('messages', kwargs={'slug': seat.tenant.slug})}?{query.encoded}")
    context = {"section": "messages", "form": form, "query": query}
    context["chips"] = chips_of(query, history.choices_of(seat.tenant))
    return render(request, "console/filters/save.html", context)


@tenant_page()
@require_POST
def rename(request: HttpRequest, seat: Seat, filter_id: UUID) -> HttpResponse:
    saved = _changeable(seat, filter_id)
    try:
        saved_filters.rename(saved, request.POST.get("name", ""), actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("Renamed."))
    return redirect("filters", slug=seat.tenant.slug)


@tenant_page()
@require_POST
def remove(request: HttpRequest, seat: Seat, filter_id: UUID) -> HttpResponse:
    """Undone by saving it again: the notice leads to the log as it was narrowed."""
    saved = _changeable(seat, filter_id)
    saved_filters.remove(saved, actor=seat.actor)
    tell(request, gettext("“{name}” is removed.").format(name=saved.name))
    return redirect(f"{reverse('filters', kwargs={'slug': seat.tenant.slug})}?{_removed(saved)}")


def _removed(saved: SavedFilter) -> str:
    left = QueryDict(mutable=True)
    left["removed"] = saved.query
    left["name"] = saved.name
    return left.urlencode()


def _changeable(seat: Seat, filter_id: UUID) -> SavedFilter:
    try:
        saved = saved_filters.find(seat.tenant, seat.person, filter_id)
    except NotFound:
        raise Http404 from None
    if not _may_change(seat, saved):
        raise PermissionDenied
    return saved


def _may_change(seat: Seat, saved: SavedFilter) -> bool:
    return saved.person_id == seat.person.pk or seat.may_set_up
