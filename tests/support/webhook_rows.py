"""Webhooks and calls written straight into the tables, for tests of what is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from accounts import sealing
from accounts.identifiers import uuid7
from accounts.models import Tenant
from delivery.core.states import EVENT_TYPES
from delivery.models import Webhook, WebhookCall, WebhookEvent

SECRET = "whsec_" + "A" * 43 + "="


def write_webhook(tenant: Tenant, url: str = "http://127.0.0.1:9/hooks", **fields: Any) -> Webhook:
    key = uuid7()
    fields.setdefault("events", list(EVENT_TYPES))
    return Webhook.objects.create(
        id=key,
        tenant=tenant,
        url=url,
        sealed_secret=sealing.seal(SECRET.encode(), context=Webhook.sealing_context(key)),
        **fields,
    )


def write_call(webhook: Webhook, **fields: Any) -> WebhookCall:
    called_at = fields.pop("called_at", datetime.now(tz=UTC))
    values: dict[str, Any] = {
        "id": uuid7(called_at),
        "webhook_id": webhook.id,
        "tenant": webhook.tenant,
        "called_at": called_at,
        "duration_ms": 12,
        "kind": "delivered",
        "event_ids": [uuid7()],
        "message_ids": [None],
        "recipient": "someone@far.test",
        "number": 1,
        "outcome": "ok",
        "status": 200,
        "url": webhook.url,
        "address": "127.0.0.1",
        "request_headers": {"webhook-id": "1"},
        "request_body": '{"type":"delivered"}',
        "response_headers": {"Server": "test"},
        "response_body": "ok",
        **fields,
    }
    return WebhookCall.objects.create(**values)


def write_dead(webhook: Webhook, **fields: Any) -> WebhookEvent:
    now = datetime.now(tz=UTC)
    values: dict[str, Any] = {
        "webhook": webhook,
        "tenant": webhook.tenant,
        "event_id": uuid7(),
        "kind": "bounced",
        "occurred_at": now,
        "subject_id": uuid7(),
        "calls": 11,
        "next_call_at": None,
        "died_at": now,
        **fields,
    }
    return WebhookEvent.objects.create(**values)
