"""The send log: find one mail in ten seconds, or all of a kind. One row is one recipient, newest first.

Three parts refresh: the count bar by itself, the open rows on the screen in one request, nothing else; a row never moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from delivery import history
from delivery.core.classification import ReplyClass
from delivery.core.states import RecipientState
from delivery.history import LogFilter, Tally, TookTooLong
from relayweb.console import moments, stories, words
from relayweb.console.access import Seat, tenant_page

PAGE_SIZE = 50
DEFAULT_DAYS = 7
PERIODS: dict[int, str | Promise] = {1: _("24 hours"), 7: _("7 days"), 30: _("30 days"), 90: _("90 days")}
FURTHER_BACK = timedelta(days=30)
MOST_RECIPIENT_CHARACTERS = 320
MOST_OPEN_ROWS = PAGE_SIZE


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The filter as it stands in the address of the page. What cannot be read is left out, never an error."""

    states: tuple[RecipientState, ...] = ()
    classes: tuple[ReplyClass, ...] = ()
    recipient: str = ""
    days: int = DEFAULT_DAYS
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def read(cls, given: QueryDict) -> LogQuery:
        days = given.get("days", "")
        return cls(
            states=tuple(state for state in RecipientState if state in given.getlist("state")),
            classes=tuple(known for known in ReplyClass if known in given.getlist("class")),
            recipient=given.get("recipient", "").replace("\x00", "").strip()[:MOST_RECIPIENT_CHARACTERS],
            days=int(days) if days.isdecimal() and int(days) in PERIODS else DEFAULT_DAYS,
            since=_moment(given.get("since", "")),
            until=_moment(given.get("until", "")),
        )

    @property
    def encoded(self) -> str:
        """For the address of a page that shows the same."""
        pairs: list[tuple[str, str]] = [("state", state) for state in self.states]
        pairs += [("class", known) for known in self.classes]
        if self.recipient:
            pairs.append(("recipient", self.recipient))
        if self.days != DEFAULT_DAYS:
            pairs.append(("days", str(self.days)))
        if self.since:
            pairs.append(("since", _iso(self.since)))
        if self.until:
            pairs.append(("until", _iso(self.until)))
        return urlencode(pairs)

    def window(self, now: datetime) -> tuple[datetime, datetime | None]:
        since = self.since or (self.until or now) - timedelta(days=self.days)
        # Begins at a whole minute, so that an address of a part that refreshes finds the same rows a moment later.
        return since.replace(second=0, microsecond=0), self.until

    def narrowed(self, now: datetime) -> LogFilter:
        since, until = self.window(now)
        return LogFilter(
            states=frozenset(self.states),
            classes=frozenset(self.classes),
            recipient=self.recipient,
            since=since,
            until=until,
        )

    def further_back(self, now: datetime) -> LogQuery:
        """The same, for the 30 days before this window."""
        since, _until = self.window(now)
        return replace(self, since=since - FURTHER_BACK, until=since, days=DEFAULT_DAYS)

    @property
    def is_default_period(self) -> bool:
        return self.since is None and self.until is None and self.days == DEFAULT_DAYS


@dataclass(frozen=True, slots=True)
class Chip:
    """One criterion in force, and the address without it."""

    name: str
    value: str | Promise
    without: str


@require_safe
@tenant_page()
def log(request: HttpRequest, seat: Seat) -> HttpResponse:
    now = timezone.now()
    query = LogQuery.read(request.GET)
    narrowed = query.narrowed(now)
    context = {
        "section": "messages",
        "query": query,
        "states": words.STATES,
        "classes": words.CLASSES,
        "periods": PERIODS,
        "chips": _chips(query),
        "further_back": query.further_back(now),
        "since": narrowed.since,
        "until": narrowed.until,
    }
    try:
        page = history.page_of_recipients(
            seat.tenant, narrowed, before=_key(request, "before"), after=_key(request, "after"), size=PAGE_SIZE
        )
        counted = history.tally(seat.tenant, narrowed)
    except TookTooLong:
        return render(request, "console/messages/log.html", {**context, "took_too_long": True})
    is_first = "before" not in request.GET and "after" not in request.GET
    is_unused = not page.rows and is_first and not history.has_recipients(seat.tenant)
    lines = [stories.line_of(row) for row in page.rows]
    context |= {
        "page": page,
        "lines": lines,
        "watched": _watched(lines),
        "is_unused": is_unused,
        **_summary(query, counted, now=now, newest=page.rows[0].recipient_id if page.rows and is_first else None),
    }
    return render(request, "console/messages/log.html", context)


