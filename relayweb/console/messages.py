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

from delivery import history, saved_filters
from delivery.core.classification import ReplyClass
from delivery.core.states import RecipientState
from delivery.history import Choices, Tally
from delivery.log_filters import OTHER_PROVIDERS, LogFilter
from delivery.time_limit import TookTooLong
from relayweb.console import class_words, moments, stories, words
from relayweb.console.access import Seat, tenant_page

PAGE_SIZE = 50
DEFAULT_DAYS = 7
PERIODS: dict[int, str | Promise] = {1: _("24 hours"), 7: _("7 days"), 30: _("30 days"), 90: _("90 days")}
FURTHER_BACK = timedelta(days=30)
MOST_CHARACTERS = 320
MOST_PROVIDERS = 20
TEXTS = ("recipient", "author", "subject", "tag", "message_id")
FLAGS = ("put_off", "returned", "ambiguous", "complained")
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
    by_outcome: bool = False
    providers: tuple[str, ...] = ()
    author: str = ""
    subject: str = ""
    tag: str = ""
    credential: UUID | None = None
    stream: UUID | None = None
    message_id: str = ""
    attempts: int = 0
    put_off: bool = False
    returned: bool = False
    ambiguous: bool = False
    complained: bool = False

    @classmethod
    def read(cls, given: QueryDict) -> LogQuery:
        days, attempts = given.get("days", ""), given.get("attempts", "")
        return cls(
            states=tuple(state for state in RecipientState if state in given.getlist("state")),
            classes=tuple(known for known in ReplyClass if known in given.getlist("class")),
            recipient=_text(given, "recipient"),
            days=int(days) if days.isdecimal() and int(days) in PERIODS else DEFAULT_DAYS,
            since=_moment(given.get("since", "")),
            until=_moment(given.get("until", "")),
            by_outcome=given.get("time") == "outcome",
            providers=tuple(dict.fromkeys(_plain(key) for key in given.getlist("provider")[:MOST_PROVIDERS] if key)),
            author=_text(given, "author"),
            subject=_text(given, "subject"),
            tag=_text(given, "tag"),
            credential=_uuid(given.get("credential", "")),
            stream=_uuid(given.get("stream", "")),
            message_id=_text(given, "message_id", most=998),
            attempts=int(attempts) if attempts.isdecimal() and len(attempts) < 4 else 0,
            **{name: given.get(name) == "1" for name in FLAGS},
        )

    @property
    def encoded(self) -> str:
        """For the address of a page that shows the same."""
        pairs: list[tuple[str, str]] = [("state", state) for state in self.states]
        pairs += [("class", known) for known in self.classes]
        pairs += [("provider", key) for key in self.providers]
        pairs += [(name, value) for name in TEXTS if (value := getattr(self, name))]
        pairs += [(name, str(value)) for name in ("credential", "stream") if (value := getattr(self, name))]
        pairs += [(name, "1") for name in FLAGS if getattr(self, name)]
        if self.attempts:
            pairs.append(("attempts", str(self.attempts)))
        if self.days != DEFAULT_DAYS:
            pairs.append(("days", str(self.days)))
        if self.since:
            pairs.append(("since", _iso(self.since)))
        if self.until:
            pairs.append(("until", _iso(self.until)))
        if self.by_outcome:
            pairs.append(("time", "outcome"))
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
            by_outcome=self.by_outcome,
            providers=frozenset(self.providers),
            author=self.author,
            subject=self.subject,
            tag=self.tag,
            credential=self.credential,
            stream=self.stream,
            header_message_id=self.message_id,
            min_attempts=self.attempts,
            was_put_off=self.put_off,
            is_returned=self.returned,
            is_ambiguous=self.ambiguous,
            is_complained=self.complained,
        )

    def further_back(self, now: datetime) -> LogQuery:
        """The same, for the 30 days before this window."""
        since, _until = self.window(now)
        return replace(self, since=since - FURTHER_BACK, until=since, days=DEFAULT_DAYS)

    @property
    def is_default_period(self) -> bool:
        return self.since is None and self.until is None and self.days == DEFAULT_DAYS and not self.by_outcome

    @property
    def number_of_more(self) -> int:
        """Criteria in force that stand behind "more filters"."""
        single = (self.author, self.subject, self.tag, self.credential, self.stream, self.message_id, self.attempts)
        period = (self.since or self.until, self.by_outcome)
        return (
            len(self.providers) + sum(map(bool, (*single, *period))) + sum(bool(getattr(self, name)) for name in FLAGS)
        )


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
    choices = history.choices_of(seat.tenant)
    context = {
        "section": "messages",
        "query": query,
        "states": words.STATES,
        "classes": class_words.CLASSES,
        "periods": PERIODS,
        "flags": _flags(query),
        "choices": choices,
        "chips": chips_of(query, choices),
        "saved": saved_filters.visible_to(seat.tenant, seat.person),
        "further_back": query.further_back(now),
        "since": narrowed.since,
        "until": narrowed.until,
    }
    try:
        page = history.page_of_recipients(
            seat.tenant, narrowed, before=_key(request, "before"), after=_key(request, "after"), size=PAGE_SIZE
        )
        is_first = "before" not in request.GET and "after" not in request.GET
        whole = page.rows if is_first and page.older is None else None
        counted = history.tally(seat.tenant, narrowed, whole=whole)
    except TookTooLong:
        return render(request, "console/messages/log.html", {**context, "took_too_long": True})
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


def _flags(query: LogQuery) -> list[tuple[str, words.Text, bool]]:
    return [(name, words.LOG_FLAGS[name], getattr(query, name)) for name in FLAGS]


def chips_of(query: LogQuery, choices: Choices) -> list[Chip]:
    """What is in force, each with the address without it."""
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
            class_words.CLASSES[known].label,
            replace(query, classes=tuple(other for other in query.classes if other != known)).encoded,
        )
        for known in query.classes
    ]
    chips += [
        Chip(
            gettext("Provider"),
            words.OTHER_PROVIDERS if key == OTHER_PROVIDERS else choices.providers.get(key, key),
            replace(query, providers=tuple(other for other in query.providers if other != key)).encoded,
        )
        for key in query.providers
    ]
    chips += [
        Chip(words.LOG_TEXTS[name], value, replace(query, **{name: ""}).encoded)  # type: ignore[arg-type]
        for name in TEXTS
        if (value := getattr(query, name))
    ]
    for name, title, named in (
        ("credential", gettext("Credential"), choices.credentials),
        ("stream", gettext("Stream"), choices.streams),
    ):
        if (key := getattr(query, name)) is not None:
            without = replace(query, **{name: None}).encoded  # type: ignore[arg-type]
            chips.append(Chip(title, named.get(str(key), str(key)), without))
    if query.attempts:
        chips.append(Chip(gettext("Attempts at least"), str(query.attempts), replace(query, attempts=0).encoded))
    chips += [
        Chip(gettext("Only"), words.LOG_FLAGS[name], replace(query, **{name: False}).encoded)  # type: ignore[arg-type]
        for name in FLAGS
        if getattr(query, name)
    ]
    if not query.is_default_period:
        plain = replace(query, days=DEFAULT_DAYS, since=None, until=None, by_outcome=False).encoded
        title = gettext("Settled within") if query.by_outcome else gettext("Period")
        chips.append(Chip(title, _period_words(query), plain))
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


def _text(given: QueryDict, name: str, *, most: int = MOST_CHARACTERS) -> str:
    return _plain(given.get(name, ""))[:most]


def _plain(text: str) -> str:
    return text.replace("\x00", "").strip()


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
