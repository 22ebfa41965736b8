"""What is to be told of alerts: taken under a lease, sent by whoever is handed it, and noted. Tried again for a day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from delivery.models import AlertTelling

log = structlog.get_logger(__name__)

# Longer than sending may take: who dies in between leaves it to the next after this.
LEASE = timedelta(minutes=2)
GIVEN_UP_AFTER = timedelta(days=1)
_LONGEST_WAIT = timedelta(hours=1)
_MOST_AT_ONCE = 50


def send_due(send: Callable[[AlertTelling], None], *, now: datetime | None = None) -> int:
    """How many were sent. ``send`` raises what goes wrong; that is tried again, less and less often."""
    sent = 0
    for _number in range(_MOST_AT_ONCE):
        telling = _take(now or timezone.now())
        if telling is None:
            break
        try:
            send(telling)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next target is not to suffer
            _put_off(telling, f"{type(error).__name__}: {error}", now or timezone.now())
        else:
            AlertTelling.objects.filter(pk=telling.pk).update(sent_at=now or timezone.now(), next_at=None, error="")
            sent += 1
    return sent


def last_sent() -> dict[str, datetime]:
    """By channel, when something last got through."""
    rows = AlertTelling.objects.filter(sent_at__isnull=False).order_by("channel", "-sent_at").distinct("channel")
    return {row.channel: row.sent_at for row in rows if row.sent_at is not None}


def failing() -> list[AlertTelling]:
    """What could not be told at its last try, the newest first."""
    found = AlertTelling.objects.exclude(error="").filter(
        sent_at=None, created_at__gt=timezone.now() - GIVEN_UP_AFTER * 2
    )
    return list(found.order_by("-id")[:10])


def _take(now: datetime) -> AlertTelling | None:
    with transaction.atomic():
        due = AlertTelling.objects.select_for_update(skip_locked=True, of=("self",)).select_related("alert")
        telling = due.filter(next_at__lte=now).order_by("next_at", "id").first()
        if telling is not None:
            telling.attempts += 1
            AlertTelling.objects.filter(pk=telling.pk).update(next_at=now + LEASE, attempts=telling.attempts)
    return telling


def _put_off(telling: AlertTelling, error: str, now: datetime) -> None:
    is_over = now - telling.created_at >= GIVEN_UP_AFTER
    wait = min(_LONGEST_WAIT, timedelta(seconds=30) * 2 ** min(telling.attempts, 10))
    AlertTelling.objects.filter(pk=telling.pk).update(next_at=None if is_over else now + wait, error=error[:300])
    log.warning("alert_not_told", alert=str(telling.alert), channel=telling.channel, error=error, given_up=is_over)
