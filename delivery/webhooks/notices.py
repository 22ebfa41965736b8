"""Tells the people of a tenant that a webhook was disabled without them: it answered 410, or failed for days."""

from __future__ import annotations

from django.db import transaction

from accounts import notices
from accounts.models import NoticeKind
from delivery.models import Webhook

_MOST_AT_ONCE = 50


def raise_due() -> int:
    """How many webhooks a notice was raised for. Callers only mark them, so that their settlements stay short."""
    with transaction.atomic():
        due = list(
            Webhook.objects.select_related("tenant")
            .select_for_update(skip_locked=True, of=("self",))
            .filter(is_notice_due=True)[:_MOST_AT_ONCE]
        )
        for webhook in due:
            notices.raise_notice(
                webhook.tenant, NoticeKind.WEBHOOK_OFF, subject=str(webhook.id), data=_figures(webhook)
            )
        Webhook.objects.filter(pk__in=[webhook.pk for webhook in due]).update(is_notice_due=False)
    return len(due)


def close(webhook: Webhook) -> None:
    """It was switched on again, or removed."""
    notices.close_notice(webhook.tenant, NoticeKind.WEBHOOK_OFF, subject=str(webhook.id))


def _figures(webhook: Webhook) -> dict[str, object]:
    since = webhook.failing_since or webhook.disabled_at
    return {
        "webhook_id": str(webhook.id),
        "name": webhook.name or webhook.url,
        "since": since.isoformat() if since is not None else "",
        "last": str(webhook.last_status or webhook.last_outcome),
        "days": webhook.tenant.log_retention_days,
    }
