"""What keeps the tables of webhooks bounded: days of the log are dropped, events nobody can be told any more are deleted."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from delivery import partitions
from delivery.models import WebhookState
from delivery.webhooks.endpoints import UNDO_WINDOW

_AT_ONCE = 10_000
CALLS = "delivery_webhookcall"


def forget_old() -> dict[str, int]:
    """How many went of what; what did not go is left out."""
    now = timezone.now()
    old = now - timedelta(days=settings.WEBHOOK_DEAD_DAYS)
    gone = {
        "days": len(partitions.drop_days_before(CALLS, now - timedelta(days=settings.WEBHOOK_LOG_DAYS))),
        "dead": _delete("delivery_webhookevent", "died_at < %s", old),
        # Of webhooks that are called, nothing gets this old.
        "waiting": _delete(
            "delivery_webhookevent",
            "died_at IS NULL AND occurred_at < %s"
            " AND webhook_id IN (SELECT id FROM delivery_webhook WHERE state <> 'active')",
            old,
        ),
        "webhooks": _delete(
            "delivery_webhook", f"state = '{WebhookState.REMOVED}' AND removed_at < %s", now - UNDO_WINDOW
        ),
        "tenant_events": _delete(
            "delivery_tenantevent",
            "occurred_at < %s - make_interval(days => (SELECT log_retention_days FROM accounts_tenant"
            " WHERE id = delivery_tenantevent.tenant_id))",
            now,
        ),
    }
    gone["orphans"] = _delete("delivery_webhookevent", "webhook_id NOT IN (SELECT id FROM delivery_webhook)")
    return {what: count for what, count in gone.items() if count}


def _delete(table: str, condition: str, *values: datetime) -> int:
    """A portion at a time, so that no snapshot is held for long."""
    total = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT {_AT_ONCE})",
                list(values),
            )
            total += cursor.rowcount
            if cursor.rowcount < _AT_ONCE:
                return total
