"""How times, durations and sizes are written: in the reader's zone and language, with the exact UTC time one step away."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from django.utils import timezone as clock
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext, pgettext

UTC = timezone.utc  # noqa: UP017 - datetime.UTC is typed as an instance only


def time_tag(moment: datetime | None, *, style: str = "list") -> SafeString:
    """`list`: the time today, date and time before; `full`: always both; `clock`: with milliseconds, for timelines."""
    if moment is None:
        return SafeString("")
    exact = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        exact.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        exact.strftime("%Y-%m-%d %H:%M:%S"),
        written(moment, style=style),
    )


def written(moment: datetime, *, style: str = "list") -> str:
    local = clock.localtime(moment)
    of_day = local.strftime("%H:%M:%S")
    if style == "clock":
        return f"{of_day}.{local.microsecond // 1000:03d}"
    if style == "list" and local.date() == clock.localdate():
        return of_day
    if style == "list":
        return f"{day(local)} {local.strftime('%H:%M')}"
    return f"{date_format(local, 'Y-m-d')} {of_day}"


def day(local: datetime) -> str:
    # Translators: date format of Django's date filter, without the year, in lists.
    short = pgettext("short date", "M j")
    # Translators: the same with the year, for dates of other years.
    long = pgettext("date", "M j, Y")
    return date_format(local, short if local.year == clock.localdate().year else long)


def zone_name() -> str:
    return clock.get_current_timezone_name()


def duration(length: timedelta | float) -> str:
    """The two largest units that matter: 3 days, 2 h 5 min, 480 ms."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if seconds < 1:
        return gettext("{n} ms").format(n=round(seconds * 1000))
    if seconds < 60:
        return gettext("{n} s").format(n=f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}".removesuffix(".0"))
    minutes = round(seconds / 60)
    if minutes < 60:
        return gettext("{n} min").format(n=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return gettext("{h} h {m} min").format(h=hours, m=minutes) if minutes else gettext("{h} h").format(h=hours)
    days = round(hours / 24)
    return ngettext("{n} day", "{n} days", days).format(n=days)


def size(octets: int) -> str:
    value = float(octets)
    for unit in ("B", "KB", "MB"):
        if value < 1000 or unit == "MB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def percent(rate: float) -> str:
    """Never rounded up to 100 or down to 0: that would say what is not so."""
    percent = rate * 100
    if percent in {0, 100}:
        return f"{percent:.0f}"
    if percent < 1:
        return f"{max(percent, 0.01):.2f}"
    return f"{min(percent, 99.9):.1f}"
