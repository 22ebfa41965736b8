"""Alerts: what is wrong, whom it was told, and taking or muting it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import NotFound, Refused
from delivery import operations
from delivery.alerts import episodes, outbox
from delivery.models import Alert
from relayweb.console import alert_words
from relayweb.console.access import operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import Change
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of
from relayweb.console.messages import unchanged
from relayweb.console.words import Mark

SECTION = "alerts"
CHANNELS = {"mail": _("by mail"), "webhook": _("by webhook")}
_TAKEN = Mark(pgettext_lazy("alert", "Taken"), "", "wait", "user")
_MUTED = Mark(pgettext_lazy("alert", "Muted"), "", "hold", "player-pause")
_OVER = Mark(pgettext_lazy("alert", "Over"), "", "quiet", "check")


class NoteForm(ConsoleForm):
    note = forms.CharField(label=pgettext_lazy("remark", "Note"), required=False, max_length=500)


class MuteForm(ConsoleForm):
    hours = forms.FloatField(label=_("For how many hours"), initial=24, min_value=0.1, max_value=24 * 90)
    reason = forms.CharField(label=_("Reason"), max_length=500)


@dataclass(frozen=True, slots=True)
class Line:
    """``mark`` is what people did about it, or how bad it is; ``severity`` always says how bad."""

    alert: Alert
    title: str
    sentence: str
    to_do: str
    runbook: str
    mark: Mark
    severity: Mark
    is_muted: bool


def line_of(alert: Alert) -> Line:
    is_muted = alert.muted_until is not None and alert.muted_until > timezone.now()
    severity = alert_words.SEVERITIES[alert.severity]
    mark = severity
    if alert.closed_at is not None:
        mark = _OVER
    elif is_muted:
        mark = _MUTED
    elif alert.acknowledged_at is not None:
        mark = _TAKEN
    return Line(
        alert,
        alert_words.title(alert),
        alert_words.sentence(alert),
        alert_words.to_do(alert),
        alert_words.runbook(alert),
        mark,
        severity,
        is_muted,
    )


# ---------------------------------------------------------------- looking


@operator_page
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    is_past = request.GET.get("show") == "past"
    last = outbox.last_sent()
    targets = episodes.targets()
    context = {
        "section": SECTION,
        **_lines(is_past=is_past, before=key_of(request)),
        "targets": [(CHANNELS[channel], target) for channel, target in targets],
        "last_sent": [(CHANNELS[channel], last.get(channel)) for channel in dict.fromkeys(one for one, _to in targets)],
        "failing": outbox.failing(),
    }
    return render(request, "console/admin/alerts/list.html", context)


@operator_page
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """The newest open alerts; 204 while they read the same."""
    context = _lines(is_past=False, before=None)
    if request.GET.get("seen") == context["seen"]:
        return unchanged(timezone.now())
    return render(request, "console/admin/alerts/_lines.html", context)


def _lines(*, is_past: bool, before: UUID | None) -> dict[str, object]:
    """What is past, and what stands behind the first page, does not change while it is read."""
    found, further = episodes.page(is_past=is_past, before=before)
    kinds = episodes.open_by_kind()
    firing, lines = sum(one.firing for one in kinds), [line_of(alert) for alert in found]
    read = [(line.alert.pk, line.sentence, str(line.mark.label), line.alert.acknowledged_note) for line in lines]
    said = ngettext("{n} alert waits for somebody.", "{n} alerts wait for somebody.", firing).format(n=firing)
    return {
        "lines": lines,
        "is_past": is_past,
        "is_live": not is_past and before is None,
        "further": further,
        "firing": firing,
        "taken": sum(one.acknowledged for one in kinds),
        "muted": sum(one.muted for one in kinds),
        "said": said if firing else gettext("No alert waits for anybody."),
        "seen": f"{zlib.crc32(repr((read, kinds)).encode()):08x}",
        "looked_at": timezone.now(),
    }


@operator_page
@require_safe
def alert_page(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = _found(alert_id)
    context = {
        "section": SECTION,
        "line": line_of(alert),
        "alert": alert,
        "tellings": alert.tellings.order_by("-id")[:50],
        "channels": CHANNELS,
        "changes": [Change(entry) for entry in operations.changes_of(alert.pk, noun="alert")],
    }
    return render(request, "console/admin/alerts/page.html", context)


# ---------------------------------------------------------------- changing


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def acknowledge(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = _found(alert_id)
    form = NoteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            episodes.acknowledge(alert, note=form.cleaned_data["note"], actor=actor_of(request))
            tell(request, gettext("It is yours. Nobody is reminded of it any more."))
        except Refused as refusal:
            tell_refusal(request, refusal)
        return redirect("operator-alert", alert_id=alert.pk)
    effects = [
        gettext("It stays open until what it is about is over, and then closes by itself."),
        gettext("Nobody is reminded any more; the others see that you have it. You can give it back."),
    ]
    return ask(request, _question(alert, gettext("Take it"), effects), form)


@operator_page
@require_POST
def take_back(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = _found(alert_id)
    try:
        episodes.take_back(alert, actor=actor_of(request))
        tell(request, gettext("It is nobody's again; there are reminders every day."))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-alert", alert_id=alert.pk)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def mute(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = _found(alert_id)
    form = MuteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        until = timezone.now() + timedelta(hours=form.cleaned_data["hours"])
        try:
            episodes.mute(alert, until=until, reason=form.cleaned_data["reason"], actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Muted."))
            return redirect("operator-alert", alert_id=alert.pk)
    effects = [
        gettext("Until then nobody is told of it, nor when it comes back. It stands here all the same."),
        gettext("It ends by itself, and you can unmute it at any time."),
    ]
    return ask(request, _question(alert, gettext("Mute"), effects), form)


@operator_page
@require_POST
def unmute(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = _found(alert_id)
    episodes.unmute(alert, actor=actor_of(request))
    tell(request, gettext("It is told again."))
    return redirect("operator-alert", alert_id=alert.pk)


@operator_page
@require_POST
def send_test(request: HttpRequest) -> HttpResponse:
    if episodes.targets():
        alert = episodes.send_test(actor=actor_of(request))
        tell(request, gettext("It leaves within half a minute; this page says what became of it."))
        return redirect("operator-alert", alert_id=alert.pk)
    tell(request, gettext("There is nobody to tell."))
    return redirect("operator-alerts")


def _question(alert: Alert, title: str, effects: list[str]) -> Question:
    name = alert_words.title(alert)
    return Question(
        section=SECTION,
        title=gettext("{what}: {name}").format(what=title, name=name),
        button=title,
        up=reverse("operator-alert", kwargs={"alert_id": alert.pk}),
        above=name,
        here=title,
        effects=effects,
    )


def _found(alert_id: UUID) -> Alert:
    try:
        return episodes.find(alert_id)
    except NotFound:
        raise Http404 from None
