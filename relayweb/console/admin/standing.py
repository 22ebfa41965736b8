"""How source addresses stand with receivers: scores with every term, and the warm-ups, which are changed from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.refusals import NotFound, Refused
from delivery import operations, sources, standing
from delivery.models import GroupKind, ProviderGroup, SourceAddress
from delivery.reputation import scores, scoring
from delivery.standing import Standing, Wanted
from delivery.warmup import plans
from delivery.warmup.judging import Forecast
from delivery.warmup.schedules import schedules
from relayweb.console import moments, score_words
from relayweb.console.access import operator_page
from relayweb.console.admin import warm_up_words
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import Change, group_title, source_name
from relayweb.console.admin.sources import ReasonForm
from relayweb.console.forms import ConsoleForm, tell
from relayweb.console.words import Text, fill

SECTION = "standing"
SHOWN = ("low", "warming")
FORECAST_FOR = 50_000
MOST_DAILY = 1_000_000_000

SCHEDULES: dict[str, Text] = {
    "sparkpost": _("SparkPost's, 29 stages by day"),
    "sendgrid": _("SendGrid's, by hour"),
    "carrier": _("cautious, for Japanese carriers"),
}


class StartForm(ConsoleForm):
    schedule = forms.ChoiceField(label=_("Schedule"), required=False)
    target = forms.IntegerField(
        label=_("Messages a day that are enough"),
        required=False,
        min_value=1,
        max_value=MOST_DAILY,
        help_text=_("Then it ends. Empty: at the end of the schedule."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        named = [(key, SCHEDULES.get(key, key)) for key in schedules()]
        self.fields["schedule"].choices = [("", _("the one made for the provider")), *named]  # type: ignore[attr-defined]


class StageForm(ReasonForm):
    stage = forms.IntegerField(label=_("Stage"), min_value=1)

    field_order = ("stage", "reason")


# ---------------------------------------------------------------- looking


@operator_page
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    show = request.GET.get("show", "")
    wanted = Wanted(_text(request, "q"), show if show in SHOWN else "")
    found, after = standing.page(wanted, after=_key(request.GET.get("after", "")))
    asked = {name: value for name, value in (("q", wanted.query), ("show", wanted.show)) if value}
    low = sum(one.is_low for one in found)
    context = {
        "section": SECTION,
        "lines": [_line(one) for one in found],
        "wanted": wanted,
        "query": urlencode(asked),
        "after": after,
        "low": low,
        "warming": sum(one.is_warming for one in found),
    }
    return render(request, "console/admin/standing/list.html", context)


@operator_page
@require_safe
def path_page(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    found = standing.one(source, group)
    days = standing.days_of(source, group, zone=ZoneInfo(moments.zone_name()))
    daily = _number(request.GET.get("daily", ""), default=FORECAST_FOR)
    is_planned = found.warm_up is None and plans.is_planned(source)
    context = {
        "section": SECTION,
        "source": source,
        "group": group,
        "name": source_name(source),
        "title": group_title(group),
        "line": _line(found),
        "answer": _answer(found),
        "terms": warm_up_words.terms(found.score) if found.score else [],
        "raises": [warm_up_words.REMEDIES[name] for name in scores.raises(found.score)] if found.score else [],
        "cap": warm_up_words.CAPS.get(found.score.cap_reason, "") if found.score else "",
        "least": scoring.formula()["least_attempts" if group.kind == GroupKind.PROVIDER else "site_kept_from"],
        "chart": score_words.chart(days) if len(days) > 1 else None,
        "days": list(reversed(days)),
        "is_planned": is_planned,
        "helpers": operations.others_in_use(source),
        "daily": daily,
        "forecast": _forecast(found, daily, is_planned=is_planned),
        "steps": warm_up_words.steps(plans.history_of(found.warm_up.warm_up, most=50)) if found.warm_up else [],
        "changes": [Change(entry) for entry in operations.changes_of(source.pk, noun="warmup")],
    }
    return render(request, "console/admin/standing/path.html", context)


@dataclass(frozen=True, slots=True)
class Line:
    """A pair in words. ``used`` is a share of what the stage allows, as a whole percentage."""

    standing: Standing
    name: Text
    title: Text
    stage: str = ""
    state: str = ""
    allowed: str = ""
    used: int = 0
    judged: str = ""
    schedule: Text = ""


def _line(one: Standing) -> Line:
    name, title = source_name(one.source), group_title(one.group)
    if one.warm_up is None:
        return Line(one, name, title)
    warm_up, limit = one.warm_up.warm_up, one.warm_up.limit
    stages = len(one.warm_up.schedule.stages)
    return Line(
        one,
        name,
        title,
        stage=gettext("stage {n} of {last}").format(n=warm_up.stage + 1, last=stages),
        state=warm_up.state,
        allowed=warm_up_words.allowed(limit, one.warm_up.schedule.per) if limit is not None else "",
        used=round(100 * one.warm_up.figures.accepted / one.warm_up.schedule.daily(warm_up.stage)),
        judged=warm_up_words.why(warm_up.judged),
        schedule=SCHEDULES.get(warm_up.schedule, warm_up.schedule),
    )


def _answer(found: Standing) -> str:
    provider = group_title(found.group)
    if found.score is None:
        said = gettext("Too little has been sent to {provider} for a score.")
        return fill(said, provider=provider)
    said = gettext("{score} of 100 at {provider}.")
    if found.warm_up is not None and found.warm_up.limit is not None:
        limit = warm_up_words.allowed(found.warm_up.limit, found.warm_up.schedule.per)
        return fill(
            gettext("{score} of 100 at {provider}, at most {limit}."),
            score=found.score.score,
            provider=provider,
            limit=limit,
        )
    return fill(said, score=found.score.score, provider=provider)


def _forecast(found: Standing, daily: int, *, is_planned: bool) -> str:
    """Nothing where nothing is capped."""
    if found.warm_up is not None:
        when = plans.forecast_of(found.warm_up, daily=daily)
    elif is_planned:
        _none, when = plans.forecast(found.source, found.group.key, daily=daily)
    else:
        return ""
    return _forecast_in_words(when, group_title(found.group))


def _forecast_in_words(when: Forecast, provider: Text) -> str:
    number = f"{when.daily:,}"
    if when.days is None:
        said = gettext("The schedule never allows {n} a day at {provider}: stop the warm-up, or start it with another.")
        return fill(said, n=number, provider=provider)
    if when.days == 0:
        return fill(gettext("Ready for {n} a day at {provider}."), n=number, provider=provider)
    said = ngettext(
        "Ready for {n} a day at {provider} in {days} day.",
        "Ready for {n} a day at {provider} in {days} days.",
        when.days,
    )
    sentence = fill(said, n=number, provider=provider, days=when.days)
    if when.waits_for_use:
        return f"{sentence} {gettext('More must be sent for that: the present stage is not used.')}"
    return sentence


# ---------------------------------------------------------------- changing


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def start(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    back = reverse("operator-standing-path", kwargs={"source_id": source.pk, "group_id": group.pk})
    return _start(request, source, [group.key], back, _place(source, group))


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def start_all(request: HttpRequest, source_id: UUID) -> HttpResponse:
    """An address that is new to every receiver: each provider group it meets is warmed up by itself."""
    source = _source(source_id)
    return _start(
        request, source, [], reverse("operator-source", kwargs={"source_id": source.pk}), str(source_name(source))
    )


def _start(request: HttpRequest, source: SourceAddress, groups: list[str], back: str, place: str) -> HttpResponse:
    form = StartForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            plans.start(
                source, actor=actor_of(request), schedule=given["schedule"], group_keys=groups, target=given["target"]
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The warm-up has begun."))
            return redirect(back)
    effects = [
        gettext(
            "From now on each stage caps what leaves from this address; the rest leaves from the pool's other addresses."
        ),
        gettext(
            "What is running goes on; what was stopped or is over begins with the first stage. You can stop it at any time."
        ),
    ]
    if not groups:
        effects.insert(0, gettext("It holds for every provider it meets, also for those it has not met yet."))
    if not operations.others_in_use(source):
        effects.append(gettext("Its pool has no other address in use: what exceeds the stage waits."))
    return ask(request, _question(gettext("Start the warm-up"), gettext("Start"), back, place, effects), form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    back = reverse("operator-standing-path", kwargs={"source_id": source.pk, "group_id": group.pk})
    return _stop(request, source, [group.key], back, _place(source, group))


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def stop_all(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _source(source_id)
    return _stop(
        request, source, [], reverse("operator-source", kwargs={"source_id": source.pk}), str(source_name(source))
    )


def _stop(request: HttpRequest, source: SourceAddress, groups: list[str], back: str, place: str) -> HttpResponse:
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            plans.stop(source, actor=actor_of(request), group_keys=groups, reason=form.cleaned_data["reason"])
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The warm-up is stopped: nothing is capped any more."))
            return redirect(back)
    effects = [
        gettext("The address counts as warm: nothing is capped any more. Receivers that do not know it may block it."),
        gettext("You can set a stage, and it goes on from there."),
    ]
    question = _question(gettext("Stop the warm-up"), gettext("Stop"), back, place, effects, is_dangerous=True)
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def stage(request: HttpRequest, source_id: UUID, group_id: int) -> HttpResponse:
    source, group = _pair(source_id, group_id)
    found = standing.one(source, group).warm_up
    if found is None:
        raise Http404
    form = StageForm(request.POST or None, initial={"stage": found.warm_up.stage + 1})
    back = reverse("operator-standing-path", kwargs={"source_id": source.pk, "group_id": group.pk})
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            plans.set_stage(source, group.key, stage=given["stage"], reason=given["reason"], actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("It is at stage {n} now.").format(n=given["stage"]))
            return redirect(back)
    schedule = found.schedule
    now = warm_up_words.allowed(schedule.limit(found.warm_up.stage).count, schedule.per)
    effects = [
        gettext("It is at stage {n} of {last}: {limit}.").format(
            n=found.warm_up.stage + 1, last=len(schedule.stages), limit=now
        ),
        gettext("What is counted begins anew. A warm-up that was over runs again."),
    ]
    return ask(request, _question(gettext("Set the stage"), gettext("Set"), back, _place(source, group), effects), form)


def _question(
    title: str, button: str, back: str, place: str, effects: list[str], *, is_dangerous: bool = False
) -> Question:
    return Question(
        section=SECTION,
        title=gettext("{what}: {name}").format(what=title, name=place),
        button=button,
        up=back,
        above=place,
        here=title,
        effects=effects,
        is_dangerous=is_dangerous,
    )


def _place(source: SourceAddress, group: ProviderGroup) -> str:
    return gettext("{source} towards {provider}").format(source=source_name(source), provider=group_title(group))


def _source(source_id: UUID) -> SourceAddress:
    try:
        return sources.find_source(source_id)
    except NotFound:
        raise Http404 from None


def _pair(source_id: UUID, group_id: int) -> tuple[SourceAddress, ProviderGroup]:
    group = ProviderGroup.objects.filter(pk=group_id).first() if group_id < 2**63 else None
    if group is None:
        raise Http404
    return _source(source_id), group


def _text(request: HttpRequest, name: str) -> str:
    return request.GET.get(name, "").replace("\0", "").strip()[:255]


def _key(text: str) -> tuple[UUID, int] | None:
    source, _dot, group = text.partition(".")
    try:
        key = UUID(source), int(group)
    except ValueError:
        return None
    return key if 0 <= key[1] < 2**63 else None


def _number(text: str, *, default: int) -> int:
    plain = text.replace(",", "").strip()
    return min(MOST_DAILY, max(1, int(plain))) if plain.isascii() and plain.isdigit() and len(plain) < 12 else default
