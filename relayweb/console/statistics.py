"""Overview and statistics: how much, what became of it, why, how fast, and where to look.

Figures are sums of counters; each that stands for rows of the send log is a link to them.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language, gettext, ngettext
from django.views.decorators.http import require_safe

from accounts import quotas
from delivery import history
from delivery.brakes.levels import Step
from delivery.core.states import OPEN
from delivery.exports import cell
from delivery.models import Brake, DomainState, SendingDomain
from delivery.statistics import figures
from delivery.statistics.counting import ALL, CREDENTIAL, DIMENSIONS, PROVIDER, STREAM
from delivery.statistics.figures import Breakdown, Course, Slice, Totals, Waits
from relayweb.console import moments, periods, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.brakes import STEPS
from relayweb.console.messages import unchanged
from relayweb.console.periods import Period

MOST_PROVIDERS = 8
MOST_VALUES = 50
MOST_PROBLEMS = 5
# Where a receiver begins to think badly of a sender; the same as in the notices.
BOUNCES_RISE_AT = 0.05
COMPLAINTS_RISE_AT = 0.001
NEARLY_USED_UP = 0.8

# In the order in which they are stacked, the good news at the bottom.
STACKED = ("delivered", "bounced", "expired", "other")


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The page about one value of one dimension: ?only=provider:google."""

    dimension: str = ALL
    value: str = ""
    name: words.Text = ""

    @property
    def encoded(self) -> str:
        return "" if self.dimension == ALL else urlencode({"only": f"{self.dimension}:{self.value}"})


@dataclass(frozen=True, slots=True)
class Figure:
    label: words.Text
    number: str
    path: str  # of the rows behind it; empty where there are none
    aside: str = ""  # a share, or the change against the period before


@dataclass(frozen=True, slots=True)
class Row:
    """A slice as a table shows it."""

    name: words.Text
    totals: Totals
    acceptance: str
    p50: str
    p95: str
    narrowed: str  # the statistics of this value alone
    paths: dict[str, str]  # the rows of the send log, by figure


@dataclass(frozen=True, slots=True)
class ClassRow:
    label: words.Text
    failed: int
    returned: int
    failed_path: str
    returned_path: str


@dataclass(frozen=True, slots=True)
class CourseRow:
    starts_at: datetime
    is_running: bool
    totals: Totals
    p50: str
    p95: str
    paths: dict[str, str]


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


# ---------------------------------------------------------------- pages


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


@tenant_page()
@require_safe
def statistics(request: HttpRequest, seat: Seat) -> HttpResponse:
    period = periods.read(request.GET)
    narrowing = _narrowing(seat, request.GET.get("only", ""))
    by = request.GET.get("by", PROVIDER)
    by = by if by in DIMENSIONS else PROVIDER
    links = Links(seat, period, narrowing)
    course = figures.course(seat.tenant, period.edges, dimension=narrowing.dimension, value=narrowing.value)
    whole = _sum(course.totals)
    waits = figures.waits(seat.tenant, period.since, period.until, dimension=narrowing.dimension, value=narrowing.value)
    context = {
        "section": "statistics",
        "period": period,
        "choices": periods.CHOICES,
        "narrowing": narrowing,
        "by": by,
        "answer": _answer(whole, period),
        "whole": whole,
        "waits": _waits_in_words(waits),
        "figures": _figures(whole, None, links),
        "rates": _rates(whole),
        "volume": _volume_chart(course, period),
        "times": _times_chart(course, period, waits),
        "course": _course_rows(course, links),
        "classes": _class_rows(seat, period, narrowing, links),
        "kept": (narrowing.encoded, f"by={by}" if by != PROVIDER else ""),
        "query": _joined(period.encoded, narrowing.encoded),
        "query_without": period.encoded,
    }
    if narrowing.dimension == ALL:
        found = figures.breakdown(seat.tenant, period.since, period.until, dimension=by, most=MOST_VALUES)
        context |= {
            "rows": _rows(seat, found, by, period),
            "left_out": found.left_out,
            "dimensions": [
                (dimension, words.DIMENSIONS[dimension], _joined(period.encoded, f"by={dimension}"))
                for dimension in DIMENSIONS
            ],
            "by_words": words.DIMENSIONS[by],
        }
    return render(request, "console/statistics/statistics.html", context)


