"""Pools of source addresses: what each is for, who leaves from it, and which other one stands by for it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import tenants
from accounts.models import Credential
from accounts.refusals import NotFound, Refused
from delivery import operations, pools
from delivery.models import SourceAddress, SourcePool, SourceState, Stream
from delivery.models.source import DEFAULT_POOL
from delivery.tenants import find_stream
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import POOL_KINDS, SOURCE_STATES
from relayweb.console.admin.sources import pool_choices
from relayweb.console.forms import ConsoleForm, tell, tell_refusal

SECTION = "pools"
MOST_SHOWN = 100


class AddForm(ConsoleForm):
    name = forms.CharField(label=_("Name"), max_length=48, help_text=_("Letters a to z, digits and hyphens."))
    kind = forms.ChoiceField(label=_("Kind"), choices=list(POOL_KINDS.items()))
    tenant = forms.CharField(
        label=_("Tenant"),
        required=False,
        max_length=48,
        help_text=_("Short name of the tenant that a dedicated pool belongs to; else empty."),
    )
    note = forms.CharField(label=pgettext_lazy("remark", "Note"), required=False, max_length=500)


class StandbyForm(ConsoleForm):
    standby = forms.ChoiceField(label=_("Stand-by pool"), required=False)

    def __init__(self, *args: Any, pool: SourcePool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = [(name, label) for name, label in pool_choices() if name != pool.name]
        self.fields["standby"].choices = [("", gettext("none: its mail waits")), *others]  # type: ignore[attr-defined]


class AssignForm(ConsoleForm):
    tenant = forms.CharField(label=_("Tenant"), max_length=48, help_text=_("Its short name."))
    stream = forms.CharField(
        label=_("Stream"), required=False, max_length=60, help_text=_("Empty: all streams of the tenant.")
    )


@operator_page
@require_safe
def pool_list(request: HttpRequest) -> HttpResponse:
    lines, after = operations.pools_page(after=request.GET.get("after", "").replace("\0", "")[:48])
    context = {
        "section": SECTION,
        "lines": [(line, POOL_KINDS[line.pool.kind]) for line in lines],
        "stuck": [line for line in lines if line.waiting.open and not line.usable and line.pool.standby_id is None],
        "after": after,
    }
    return render(request, "console/admin/pools/list.html", context)


@operator_page
@require_safe
def page(request: HttpRequest, name: str) -> HttpResponse:
    pool = _found(name)
    return _page(request, pool, StandbyForm(initial={"standby": _standby_of(pool)}, pool=pool), AssignForm())


def _page(request: HttpRequest, pool: SourcePool, standby: StandbyForm, assign: AssignForm) -> HttpResponse:
    (line,) = operations.pool_lines([pool])
    addresses = SourceAddress.objects.filter(pool=pool).exclude(state=SourceState.RETIRED).select_related("node")
    found = Stream.objects.filter(pool=pool).select_related("tenant").order_by("tenant__slug", "name")
    streams = list(found[:MOST_SHOWN])
    credentials = list(
        Credential.objects.filter(pool_id=pool.pk, revoked_at=None)
        .select_related("tenant")
        .order_by("tenant__slug", "-id")[:MOST_SHOWN]
    )
    context = {
        "section": SECTION,
        "pool": pool,
        "kind": POOL_KINDS[pool.kind],
        "line": line,
        "addresses": [(one, SOURCE_STATES[one.state]) for one in addresses.order_by("address")[:MOST_SHOWN]],
        "streams": streams,
        "credentials": credentials,
        # What is assigned to it waits as soon as it comes, where it has no address: said before the first mail does.
        "is_used": bool(line.waiting.open or streams or credentials),
        "most": MOST_SHOWN,
        "standby": standby,
        "assign": assign,
        "failed": next((form for form in (standby, assign) if form.is_bound and form.errors), None),
        "is_default": pool.name == DEFAULT_POOL,
        "served_by_this": list(SourcePool.objects.filter(standby=pool).order_by("name")[:MOST_SHOWN]),
    }
    return render(request, "console/admin/pools/page.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    form = AddForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            tenant = tenants.find_tenant(given["tenant"]) if given["tenant"] else None
            pool = pools.add_pool(
                given["name"], kind=given["kind"], tenant=tenant, note=given["note"], actor=actor_of(request)
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The pool “{name}” is there. Give it addresses.").format(name=pool.name))
            return redirect("operator-pool", name=pool.name)
    question = Question(
        section=SECTION,
        title=gettext("Add a pool"),
        button=gettext("Add"),
        up=reverse("operator-pools"),
        above=gettext("Pools"),
        here=gettext("Add a pool"),
        answer=gettext("Nothing leaves from it before it has addresses and streams."),
    )
    return ask(request, question, form)


@operator_page
@require_POST
def standby(request: HttpRequest, name: str) -> HttpResponse:
    pool = _found(name)
    form = StandbyForm(request.POST, pool=pool)
    if form.is_valid():
        chosen = form.cleaned_data["standby"]
        try:
            pools.set_standby(pool, pools.find_pool(chosen) if chosen else None, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Saved. It counts within seconds."))
            return redirect("operator-pool", name=pool.name)
    return _page(request, pool, form, AssignForm())


@operator_page
@require_POST
def assign(request: HttpRequest, name: str) -> HttpResponse:
    """A stream, or all streams of a tenant, leave from this pool from now on."""
    pool = _found(name)
    form = AssignForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        try:
            tenant = tenants.find_tenant(given["tenant"])
            chosen = [find_stream(tenant, given["stream"])] if given["stream"] else Stream.objects.of(tenant)
            changed = pools.assign_streams(list(chosen), pool, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            said = gettext("New mail of “{tenant}” ({streams}) leaves from “{pool}” from now on.")
            names = ", ".join(stream.name for stream in changed)
            tell(request, said.format(tenant=tenant.slug, streams=names, pool=pool.name))
            return redirect("operator-pool", name=pool.name)
    return _page(request, pool, StandbyForm(initial={"standby": _standby_of(pool)}, pool=pool), form)


@operator_page
@require_POST
def unassign(request: HttpRequest, name: str) -> HttpResponse:
    """The stream leaves from the default pool again."""
    pool = _found(name)
    wanted = request.POST.get("stream", "")
    stream = next(
        (one for one in Stream.objects.filter(pool=pool).select_related("tenant") if str(one.pk) == wanted), None
    )
    if stream is None:
        raise Http404
    pools.assign_pool(stream, None, actor=actor_of(request))
    said = gettext("New mail of “{tenant}” ({streams}) leaves from the default pool again.")
    tell(request, said.format(tenant=stream.tenant.slug, streams=stream.name))
    return redirect("operator-pool", name=pool.name)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, name: str) -> HttpResponse:
    pool = _found(name)
    if request.method == "POST":
        try:
            pools.remove_pool(pool, actor=actor_of(request))
        except Refused as refusal:
            tell_refusal(request, refusal)
            return redirect("operator-pool", name=pool.name)
        tell(request, gettext("The pool “{name}” is removed.").format(name=pool.name))
        return redirect("operator-pools")
    question = Question(
        section=SECTION,
        title=gettext("Remove the pool “{name}”?").format(name=pool.name),
        button=gettext("Remove"),
        up=reverse("operator-pool", kwargs={"name": pool.name}),
        above=pool.name,
        here=gettext("Remove"),
        effects=[
            gettext(
                "Only a pool that nothing was ever sent through, and that has neither addresses nor streams, can be removed."
            ),
            gettext("You can add it again at any time."),
        ],
        is_dangerous=True,
    )
    return ask(request, question)


def _standby_of(pool: SourcePool) -> str:
    return pool.standby.name if pool.standby else ""


def _found(name: str) -> SourcePool:
    try:
        return pools.find_pool(name)
    except NotFound:
        raise Http404 from None
