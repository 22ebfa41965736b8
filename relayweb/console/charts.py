"""What the charts of figures are drawn from: one value for each step of a period."""

from __future__ import annotations

from django.utils import timezone
from django.utils.translation import get_language, gettext

from delivery.statistics.figures import Course, Waits
from relayweb.console import moments, words
from relayweb.console.periods import Period
from relayweb.console.sums import waits_in_words

# In the order in which they are stacked, the good news at the bottom.
STACKED = ("delivered", "bounced", "expired", "other")


def volume_chart(course: Course, period: Period) -> dict[str, object]:
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


def times_chart(course: Course, period: Period, waits: Waits) -> dict[str, object]:
    in_words = waits_in_words(waits)

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
