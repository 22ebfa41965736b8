"""Source addresses: where mail leaves from, in which state each is, and what operators do to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import operations, sources, standing
from delivery.models import ProviderDataKind, SourceAddress, SourcePool, SourceState
from delivery.models.source import DEFAULT_POOL
from delivery.operations import SourceFilter
from delivery.provider_data import imports
from delivery.source_checks import checks
from delivery.warmup import plans
from relayweb.console.access import operator_page
from relayweb.console.admin import provider_data
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import CHECK_STATES, SOURCE_STATES, Change, group_title, source_name
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of

SECTION = "sources"


def pool_choices() -> list[tuple[str, str]]:
    found = SourcePool.objects.order_by("name").select_related("tenant")
    return [(pool.name, f"{pool.name} ({pool.tenant.slug})" if pool.tenant else pool.name) for pool in found]


class AddForm(ConsoleForm):
    address = forms.CharField(
        label=_("Addresses"),
        max_length=120,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=_("One (192.0.2.10), a network (192.0.2.8/29) or a range (192.0.2.10-192.0.2.19), IPv4 or IPv6."),
    )
    ehlo = forms.CharField(
        label=_("EHLO name"),
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=_("By which it introduces itself; its reverse DNS should say the same. {ip} stands for the address."),
    )
    pool = forms.ChoiceField(label=_("Pool"), initial=DEFAULT_POOL)
    node = forms.CharField(
        label=_("Node"), required=False, max_length=63, help_text=_("The machine that has the addresses.")
    )
    note = forms.CharField(label=pgettext_lazy("remark", "Note"), required=False, max_length=500)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pool"].choices = pool_choices()  # type: ignore[attr-defined]


class EditForm(ConsoleForm):
    ehlo = forms.CharField(label=_("EHLO name"), max_length=255)
    pool = forms.ChoiceField(label=_("Pool"))
    weight = forms.IntegerField(
        label=_("Weight"),
        min_value=1,
        max_value=sources.HEAVIEST,
        help_text=_(
            "With half the weight of the heaviest address of its pool, it gets half of each receiver's limits."
        ),
    )
    note = forms.CharField(label=pgettext_lazy("remark", "Note"), required=False, max_length=500)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pool"].choices = pool_choices()  # type: ignore[attr-defined]


class ReasonForm(ConsoleForm):
    reason = forms.CharField(label=_("Reason"), required=False, max_length=500)


class RetireForm(ReasonForm):
    queue_to = forms.ChoiceField(label=_("What waits then leaves from"), required=False)

    def __init__(self, *args: Any, source: SourceAddress, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = [(name, label) for name, label in pool_choices() if name != source.pool.name]
        stay = gettext("nowhere: it waits for an address of its pool")
        self.fields["queue_to"].choices = [("", stay), *others]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- looking


@operator_page
@require_safe
def source_list(request: HttpRequest) -> HttpResponse:
    wanted = SourceFilter(
        query=_text(request, "q"),
        state=_text(request, "state"),
        pool=_text(request, "pool"),
        node=_text(request, "node"),
    )
    if wanted.state not in SourceState.values:
        wanted = SourceFilter(wanted.query, "", wanted.pool, wanted.node)
    found = operations.sources_page(wanted, before=key_of(request))
    asked = {"q": wanted.query, "state": wanted.state, "pool": wanted.pool, "node": wanted.node}
    context = {
        "section": SECTION,
        "found": found,
        "lines": [(line, SOURCE_STATES[line.source.state]) for line in found.lines],
        "troubled": SourceAddress.objects.filter(state=SourceState.UNUSABLE).count(),
        "wanted": wanted,
        "is_narrowed": any(asked.values()),
        "query": urlencode({name: value for name, value in asked.items() if value}),
        "states": SOURCE_STATES,
        "pools": pool_choices(),
        "nodes": operations.nodes(),
    }
    return render(request, "console/admin/sources/list.html", context)


@operator_page
@require_safe
def page(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    (line,) = operations.source_lines([source])
    check = checks.latest(source)
    standings = standing.of_source(source)
    context = {
        "section": SECTION,
        "source": source,
        "name": source_name(source),
        "looked_at": timezone.now(),
        "line": line,
        "mark": SOURCE_STATES[source.state],
        "pool_waiting": operations.waiting_by_pool([source.pool_id]).get(source.pool_id, operations.Waiting()),
        "paths": [(group_title(path.group), path) for path in operations.paths_of(source)],
        "standings": [(group_title(one.group), one) for one in standings],
        "check": check,
        "check_mark": CHECK_STATES[check.state] if check else None,
        "is_warming": any(one.is_warming for one in standings) or plans.is_planned(source),
        "provider": provider_data.KINDS[ProviderDataKind.MICROSOFT],
        "heads": provider_data.SNDS_HEADS,
        "own_heads": provider_data.SNDS_OWN,
        "days": provider_data.snds_lines(imports.of_source(source)),
        "changes": [Change(entry) for entry in operations.changes_of(source.pk, noun="source")],
    }
    return render(request, "console/admin/sources/page.html", context)


# ---------------------------------------------------------------- changing


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    initial = {"node": settings.NODE, "ehlo": settings.HOSTNAME, "pool": request.GET.get("pool", DEFAULT_POOL)}
    form = AddForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            added = sources.add_sources(
                given["address"],
                ehlo_name=given["ehlo"],
                pool=given["pool"],
                node=given["node"],
                note=given["note"],
                actor=actor_of(request),
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            said = ngettext("{n} address is in use from now on.", "{n} addresses are in use from now on.", len(added))
            tell(request, said.format(n=len(added)))
            return (
                redirect("operator-source", source_id=added[0].pk) if len(added) == 1 else redirect("operator-sources")
            )
    question = Question(
        section=SECTION,
        title=gettext("Add source addresses"),
        button=gettext("Add"),
        up=reverse("operator-sources"),
        above=gettext("Sources"),
        here=gettext("Add source addresses"),
        answer=gettext("Mail leaves from them within seconds. A retired address comes back with its history."),
    )
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    form = EditForm(
        request.POST or None,
        initial={
            "ehlo": source.ehlo_name,
            "pool": source.pool.name,
            "weight": source.weight,
            "note": source.note,
        },
    )
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            sources.update_source(
                source,
                ehlo_name=given["ehlo"],
                pool=given["pool"],
                weight=given["weight"],
                note=given["note"],
                actor=actor_of(request),
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Saved. It counts within seconds."))
            return redirect("operator-source", source_id=source.pk)
    effects = [gettext("Moved to another pool, it sends that pool's mail; what waits in the old pool stays there.")]
    if source.state == SourceState.ACTIVE and operations.is_last_usable(source):
        effects.append(
            gettext(
                "It is the last usable address of its pool: moved away, that pool's mail waits or leaves from its stand-by."
            )
        )
    return ask(request, _question(source, gettext("Change or move"), gettext("Save"), effects), form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def pause(request: HttpRequest, source_id: UUID) -> HttpResponse:
    """What is under way ends, nothing new begins, the rest leaves from the others, greylisted mail too."""
    source = _found(source_id)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sources.pause_source(source, reason=form.cleaned_data["reason"], actor=actor_of(request))
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("“{name}” is paused.").format(name=source_name(source)))
        return redirect("operator-source", source_id=source.pk)
    effects = [gettext("What is being sent ends; no new attempt begins from it."), _fate_of_queue(source)]
    effects.append(gettext("You can take it back into use at any time."))
    return ask(request, _question(source, gettext("Pause"), gettext("Pause"), effects), form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def drain(request: HttpRequest, source_id: UUID) -> HttpResponse:
    """New mail leaves from the others; what is under way and what is greylisted at receivers is finished from here."""
    source = _found(source_id)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sources.drain_source(source, reason=form.cleaned_data["reason"], actor=actor_of(request))
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("“{name}” is being drained.").format(name=source_name(source)))
        return redirect("operator-source", source_id=source.pk)
    effects = [
        gettext("What is being sent ends, and greylisted mail comes back from it; nothing else begins from it."),
        _fate_of_queue(source),
        gettext(
            "Its page says when nothing is left. Pause or retire it then; you can take it back into use at any time."
        ),
    ]
    return ask(request, _question(source, gettext("Drain"), gettext("Drain"), effects), form)


@operator_page
@require_POST
def resume(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    try:
        sources.resume_source(source, actor=actor_of(request))
        tell(request, gettext("“{name}” is in use again.").format(name=source_name(source)))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-source", source_id=source.pk)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def retire(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    is_last = source.state == SourceState.ACTIVE and operations.is_last_usable(source) and source.pool.standby is None
    form = RetireForm(request.POST or None, source=source)
    if not is_last:
        del form.fields["queue_to"]
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            sources.retire_source(
                source, reason=given["reason"], queue_to=given.get("queue_to", ""), actor=actor_of(request)
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("“{name}” is retired.").format(name=source_name(source)))
            return redirect("operator-source", source_id=source.pk)
    effects = [gettext("What is being sent ends; no new attempt begins from it."), _fate_of_queue(source)]
    effects.append(gettext("Its history stays. Added again, it comes back."))
    return ask(request, _question(source, gettext("Retire"), gettext("Retire"), effects, is_dangerous=True), form)


def _fate_of_queue(source: SourceAddress) -> str:
    waiting = operations.waiting_by_pool([source.pool_id]).get(source.pool_id, operations.Waiting())
    said = ngettext(
        "{n} recipient waits in the pool “{pool}”.", "{n} recipients wait in the pool “{pool}”.", waiting.open
    ).format(n=f"{waiting.open:,}", pool=source.pool.name)
    if not operations.is_last_usable(source):
        then = gettext("They leave from its other addresses.")
    elif source.pool.standby is not None:
        then = gettext("They leave from the stand-by pool “{pool}”.").format(pool=source.pool.standby.name)
    else:
        then = gettext("It has no other usable address and no stand-by.")
    return f"{said} {then}"


def _question(
    source: SourceAddress, title: str, button: str, effects: list[str], *, is_dangerous: bool = False
) -> Question:
    return Question(
        section=SECTION,
        title=gettext("{what}: {name}").format(what=title, name=source_name(source)),
        button=button,
        up=reverse("operator-source", kwargs={"source_id": source.pk}),
        above=source_name(source),
        here=title,
        effects=effects,
        is_dangerous=is_dangerous,
    )


def _found(source_id: UUID) -> SourceAddress:
    try:
        source = sources.find_source(source_id)
    except NotFound:
        raise Http404 from None
    return source


def _text(request: HttpRequest, name: str) -> str:
    return request.GET.get(name, "").replace("\0", "").strip()[:255]
