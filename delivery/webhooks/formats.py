"""How an event is written and signed. A webhook chooses one format; a new one is a class and a line at the end.

What a format writes must be the same at every call of an event: receivers recognise repetitions by it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from delivery.core import webhooks
from delivery.core.states import EVENT_TYPES
from delivery.models import WebhookFormat
from delivery.webhooks.postal import Postal
from delivery.webhooks.told import Format, Request, Told

_JSON = msgspec.json.Encoder()


class Standard:
    """Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""

    can_batch = True
    events = EVENT_TYPES

    def new_secret(self) -> str:
        return webhooks.secret_from(os.urandom(webhooks.SECRET_OCTETS))

    def shown(self, secret: str) -> str:
        return secret

    def request(self, events: Sequence[Told], *, secrets: Sequence[str], now: datetime) -> Request:
        documents = [document_of(event) for event in events]
        webhook_id = webhooks.batch_id([document["id"] for document in documents])
        body = _JSON.encode(documents[0] if len(documents) == 1 else batch_of(documents, webhook_id))
        timestamp = int(now.timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": webhooks.signatures(secrets, webhook_id=webhook_id, timestamp=timestamp, body=body),
        }
        return Request(webhook_id, body, headers)


def batch_of(documents: Sequence[Mapping[str, Any]], webhook_id: str) -> dict[str, Any]:
    return {"type": webhooks.BATCH, "id": webhook_id, "events": documents}


def document_of(event: Told) -> dict[str, Any]:
    """The schema that docs/webhooks.md promises: every name is always there, in this order; ``data`` may grow."""
    data = dict(event.data)
    message = event.message
    return {
        "id": str(event.id),
        "type": event.kind,
        "occurred_at": moment_of(event.occurred_at),
        "tenant": {"id": str(event.tenant_id), "slug": event.tenant_slug},
        "message": None
        if message is None
        else {
            "id": str(message.id),
            "header_message_id": message.header_message_id,
            "author": message.author,
            "subject": message.subject,
            "stream": message.stream,
            "credential_id": None if message.credential_id is None else str(message.credential_id),
            "tags": list(message.tags),
            "metadata": dict(message.metadata),
            "is_test": message.is_test,
            "accepted_at": moment_of(message.accepted_at),
        },
        "recipient": None if event.recipient is None else {"id": str(event.subject_id), "address": event.recipient},
        "class": data.pop("class", None),
        "reply": data.pop("reply", None),
        "data": data,
    }


def moment_of(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


FORMATS: dict[str, Format] = {WebhookFormat.STANDARD: Standard(), WebhookFormat.POSTAL: Postal()}