@tenant_page()
@require_safe
def as_csv(request: HttpRequest, seat: Seat) -> HttpResponse:
    """A table of the statistics page: the course over time, or with ``by`` the values of a dimension."""
    period = periods.read(request.GET)
    narrowing = _narrowing(seat, request.GET.get("only", ""))
    by = request.GET.get("by", "")
    if by in DIMENSIONS:
        found = figures.breakdown(seat.tenant, period.since, period.until, dimension=by, most=10_000)
        names = figures.names_of(seat.tenant, by, [one.value for one in found.slices])
        lines = [(one.value, names.get(one.value, one.value), *_cells(one.totals, one.waits)) for one in found.slices]
        head: tuple[str, ...] = (by, "name")
    else:
        course = figures.course(seat.tenant, period.edges, dimension=narrowing.dimension, value=narrowing.value)
        lines = [
            (start.strftime("%Y-%m-%dT%H:%M:%SZ"), *_cells(total, waits))
            for start, total, waits in zip(course.edges, course.totals, course.waits, strict=False)
        ]
        head = ("starts_at",)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*head, *figures.COLUMNS, "p50_s", "p95_s"])
    for line in lines:
        writer.writerow([value if isinstance(value, int | float) else _safe(value) for value in line])
    name = f"{seat.tenant.slug}-statistics-{by or 'course'}.csv"
    return HttpResponse(
        "\ufeff" + text.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _safe(value: str) -> str:
    """No spreadsheet takes it for a formula; the writer quotes by itself."""
    return f"'{value}" if cell(value).lstrip('"').startswith("'") and not value.startswith("'") else value


def _cells(totals: Totals, waits: Waits) -> tuple[int | float | str, ...]:
    seconds = (round(wait.total_seconds(), 3) if wait is not None else "" for wait in (waits.p50, waits.p95))
    return (*(getattr(totals, name) for name in figures.COLUMNS), *seconds)


# ---------------------------------------------------------------- links to the rows


class Links:
    """Addresses of the send log that show what a figure counts: outcomes by the time they happened."""

    def __init__(self, seat: Seat, period: Period, narrowing: Narrowing | None = None) -> None:
        self._log = reverse("messages", kwargs={"slug": seat.tenant.slug})
        self._bounds = (period.since, period.until)
        self._fixed = [] if narrowing is None else log_terms(narrowing.dimension, narrowing.value)

    def within(self, since: datetime, until: datetime) -> Links:
        other = object.__new__(Links)
        other._log, other._bounds, other._fixed = self._log, (since, until), self._fixed
        return other

    def narrowed(self, dimension: str, value: str) -> Links:
        other = object.__new__(Links)
        other._log, other._bounds, other._fixed = self._log, self._bounds, log_terms(dimension, value)
        return other

    def of(self, *terms: tuple[str, str], by_outcome: bool = True) -> str:
        since, until = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in self._bounds)
        pairs = [*terms, *self._fixed, ("since", since), ("until", until)]
        return f"{self._log}?{urlencode([*pairs, ('time', 'outcome')] if by_outcome else pairs)}"

    def all(self) -> dict[str, str]:
        """By figure. What was put off is counted, and looked for, by the time of acceptance."""
        return {
            "accepted": self.of(by_outcome=False),
            "delivered": self.of(("state", "delivered")),
            "deferred": self.of(("put_off", "1"), by_outcome=False),
            "bounced": self.of(("state", "bounced")),
            "expired": self.of(("state", "expired")),
            "failed": self.of(("state", "bounced"), ("state", "expired")),
            "suppressed": self.of(("state", "suppressed")),
            "cancelled": self.of(("state", "cancelled")),
            "returned": self.of(("returned", "1")),
            "complained": self.of(("complained", "1")),
        }


def log_terms(dimension: str, value: str) -> list[tuple[str, str]]:
    match dimension:
        case "provider":
            return [("provider", value or "other")]
        case "domain":
            return [("author", value)] if value else []
        case "stream" | "credential" | "tag":
            return [(dimension, value)] if value else []
        case _:
            return []


