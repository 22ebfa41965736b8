"""Readers who asked to stop: when, from which stream, how, and the mail they did it from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from delivery import suppression_files, suppression_search
from delivery.models import Message, Stream, Suppression, SuppressionReason
from delivery.suppression_search import ListFilter
from relayweb.console import suppression_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.keysets import key_of
from relayweb.console.suppressions import MOST_CHARACTERS, MOST_COUNTED, csv_answer

COUNTED = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Line:
    row: Suppression
    how: words.Text
    subject: str
    is_active: bool


@tenant_page()
@require_safe
def unsubscribe_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    wanted = _wanted(request.GET)
    page = suppression_search.page_of(
        seat.tenant, wanted, before=key_of(request, "before"), after=key_of(request, "after")
    )
    asked = [row.message_id for row in page.rows if row.message_id]
    subjects = dict(Message.objects.of(seat.tenant).filter(pk__in=asked).values_list("pk", "subject"))
    total = suppression_search.count_up_to(seat.tenant, wanted, most=MOST_COUNTED)
    context = {
        "section": "unsubscribes",
        "page": page,
        "lines": [_line(row, subjects) for row in page.rows],
        "wanted": wanted,
        "total": min(total, MOST_COUNTED),
        "is_more": total > MOST_COUNTED,
        "is_unused": not total and not wanted.query and not wanted.stream,
        "streams": _streams(seat),
    }
    return render(request, "console/unsubscribes.html", context)


@tenant_page()
@require_safe
def export(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    lines = suppression_files.export_csv(seat.tenant, _wanted(request.GET))
    return csv_answer(lines, name=f"unsubscribes-{seat.tenant.slug}")


def _wanted(given: QueryDict) -> ListFilter:
    return ListFilter(
        query=given.get("q", "").replace("\0", "").strip()[:MOST_CHARACTERS],
        stream=given.get("stream", "").replace("\0", "")[:120],
        reason=SuppressionReason.UNSUBSCRIBE,
    )


def _line(row: Suppression, subjects: dict[UUID, str]) -> Line:
    subject = subjects.get(row.message_id, "") if row.message_id else ""
    return Line(row, suppression_words.UNSUBSCRIBED_HOW.get(row.detail, row.detail), subject, row.is_active())


def _streams(seat: Seat) -> list[tuple[str, int]]:
    """Each stream with how many left it lately."""
    recent = Q(reason=SuppressionReason.UNSUBSCRIBE, created_at__gt=timezone.now() - COUNTED, removed_at=None)
    left = dict(
        Suppression.objects.of(seat.tenant)
        .filter(recent, stream__isnull=False)
        .values_list("stream__name")
        .annotate(number=Count("id"))
    )
    names = Stream.objects.of(seat.tenant).order_by("name").values_list("name", flat=True)
    return [(name, left.get(name, 0)) for name in names]
