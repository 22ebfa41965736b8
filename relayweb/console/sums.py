"""Figures as pages show them: sums of counters, each with a link to the rows of the send log that it stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language, gettext, ngettext

from delivery.statistics import figures
from delivery.statistics.counting import ALL, CREDENTIAL, PROVIDER, STREAM
from delivery.statistics.figures import Breakdown, Course, Slice, Totals, Waits
from relayweb.console import moments, words
from relayweb.console.access import Seat
from relayweb.console.periods import Period


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
class CourseRow:
    starts_at: datetime
    is_running: bool
    totals: Totals
    p50: str
    p95: str
    paths: dict[str, str]


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


# ---------------------------------------------------------------- words and numbers


def answer_of(whole: Totals, period: Period) -> str:
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


def between_sentences() -> str:
    return "" if get_language() == "ja" else " "


def _with_sign(rate: float) -> str:
    return f"{moments.percent(rate)}{between_sentences()}%"


def rates_of(whole: Totals) -> list[tuple[words.Text, str]]:
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


def figures_of(whole: Totals, before: Totals | None, links: Links) -> list[Figure]:
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


def waits_in_words(waits: Waits) -> dict[str, str]:
    return {
        "p50": moments.duration(waits.p50) if waits.p50 is not None else "–",
        "p95": moments.duration(waits.p95) if waits.p95 is not None else "–",
    }


def sum_of(totals: Iterable[Totals]) -> Totals:
    sums = dict.fromkeys(figures.COLUMNS, 0)
    for one in totals:
        for name in sums:
            sums[name] += getattr(one, name)
    return Totals(**sums)


def rows_of(seat: Seat, found: Breakdown, dimension: str, period: Period) -> list[Row]:
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
    in_words = waits_in_words(one.waits)
    return Row(
        name=name,
        totals=one.totals,
        acceptance="–" if rate is None else _with_sign(rate),
        p50=in_words["p50"],
        p95=in_words["p95"],
        narrowed=joined(period.encoded, urlencode({"only": f"{dimension}:{one.value}"})),
        paths=paths,
    )


def course_rows(course: Course, links: Links) -> list[CourseRow]:
    """Newest first, without the columns in which nothing happened."""
    now = timezone.now()
    rows = []
    for place, totals in enumerate(course.totals):
        if totals == Totals():
            continue
        start, end = course.edges[place], course.edges[place + 1]
        waits = waits_in_words(course.waits[place] if course.waits else Waits())
        rows.append(
            CourseRow(start, start <= now < end, totals, waits["p50"], waits["p95"], links.within(start, end).all())
        )
    return rows[::-1]


def joined(*queries: str) -> str:
    return "&".join(query for query in queries if query)
