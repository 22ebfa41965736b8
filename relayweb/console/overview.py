"""A tenant's first page: what there is to see to, the figures of the period, and how much may still be sent."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_safe

from accounts import quotas
from delivery import history
from delivery.brakes.levels import Step
from delivery.core.states import OPEN
from delivery.models import Brake, DomainState, SendingDomain
from delivery.statistics import figures
from delivery.statistics.counting import PROVIDER
from delivery.statistics.figures import Totals
from relayweb.console import moments, periods, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.brakes import STEPS
from relayweb.console.charts import volume_chart
from relayweb.console.messages import unchanged
from relayweb.console.sums import Figure, Links, answer_of, between_sentences, course_rows, figures_of, rows_of, sum_of

MOST_PROVIDERS = 8
MOST_PROBLEMS = 5
# Where a receiver begins to think badly of a sender; the same as in the notices.
BOUNCES_RISE_AT = 0.05
COMPLAINTS_RISE_AT = 0.001
NEARLY_USED_UP = 0.8


@dataclass(frozen=True, slots=True)
class Problem:
    sentence: str
    action: words.Text
    path: str
    tone: str = "retry"
    icon: str = "alert-triangle"


@dataclass(frozen=True, slots=True)
class Usage:
    label: words.Text
    used: int
    limit: int | None
    percent: int | None
    ends_at: datetime


@tenant_page()
@require_safe
def overview(request: HttpRequest, seat: Seat) -> HttpResponse:
    return render(request, "console/statistics/overview.html", {"section": "overview", **_overview(request, seat)})


@tenant_page()
@require_safe
def overview_live(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Figures and problems; 204 while they read the same."""
    context = _overview(request, seat, with_chart=False)
    if request.GET.get("seen") == context["seen"]:
        return unchanged(timezone.now())
    return render(request, "console/statistics/_now.html", context)


# ---------------------------------------------------------------- the overview


def _overview(request: HttpRequest, seat: Seat, *, with_chart: bool = True) -> dict[str, object]:
    period = periods.read(request.GET)
    links = Links(seat, period)
    course = figures.course(seat.tenant, period.edges, with_waits=False)
    whole = sum_of(course.totals)
    before = figures.totals(seat.tenant, *period.before)
    open_mail = figures.open_mail(seat.tenant)
    usage = _usage(seat)
    problems = _problems(seat, whole, links, usage)
    found = figures.breakdown(seat.tenant, period.since, period.until, dimension=PROVIDER, most=MOST_PROVIDERS)
    shown = figures_of(whole, before, links)
    shown.insert(2, _open_figure(seat, open_mail))
    context: dict[str, object] = {
        "period": period,
        "choices": periods.CHOICES,
        "answer": f"{answer_of(whole, period)}{between_sentences()}{_attention(len(problems))}",
        "problems": problems[:MOST_PROBLEMS],
        "figures": shown,
        "usage": usage,
        "rows": rows_of(seat, found, PROVIDER, period),
        "by_words": words.DIMENSIONS[PROVIDER],
        "is_unused": not problems
        and not whole.accepted
        and not whole.decided
        and not history.has_recipients(seat.tenant),
        "looked_at": timezone.now(),
        "query": period.encoded,
        "seen": _seen(whole, open_mail.number, [problem.sentence for problem in problems], usage),
    }
    if with_chart:
        context |= {"volume": volume_chart(course, period), "course": course_rows(course, links)}
    return context


def _seen(*what: object) -> str:
    """The same in every process as long as the page reads the same."""
    return f"{zlib.crc32(repr(what).encode()):08x}"


def _open_figure(seat: Seat, open_mail: figures.OpenMail) -> Figure:
    number = f"{open_mail.number:,}"
    states = urlencode([*(("state", state) for state in sorted(OPEN)), ("days", "90")])
    return Figure(
        gettext("Open now"),
        number if open_mail.is_exact else gettext("{n} or more").format(n=number),
        f"{reverse('messages', kwargs={'slug': seat.tenant.slug})}?{states}",
    )


def _problems(seat: Seat, whole: Totals, links: Links, usage: Sequence[Usage]) -> list[Problem]:
    """What the tenant should do something about, the worst first."""
    problems = [
        *_paused(seat),
        *_brakes_pulled(seat),
        *_failing_domains(seat),
        *_limits_nearly_used(usage),
        *_rates_too_high(seat, whole, links),
    ]
    problems.sort(key=lambda problem: problem.tone != "fail")
    return problems