@require_safe
@tenant_page()
def live_summary(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The count bar. 204 while it would read the same; the time of the look then travels in a header."""
    now = timezone.now()
    query, newest = LogQuery.read(request.GET), _key(request, "newest")
    try:
        counted = history.tally(seat.tenant, query.narrowed(now), newer_than=newest)
    except TookTooLong:
        return HttpResponse(status=503)
    summary = _summary(query, counted, now=now, newest=newest)
    if request.GET.get("seen") == summary["seen"]:
        return unchanged(now)
    return render(request, "console/messages/_summary.html", {"query": query, **summary})


@require_safe
@tenant_page()
def live_rows(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The open rows on a reader's screen: those that have changed, and what is to be watched from now on."""
    query = LogQuery.read(request.GET)
    watched = _read_watched(request.GET.get("rows", ""))
    lines = [stories.line_of(row) for row in history.rows_of(seat.tenant, list(watched))]
    changed = [line for line in lines if watched[line.row.recipient_id] != line.seen]
    if not changed:
        return unchanged(timezone.now())
    said = ngettext("{n} recipient has changed.", "{n} recipients have changed.", len(changed)).format(n=len(changed))
    context = {"query": query, "lines": changed, "watched": _watched(lines), "said": said}
    return render(request, "console/messages/_changed_rows.html", context)


def unchanged(now: datetime) -> HttpResponse:
    return HttpResponse(status=204, headers={"X-Looked-At": moments.written(now)})


def _summary(query: LogQuery, counted: Tally, *, now: datetime, newest: UUID | None) -> dict[str, object]:
    by_state = [
        (words.STATES[state], number, replace(query, states=(state,))) for state, number in counted.by_state.items()
    ]
    return {
        "counted": counted,
        "by_state": by_state if counted.is_exact else [],
        "looked_at": now,
        "newest": newest,
        "newer": ngettext("Show {n} new", "Show {n} new", counted.newer).format(n=f"{counted.newer:,}"),
        "seen": f"{counted.total}-{counted.newer}-"
        + "".join(f"{state[:2]}{n}" for state, n in counted.by_state.items()),
        "answer": _answer(query, counted),
    }


def _answer(query: LogQuery, counted: Tally) -> str:
    """The sentence that a reader came for."""
    if not counted.is_exact:
        number = gettext("{n} or more").format(n=f"{counted.total:,}")
        return gettext("{n} recipients match.").format(n=number)
    return ngettext("{n} recipient matches.", "{n} recipients match.", counted.total).format(n=f"{counted.total:,}")


def _chips(query: LogQuery) -> list[Chip]:
    chips = [
        Chip(
            gettext("State"),
            words.STATES[state].label,
            replace(query, states=tuple(other for other in query.states if other != state)).encoded,
        )
        for state in query.states
    ]
    chips += [
        Chip(
            gettext("Reason"),
            words.CLASSES[known].label,
            replace(query, classes=tuple(other for other in query.classes if other != known)).encoded,
        )
        for known in query.classes
    ]
    if query.recipient:
        chips.append(Chip(gettext("Recipient"), query.recipient, replace(query, recipient="").encoded))
    if not query.is_default_period:
        plain = replace(query, days=DEFAULT_DAYS, since=None, until=None).encoded
        chips.append(Chip(gettext("Period"), _period_words(query), plain))
    return chips


def _period_words(query: LogQuery) -> str | Promise:
    if query.since is None and query.until is None:
        return PERIODS[query.days]
    ends = [moments.written(end, style="full")[:16] if end else "" for end in (query.since, query.until)]
    return f"{ends[0]} – {ends[1]}"


def _watched(lines: list[stories.Line]) -> str:
    """The open rows among these, each with what it looked like: id.seen,id.seen"""
    return ",".join(f"{line.row.recipient_id.hex}.{line.seen}" for line in lines if line.row.is_open)


def _read_watched(text: str) -> dict[UUID, str]:
    watched = {}
    for word in text.split(",")[:MOST_OPEN_ROWS]:
        key, _, looked_like = word.partition(".")
        if (found := _uuid(key)) is not None:
            watched[found] = looked_like
    return watched


def _key(request: HttpRequest, name: str) -> UUID | None:
    return _uuid(request.GET.get(name, ""))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text.strip().replace(" ", "+"))
    except ValueError:
        return None
    if moment is None or not 2000 <= moment.year <= 2999:
        return None
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
