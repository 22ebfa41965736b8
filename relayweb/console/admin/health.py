"""The operator's first page: is everything well, what waits, who works. Numbers only, never a word of anybody's mail."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from delivery.alerts import episodes
from delivery.brakes.pulling import appeals_waiting, pulled_by_step
from delivery.models import Worker
from delivery.queue.figures import recent_queue_stats, tenants_with_open_mail, workers
from relayweb import health
from relayweb.console import words
from relayweb.console.access import operator_page
from relayweb.console.brakes import STEPS

SILENT_AFTER = timedelta(seconds=20)

PARTS: dict[str, str | Promise] = {
    "database": _("Database"),
    "migrations": _("Schema"),
    "durability": _("Durability"),
    "gate": _("Gate"),
    "worker": _("Delivery workers"),
    "broker": _("Broker"),
}


@dataclass(frozen=True, slots=True)
class WorkerLine:
    worker: Worker
    is_silent: bool


@require_safe
@operator_page
def health_page(request: HttpRequest) -> HttpResponse:
    return render(request, "console/admin/health.html", _figures(request))


@require_safe
@operator_page
def live(request: HttpRequest) -> HttpResponse:
    return render(request, "console/admin/_figures.html", _figures(request))


def _figures(request: HttpRequest) -> dict[str, object]:
    now = timezone.now()
    answer = json.loads(health.ready(request).content)
    queue = recent_queue_stats()
    parts = [(PARTS.get(name, name), state == "ok") for name, state in answer["parts"].items()]
    return {
        "parts": parts,
        # Translators: between the parts of a list.
        "failed": gettext(", ").join(str(name) for name, is_ok in parts if not is_ok),
        "section": "operations",
        "queue": queue,
        "providers": [(words.GROUPS.get(row.provider, row.title), row) for row in queue.by_provider],
        "workers": [WorkerLine(worker, worker.heartbeat_at < now - SILENT_AFTER) for worker in workers()],
        "tenants": tenants_with_open_mail(),
        "brakes": [(STEPS[step], number) for step, number in pulled_by_step()],
        "appeals": appeals_waiting(),
        "alerts": sum(one.firing for one in episodes.open_by_kind()),
        "durability": answer.get("durability"),
        "is_test_profile": settings.TEST_PROFILE,
        "looked_at": now,
    }