# ---------------------------------------------------------------- the overview


def _overview(request: HttpRequest, seat: Seat, *, with_chart: bool = True) -> dict[str, object]:
    period = periods.read(request.GET)
    links = Links(seat, period)
    course = figures.course(seat.tenant, period.edges, with_waits=False)
    whole = _sum(course.totals)
    before = figures.totals(seat.tenant, *period.before)
    open_mail = figures.open_mail(seat.tenant)
    usage = _usage(seat)
    problems = _problems(seat, whole, links, usage)
    found = figures.breakdown(seat.tenant, period.since, period.until, dimension=PROVIDER, most=MOST_PROVIDERS)
    shown = _figures(whole, before, links)
    shown.insert(2, _open_figure(seat, open_mail))
    context: dict[str, object] = {
        "period": period,
        "choices": periods.CHOICES,
        "answer": f"{_answer(whole, period)}{_between()}{_attention(len(problems))}",
        "problems": problems[:MOST_PROBLEMS],
        "figures": shown,
        "usage": usage,
        "rows": _rows(seat, found, PROVIDER, period),
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
        context |= {"volume": _volume_chart(course, period), "course": _course_rows(course, links)}
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
    slug = seat.tenant.slug
    problems = []
    if seat.tenant.state == "suspended":
        problems.append(
            Problem(
                gettext("Sending is paused for this tenant. New mail is put off until the operator resumes it."),
                gettext("See what was refused"),
                reverse("rejections", kwargs={"slug": slug}),
                "fail",
                "player-pause",
            )
        )
    for brake in Brake.objects.of(seat.tenant).filter(ended_at=None).order_by("-pulled_at")[:MOST_PROBLEMS]:
        mark = STEPS[brake.step]
        problems.append(
            Problem(
                gettext("A brake is pulled on “{name}”: {what}").format(
                    name=brake.credential_name or seat.tenant.name, what=mark.sentence
                ),
                gettext("See why, and ask for release"),
                reverse("brake", kwargs={"slug": slug, "brake_id": brake.pk}),
                "retry" if brake.step == Step.SLOW else "fail",
                mark.icon,
            )
        )
    domains = SendingDomain.objects.of(seat.tenant).exclude(state=DomainState.REMOVED)
    for name, state, failing in domains.values_list("name", "state", "failing_since").order_by("name"):
        if state == DomainState.LAPSED or failing is not None:
            sentence = (
                gettext("“{domain}” is no longer verified; its mail is refused or held.")
                if state == DomainState.LAPSED
                else gettext("A record of “{domain}” that is needed can no longer be seen.")
            )
            problems.append(
                Problem(
                    sentence.format(domain=name),
                    gettext("To the records"),
                    reverse("domain", kwargs={"slug": slug, "name": name}),
                    "fail" if state == DomainState.LAPSED else "retry",
                )
            )
    for one in usage:
        if one.percent is not None and one.percent >= NEARLY_USED_UP * 100:
            problems.append(
                Problem(
                    gettext("{percent} % of the limit is used: {label}.").format(percent=one.percent, label=one.label),
                    gettext("To the limits"),
                    "#usage",
                    "fail" if one.percent >= 100 else "retry",
                )
            )
    rate = whole.bounce_rate
    if rate is not None and rate >= BOUNCES_RISE_AT:
        problems.append(
            Problem(
                gettext("{rate} % bounced or came back. Receivers begin to refuse senders at about 5 %.").format(
                    rate=moments.percent(rate)
                ),
                gettext("See why"),
                f"{reverse('statistics', kwargs={'slug': slug})}#classes",
            )
        )
    rate = whole.complaint_rate
    if rate is not None and rate >= COMPLAINTS_RISE_AT:
        problems.append(
            Problem(
                gettext("{rate} % was reported as spam. Receivers begin to refuse senders at about 0.1 %.").format(
                    rate=moments.percent(rate)
                ),
                gettext("See which mail"),
                links.all()["complained"],
            )
        )
    problems.sort(key=lambda problem: problem.tone != "fail")
    return problems


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


# ---------------------------------------------------------------- words and numbers


def _answer(whole: Totals, period: Period) -> str:
    """The sentence that a reader came for."""
    if not whole.decided:
        if whole.accepted:
            return ngettext(
                "{n} recipient was received from you in {period}; no receiving server has decided yet.",
                "{n} recipients were received from you in {period}; no receiving server has decided yet.",
                whole.accepted,
            ).format(n=f"{whole.accepted:,}", period=period.in_words)
        return gettext("No mail in {period}.").format(period=period.in_words)
    rate = whole.acceptance_rate
    if rate is None:
        return ngettext(
            "{accepted} of {n} recipient was accepted by the receiving server in {period}.",
            "{accepted} of {n} recipients were accepted by the receiving servers in {period}.",
            whole.decided,
        ).format(accepted=f"{whole.delivered:,}", n=f"{whole.decided:,}", period=period.in_words)
    return gettext("Of {n} recipients in {period}, the receiving servers accepted {rate} %.").format(
        n=f"{whole.decided:,}", period=period.in_words, rate=moments.percent(rate)
    )


def _attention(problems: int) -> str:
    if not problems:
        return gettext("Nothing needs your attention.")
    return ngettext("{n} thing needs your attention.", "{n} things need your attention.", problems).format(n=problems)


def _between() -> str:
    return "" if get_language() == "ja" else " "


def _with_sign(rate: float) -> str:
    return f"{moments.percent(rate)}{_between()}%"


def _rates(whole: Totals) -> list[tuple[words.Text, str]]:
    few = gettext("too few to say")
    return [
        (label, few if rate is None else _with_sign(rate))
        for label, rate in (
            (gettext("Acceptance rate"), whole.acceptance_rate),
            (gettext("Bounce rate"), whole.bounce_rate),
            (gettext("Complaint rate"), whole.complaint_rate),
            (gettext("Unsubscribe rate"), whole.unsubscribe_rate),
        )
    ]


def _figures(whole: Totals, before: Totals | None, links: Links) -> list[Figure]:
    paths = links.all()
    shown = [
        ("accepted", gettext("Received from you"), whole.accepted),
        ("delivered", gettext("Accepted by the receiving server"), whole.delivered),
        ("deferred", gettext("Put off at least once"), whole.deferred),
        ("failed", gettext("Bounced or expired"), whole.failed),
        ("returned", gettext("Accepted, then returned"), whole.returned),
        ("complained", gettext("Complaints"), whole.complained),
    ]
    return [
        Figure(
            label,
            f"{number:,}",
            paths[name],
            "" if before is None else _change(number, getattr(before, name)),
        )
        for name, label, number in shown
    ]


def _change(number: int, before: int) -> str:
    return gettext("{n} in the period before").format(n=f"{before:,}") if number or before else ""


def _waits_in_words(waits: Waits) -> dict[str, str]:
    return {
        "p50": moments.duration(waits.p50) if waits.p50 is not None else "–",
        "p95": moments.duration(waits.p95) if waits.p95 is not None else "–",
    }


def _sum(totals: Iterable[Totals]) -> Totals:
    sums = dict.fromkeys(figures.COLUMNS, 0)
    for one in totals:
        for name in sums:
            sums[name] += getattr(one, name)
    return Totals(**sums)


def _narrowing(seat: Seat, text: str) -> Narrowing:
    dimension, _colon, value = text.replace("\x00", "").partition(":")
    if dimension not in DIMENSIONS:
        return Narrowing()
    try:
        name = figures.names_of(seat.tenant, dimension, [value]).get(value)
    except ValueError:
        return Narrowing()
    if name is None and dimension in {STREAM, CREDENTIAL} and value:
        return Narrowing()
    return Narrowing(dimension, value[:255], name or value or words.OTHER_VALUES[dimension])


def _rows(seat: Seat, found: Breakdown, dimension: str, period: Period) -> list[Row]:
    names = figures.names_of(seat.tenant, dimension, [one.value for one in found.slices])
    links = Links(seat, period)
    return [_row(one, names, dimension, period, links.narrowed(dimension, one.value)) for one in found.slices]


def _row(one: Slice, names: dict[str, str], dimension: str, period: Period, links: Links) -> Row:
    name: words.Text = names.get(one.value) or one.value
    if not one.value:
        name = words.OTHER_VALUES[dimension]
    elif dimension in {STREAM, CREDENTIAL} and one.value not in names:
        name = words.GONE_VALUES[dimension]
    rate = one.totals.acceptance_rate
    # What has no name of its own cannot be asked for in the log, except among providers.
    paths = links.all() if one.value or dimension == PROVIDER else {}
    in_words = _waits_in_words(one.waits)
    return Row(
        name=name,
        totals=one.totals,
        acceptance="–" if rate is None else _with_sign(rate),
        p50=in_words["p50"],
        p95=in_words["p95"],
        narrowed=_joined(period.encoded, urlencode({"only": f"{dimension}:{one.value}"})),
        paths=paths,
    )


def _class_rows(seat: Seat, period: Period, narrowing: Narrowing, links: Links) -> list[ClassRow]:
    found = figures.classes(
        seat.tenant, period.since, period.until, dimension=narrowing.dimension, value=narrowing.value
    )
    rows = []
    for one in found:
        known = words.known(words.CLASSES, one.reply_class)
        rows.append(
            ClassRow(
                known.label if known else one.reply_class,
                one.failed,
                one.returned,
                links.of(("state", "bounced"), ("state", "expired"), ("class", one.reply_class)),
                links.of(("returned", "1"), ("class", one.reply_class)),
            )
        )
    return rows


def _course_rows(course: Course, links: Links) -> list[CourseRow]:
    """Newest first, without the columns in which nothing happened."""
    now = timezone.now()
    rows = []
    for place, totals in enumerate(course.totals):
        if totals == Totals():
            continue
        start, end = course.edges[place], course.edges[place + 1]
        waits = _waits_in_words(course.waits[place] if course.waits else Waits())
        rows.append(
            CourseRow(start, start <= now < end, totals, waits["p50"], waits["p95"], links.within(start, end).all())
        )
    return rows[::-1]


def _joined(*queries: str) -> str:
    return "&".join(query for query in queries if query)


# ---------------------------------------------------------------- charts


def _volume_chart(course: Course, period: Period) -> dict[str, object]:
    values = {
        "delivered": [one.delivered for one in course.totals],
        "bounced": [one.bounced for one in course.totals],
        "expired": [one.expired for one in course.totals],
        "other": [one.suppressed + one.cancelled for one in course.totals],
    }
    return {
        **_frame(course, period),
        "kind": "stacked",
        "series": [{"key": key, "label": str(words.CHART_SERIES[key]), "values": values[key]} for key in STACKED],
    }


def _times_chart(course: Course, period: Period, waits: Waits) -> dict[str, object]:
    in_words = _waits_in_words(waits)

    def seconds(name: str) -> list[float | None]:
        found = (getattr(one, name) for one in course.waits)
        return [None if wait is None else round(wait.total_seconds(), 4) for wait in found]

    return {
        **_frame(course, period),
        "kind": "durations",
        "series": [
            {"key": "p50", "label": gettext("half took at most"), "values": seconds("p50")},
            {"key": "p95", "label": gettext("95 of 100 took at most"), "values": seconds("p95")},
        ],
        "finding": gettext("Half was accepted within {p50}, 95 of 100 within {p95}.").format(**in_words)
        if waits.p50 is not None
        else "",
    }


def _frame(course: Course, period: Period) -> dict[str, object]:
    now = timezone.now()
    return {
        "edges": [int(edge.timestamp()) for edge in course.edges],
        "zone": moments.zone_name(),
        "language": get_language(),
        "by": "day" if period.step.days else "time",
        "isRunning": course.edges[-2] <= now < course.edges[-1],
        "soFar": gettext("so far"),
        "units": {"ms": gettext("ms"), "s": gettext("s"), "min": gettext("min"), "h": gettext("h")},
        "noData": gettext("No data"),
    }
