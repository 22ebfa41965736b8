"""The period that a page of figures is about, cut where the reader's hours and days begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from delivery.statistics.counting import WIDTH, start_of
from relayweb.console import moments

DEFAULT_DAYS = 1
CHOICES: dict[int, str | Promise] = {1: _("24 hours"), 7: _("7 days"), 30: _("30 days")}
LONGEST = timedelta(days=400)
_BY_QUARTERS = timedelta(days=2)
_BY_HOURS = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Period:
    """``edges`` bound the columns of a chart, ascending; the last column may be running still."""

    edges: tuple[datetime, ...]
    days: int | None  # None: chosen by dates
    first: date | None = None
    last: date | None = None
    step: timedelta = WIDTH

    @property
    def since(self) -> datetime:
        return self.edges[0]

    @property
    def until(self) -> datetime:
        return self.edges[-1]

    @property
    def before(self) -> tuple[datetime, datetime]:
        """The period before, of the same length."""
        return start_of(self.since - (self.until - self.since)), self.since

    @property
    def encoded(self) -> str:
        if self.days is None:
            return urlencode({"from": self.first, "to": self.last})
        return urlencode({"days": self.days}) if self.days != DEFAULT_DAYS else ""

    @property
    def in_words(self) -> str:
        """As part of a sentence: the last 24 hours."""
        if self.days == 1:
            return gettext("the last 24 hours")
        if self.days is not None:
            return ngettext("the last {n} day", "the last {n} days", self.days).format(n=self.days)
        if self.first == self.last:
            return moments.day(timezone.localtime(self.since))
        last = timezone.localtime(self.until - WIDTH)
        return gettext("{first} to {last}").format(
            first=moments.day(timezone.localtime(self.since)), last=moments.day(last)
        )

    @property
    def step_in_words(self) -> str:
        """What a column stands for."""
        if self.step == WIDTH:
            return gettext("a quarter of an hour")
        return gettext("an hour") if self.step == timedelta(hours=1) else gettext("a day")


def read(given: QueryDict, *, now: datetime | None = None) -> Period:
    """By ``days``, or by the dates ``from`` and ``to`` in the reader's zone. What cannot be read is left out."""
    now = now or timezone.now()
    first, last = _date(given.get("from", "")), _date(given.get("to", ""))
    if first is not None or last is not None:
        return _by_dates(first, last, now)
    days = given.get("days", "")
    return _by_days(int(days) if days.isdecimal() and int(days) in CHOICES else DEFAULT_DAYS, now)


def _by_days(days: int, now: datetime) -> Period:
    if days == 1:
        until = start_of(now.astimezone(UTC)) + WIDTH
        return Period(_every(until - timedelta(days=1), until, WIDTH), days)
    if days == 7:
        local = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
        until = local.astimezone(UTC) + timedelta(hours=1)
        return Period(_every(until - timedelta(days=7), until, timedelta(hours=1)), days, step=timedelta(hours=1))
    today = timezone.localdate(now)
    return Period(_midnights(today - timedelta(days=days - 1), today), days, step=timedelta(days=1))


def _by_dates(first: date | None, last: date | None, now: datetime) -> Period:
    today = timezone.localdate(now)
    last = min(last or today, today)
    first = min(first or last, last)
    first = max(first, last - LONGEST)
    start, end = _midnight(first), _midnight(last + timedelta(days=1))
    length = end - start
    if length <= _BY_QUARTERS:
        return Period(_every(start, end, WIDTH), None, first, last)
    if length <= _BY_HOURS:
        return Period(_every(start, end, timedelta(hours=1)), None, first, last, timedelta(hours=1))
    return Period(_midnights(first, last), None, first, last, timedelta(days=1))


def _every(start: datetime, end: datetime, step: timedelta) -> tuple[datetime, ...]:
    edges = [start]
    while edges[-1] < end:
        edges.append(edges[-1] + step)
    return tuple(edges)


def _midnights(first: date, last: date) -> tuple[datetime, ...]:
    """A day of 23 or 25 hours is one column like the others."""
    return tuple(_midnight(first + timedelta(days=number)) for number in range((last - first).days + 2))


def _midnight(day: date) -> datetime:
    zone: tzinfo = timezone.get_current_timezone()
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _date(text: str) -> date | None:
    try:
        found = parse_date(text)
    except ValueError:
        return None
    return found if found is not None and 2000 <= found.year <= 2999 else None