def _paused(seat: Seat) -> Iterator[Problem]:
    if seat.tenant.state == "suspended":
        yield Problem(
            gettext("Sending is paused for this tenant. New mail is put off until the operator resumes it."),
            gettext("See what was refused"),
            reverse("rejections", kwargs={"slug": seat.tenant.slug}),
            "fail",
            "player-pause",
        )


def _brakes_pulled(seat: Seat) -> Iterator[Problem]:
    for brake in Brake.objects.of(seat.tenant).filter(ended_at=None).order_by("-pulled_at")[:MOST_PROBLEMS]:
        mark = STEPS[brake.step]
        yield Problem(
            gettext("A brake is pulled on “{name}”: {what}").format(
                name=brake.credential_name or seat.tenant.name, what=mark.sentence
            ),
            gettext("See why, and ask for release"),
            reverse("brake", kwargs={"slug": seat.tenant.slug, "brake_id": brake.pk}),
            "retry" if brake.step == Step.SLOW else "fail",
            mark.icon,
        )


def _failing_domains(seat: Seat) -> Iterator[Problem]:
    domains = SendingDomain.objects.of(seat.tenant).exclude(state=DomainState.REMOVED)
    for name, state, failing in domains.values_list("name", "state", "failing_since").order_by("name"):
        if state == DomainState.LAPSED or failing is not None:
            sentence = (
                gettext("“{domain}” is no longer verified; its mail is refused or held.")
                if state == DomainState.LAPSED
                else gettext("A record of “{domain}” that is needed can no longer be seen.")
            )
            yield Problem(
                sentence.format(domain=name),
                gettext("To the records"),
                reverse("domain", kwargs={"slug": seat.tenant.slug, "name": name}),
                "fail" if state == DomainState.LAPSED else "retry",
            )


def _limits_nearly_used(usage: Sequence[Usage]) -> Iterator[Problem]:
    for one in usage:
        if one.percent is not None and one.percent >= NEARLY_USED_UP * 100:
            yield Problem(
                gettext("{percent} % of the limit is used: {label}.").format(percent=one.percent, label=one.label),
                gettext("To the limits"),
                "#usage",
                "fail" if one.percent >= 100 else "retry",
            )


def _rates_too_high(seat: Seat, whole: Totals, links: Links) -> Iterator[Problem]:
    rate = whole.bounce_rate
    if rate is not None and rate >= BOUNCES_RISE_AT:
        yield Problem(
            gettext("{rate} % bounced or came back. Receivers begin to refuse senders at about 5 %.").format(
                rate=moments.percent(rate)
            ),
            gettext("See why"),
            f"{reverse('statistics', kwargs={'slug': seat.tenant.slug})}#classes",
        )
    rate = whole.complaint_rate
    if rate is not None and rate >= COMPLAINTS_RISE_AT:
        yield Problem(
            gettext("{rate} % was reported as spam. Receivers begin to refuse senders at about 0.1 %.").format(
                rate=moments.percent(rate)
            ),
            gettext("See which mail"),
            links.all()["complained"],
        )


def _usage(seat: Seat) -> list[Usage]:
    limits, used, now = quotas.limits_of(seat.tenant), quotas.usage_of(seat.tenant), timezone.now()
    return [
        Usage(
            words.QUOTA_PERIODS[period],
            used[period],
            limit,
            None if limit is None else 100 if limit == 0 else min(999, used[period] * 100 // limit),
            _end_of(period, now),
        )
        for period, limit in (
            ("hour", limits.hourly_limit),
            ("day", limits.daily_limit),
            ("month", limits.monthly_limit),
        )
    ]


def _end_of(period: str, now: datetime) -> datetime:
    start = quotas.window_start(period, now)
    match period:
        case "hour":
            return start + timedelta(hours=1)
        case "day":
            return start + timedelta(days=1)
        case _:
            return (start.replace(day=28) + timedelta(days=4)).replace(day=1)


def _attention(problems: int) -> str:
    if not problems:
        return gettext("Nothing needs your attention.")
    return ngettext("{n} thing needs your attention.", "{n} things need your attention.", problems).format(n=problems)
