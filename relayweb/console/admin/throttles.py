"""Throttles: which address may knock at which provider, how fast, and why not faster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import sources, throttles
from delivery.models import Path, PathChange, ProviderGroup, SourceAddress
from delivery.shaping import changes as path_changes
from delivery.shaping import pace
from delivery.time_limit import TookTooLong
from delivery.transport.tls_policy import TlsMode
from relayweb.console import class_words, moments, words
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import SOURCE_STATES, Change, group_title, source_name
from relayweb.console.admin.sources import pool_choices
from relayweb.console.forms import ConsoleForm, tell
from relayweb.console.keysets import key_of

SECTION = "throttles"
LIMITS: dict[str, words.Text] = {
    "connections": _("Connections at once"),
    "messages_per_connection": _("Messages per connection"),
    "messages": _("Messages"),
    "new_connections": _("New connections"),
    "daily": _("Messages a day"),
    "tls": _("TLS"),
}
TLS_MODES: dict[str, words.Text] = {
    TlsMode.NONE: _("none"),
    TlsMode.OPPORTUNISTIC: _("where it is offered"),
    TlsMode.REQUIRED: _("required"),
    TlsMode.VERIFIED: _("required, with a certificate that verifies"),
}
_RATES = ("messages", "new_connections")


class LimitsForm(ConsoleForm):
    """Empty takes the default; its help says which that is."""

    connections = forms.IntegerField(min_value=1, max_value=10_000, required=False)
    messages_per_connection = forms.IntegerField(min_value=1, max_value=1_000_000, required=False)
    messages = forms.CharField(max_length=200, required=False)
    new_connections = forms.CharField(max_length=200, required=False)
    daily = forms.IntegerField(min_value=1, max_value=1_000_000_000, required=False)
    tls = forms.ChoiceField(required=False)

    def __init__(self, *args: Any, group: ProviderGroup, **kwargs: Any) -> None:
        in_force = throttles.limits_in_force(group)
        kwargs["initial"] = {one.name: written(one.name, one.value) for one in in_force if one.is_overridden}
        super().__init__(*args, **kwargs)
        self.fields["tls"].choices = [("", gettext("default")), *TLS_MODES.items()]  # type: ignore[attr-defined]
        for one in in_force:
            self.fields[one.name].label = str(LIMITS[one.name])
            default = shown(one.name, one.default)
            said = gettext("Empty: the default, {default}.")
            if one.name in _RATES:
                said = gettext(
                    "Rates such as 2/s or 100/10min, with commas between them. Empty: the default, {default}."
                )
            self.fields[one.name].help_text = words.fill(said, default=default)
        self.initial["tls"] = group.limits.get("tls", "")

    @property
    def changes(self) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        for name in _RATES:
            given[name] = [part.strip() for part in given[name].split(",") if part.strip()] or None
        return {name: value if value != "" else None for name, value in given.items()}


class SuspendForm(ConsoleForm):
    hours = forms.FloatField(label=_("For how many hours"), initial=1, min_value=0.02, max_value=720)
    reason = forms.CharField(label=_("Reason"), max_length=500)


def written(name: str, value: Any) -> Any:
    return ", ".join(value) if name in _RATES else value


def shown(name: str, value: Any) -> str:
    """A limit for reading."""
    if value in (None, []):
        return gettext("no limit")
    if name == "tls":
        return str(TLS_MODES.get(value, value))
    return ", ".join(value) if isinstance(value, list) else f"{value:,}"


# ---------------------------------------------------------------- looking


@operator_page
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "console/admin/throttles/matrix.html", _matrix(request))


@operator_page
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    return render(request, "console/admin/throttles/_matrix.html", _matrix(request))


def _matrix(request: HttpRequest) -> dict[str, object]:
    asked = {name: request.GET.get(name, "").replace("\0", "").strip()[:255] for name in ("show", "pool", "provider")}
    only_troubled = asked["show"] == "trouble"
    columns, has_more = throttles.columns(query=asked["provider"])
    found, older = throttles.sources_of(pool=asked["pool"], only_troubled=only_troubled, before=key_of(request))
    rows = throttles.matrix(found, [column.group for column in columns])
    query = {name: value for name, value in asked.items() if value}
    before = request.GET.get("before", "")
    suspended, slowed = sum(one.suspended for one in columns), sum(one.slowed for one in columns)
    said = [
        ngettext("{n} path is suspended", "{n} paths are suspended", suspended).format(n=suspended),
        ngettext("{n} is slowed", "{n} are slowed", slowed).format(n=slowed),
    ]
    return {
        "section": SECTION,
        "columns": [(group_title(column.group), column) for column in columns],
        "rows": [(source_name(row.source), SOURCE_STATES[row.source.state], row) for row in rows],
        "has_more": has_more,
        "is_troubled": bool(suspended or slowed),
        # Translators: between the parts of a list.
        "answer": gettext(", ").join(said),
        "asked": asked,
        "query": urlencode(query),
        "query_live": urlencode({**query, "before": before} if key_of(request) else query),
        "older": older,
        "pools": pool_choices(),
        "looked_at": timezone.now(),
    }


@operator_page
@require_safe
def path_page(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    path = Path.objects.filter(source=source, group=group).first()
    ((cell,),) = (row.cells for row in throttles.matrix([source], [group]))
    try:
        replies, took_too_long = throttles.last_replies(source, group), False
    except TookTooLong:
        replies, took_too_long = [], True
    context = {
        "section": SECTION,
        "source": source,
        "group": group,
        "name": source_name(source),
        "title": group_title(group),
        "mark": SOURCE_STATES[source.state],
        "path": path,
        "cell": cell,
        "is_by_hand": path is not None and path.suspended_reason == throttles.BY_HAND,
        "climbs_after": pace.CLIMB_AFTER_ACCEPTED,
        "limits": _limits(group),
        "replies": [(reply, _class(reply.reply_class)) for reply in replies],
        "took_too_long": took_too_long,
        "hours": int(throttles.REPLIES_OF.total_seconds() // 3600),
        "paces": [_pace(one) for one in path_changes.of_path(source, group)],
        "changes": [Change(entry) for entry in throttles.changes_by_hand(group)],
    }
    return render(request, "console/admin/throttles/path.html", context)


@dataclass(frozen=True, slots=True)
class PaceLine:
    """A change of pace in words; ``rule`` where a rule decided it on the reply."""

    at: datetime
    icon: str
    said: str
    rule: str
    reply: str


def _pace(change: PathChange) -> PaceLine:
    before, after = (f"{share * 100:.0f} %" for share in (change.share_before, change.share_after))
    by_person = {path_changes.RELEASED: _("by an operator"), path_changes.BY_HAND: _("by an operator")}
    if change.suspended_until is not None:
        icon = "player-pause"
        said = gettext("Suspended until {time}").format(time=moments.written(change.suspended_until))
        if change.share_after < change.share_before:
            said += gettext(", and then {before} → {after}").format(before=before, after=after)
    elif change.reason == path_changes.RELEASED:
        icon, said = "player-play", gettext("Released: full speed ({before} before)").format(before=before)
    else:
        icon = "clock" if change.share_after < change.share_before else "rocket"
        said = gettext("{before} → {after}").format(before=before, after=after)
    if change.reason in by_person:
        return PaceLine(change.at, icon, f"{said} ({by_person[change.reason]})", "", change.reply)
    return PaceLine(change.at, icon, said, change.reason, change.reply)


def _limits(group: ProviderGroup) -> list[tuple[words.Text, str, bool]]:
    return [
        (LIMITS[one.name], shown(one.name, one.value), one.is_overridden) for one in throttles.limits_in_force(group)
    ]


def _class(name: str) -> words.Text:
    found = {known.value: said for known, said in class_words.CLASSES.items()}.get(name)
    return found.label if found else name


# ---------------------------------------------------------------- changing


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def limits(request: HttpRequest, group_id: int) -> HttpResponse:
    group = _group(group_id)
    form = LimitsForm(request.POST or None, group=group)
    if request.method == "POST" and form.is_valid():
        try:
            throttles.change_limits(group, form.changes, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Saved. It counts within seconds, for every source address."))
            return redirect("operator-throttle-limits", group_id=group.pk)
    question = Question(
        section=SECTION,
        title=gettext("Limits towards {provider}").format(provider=group_title(group)),
        button=gettext("Save"),
        up=reverse("operator-throttles"),
        above=gettext("Throttles"),
        here=group_title(group),
        answer=gettext("For each source address. A slower pace after throttling replies stays a share of these."),
    )
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def suspend(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    form = SuspendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            throttles.suspend_path(
                source,
                group,
                length=timedelta(hours=form.cleaned_data["hours"]),
                reason=form.cleaned_data["reason"],
                actor=actor_of(request),
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Suspended."))
            return redirect("operator-throttle", source_id=source.pk, group_id=group.pk)
    question = Question(
        section=SECTION,
        title=gettext("Suspend {source} towards {provider}").format(
            source=source_name(source), provider=group_title(group)
        ),
        button=gettext("Suspend"),
        up=reverse("operator-throttle", kwargs={"source_id": source.pk, "group_id": group.pk}),
        above=gettext("{source} towards {provider}").format(source=source_name(source), provider=group_title(group)),
        here=gettext("Suspend"),
        effects=[
            gettext("What is being sent ends; no new attempt begins from this address to this provider."),
            gettext("The other addresses of the pool go on. Where there is none, the mail waits."),
            gettext("It ends by itself, and you can release it at any time."),
        ],
    )
    return ask(request, question, form)


@operator_page
@require_POST
def release(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    if throttles.release_path(source, group, actor=actor_of(request)):
        tell(request, gettext("Released: it goes at full speed again, as long as the receiver agrees."))
    else:
        tell(request, gettext("There was nothing to release."))
    return redirect("operator-throttle", source_id=source.pk, group_id=group.pk)


def _pair(source_id: UUID, group_id: int) -> tuple[SourceAddress, ProviderGroup]:
    try:
        return sources.find_source(source_id), _group(group_id)
    except NotFound:
        raise Http404 from None


def _group(group_id: int) -> ProviderGroup:
    group = ProviderGroup.objects.filter(pk=group_id).first() if group_id < 2**63 else None
    if group is None:
        raise Http404
    return group
