"""Statistics: how much, what became of it, why and how fast, by any dimension; and the same as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from delivery.exports import cell
from delivery.statistics import figures
from delivery.statistics.counting import ALL, CREDENTIAL, DIMENSIONS, PROVIDER, STREAM
from delivery.statistics.figures import Totals, Waits
from relayweb.console import class_words, periods, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.charts import times_chart, volume_chart
from relayweb.console.periods import Period
from relayweb.console.sums import (
    Links,
    Narrowing,
    answer_of,
    course_rows,
    figures_of,
    joined,
    rates_of,
    rows_of,
    sum_of,
    waits_in_words,
)

MOST_VALUES = 50


@dataclass(frozen=True, slots=True)
class ClassRow:
    label: words.Text
    failed: int
    returned: int
    failed_path: str
    returned_path: str


@tenant_page()
@require_safe
def statistics(request: HttpRequest, seat: Seat) -> HttpResponse:
    period = periods.read(request.GET)
    narrowing = _narrowing(seat, request.GET.get("only", ""))
    by = request.GET.get("by", PROVIDER)
    by = by if by in DIMENSIONS else PROVIDER
    links = Links(seat, period, narrowing)
    course = figures.course(seat.tenant, period.edges, dimension=narrowing.dimension, value=narrowing.value)
    whole = sum_of(course.totals)
    waits = figures.waits(seat.tenant, period.since, period.until, dimension=narrowing.dimension, value=narrowing.value)
    context = {
        "section": "statistics",
        "period": period,
        "choices": periods.CHOICES,
        "narrowing": narrowing,
        "by": by,
        "answer": answer_of(whole, period),
        "whole": whole,
        "waits": waits_in_words(waits),
        "figures": figures_of(whole, None, links),
        "rates": rates_of(whole),
        "volume": volume_chart(course, period),
        "times": times_chart(course, period, waits),
        "course": course_rows(course, links),
        "classes": _class_rows(seat, period, narrowing, links),
        "kept": (narrowing.encoded, f"by={by}" if by != PROVIDER else ""),
        "query": joined(period.encoded, narrowing.encoded),
        "query_without": period.encoded,
    }
    if narrowing.dimension == ALL:
        found = figures.breakdown(seat.tenant, period.since, period.until, dimension=by, most=MOST_VALUES)
        context |= {
            "rows": rows_of(seat, found, by, period),
            "left_out": found.left_out,
            "dimensions": [
                (dimension, words.DIMENSIONS[dimension], joined(period.encoded, f"by={dimension}"))
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


def _class_rows(seat: Seat, period: Period, narrowing: Narrowing, links: Links) -> list[ClassRow]:
    found = figures.classes(
        seat.tenant, period.since, period.until, dimension=narrowing.dimension, value=narrowing.value
    )
    rows = []
    for one in found:
        known = class_words.known(class_words.CLASSES, one.reply_class)
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
