"""The log of calls, and what waits or is dead, as people read it: by keyset, newest first, the tenant always named.

Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.utils.translation import gettext as _

from accounts.identifiers import first_of
from accounts.models import Tenant
from accounts.refusals import NotFound
from delivery.models import Webhook, WebhookCall, WebhookEvent, WebhookOutcome

_MOST_COUNTED = 10_000
# What a list shows: bodies are read one call at a time.
_SHOWN = (
    "id", "webhook_id", "tenant_id", "called_at", "duration_ms", "kind", "event_ids", "recipient", "number", "outcome",
    "status", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallFilter:
    failed: bool = False
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Counted to 10,000 and no further."""

    waiting: int
    dead: int


def calls_of(
    webhook: Webhook, chosen: CallFilter | None = None, *, before: UUID | None = None, most: int = 50
) -> list[WebhookCall]:
    """At most ``most`` + 1 calls, so that the reader sees whether there are more. ``before`` is the last id of a page."""
    chosen = chosen or CallFilter()
    calls = WebhookCall.objects.of(webhook.tenant_id).filter(webhook_id=webhook.id).only(*_SHOWN)
    if chosen.failed:
        calls = calls.exclude(outcome=WebhookOutcome.OK)
    if chosen.kind:
        calls = calls.filter(kind=chosen.kind)
    if chosen.since is not None:
        calls = calls.filter(id__gte=first_of(chosen.since))
    if chosen.until is not None:
        calls = calls.filter(id__lt=first_of(chosen.until))
    if before is not None:
        calls = calls.filter(id__lt=before)
    return list(calls.order_by("-id")[: most + 1])


def find_call(tenant: Tenant, webhook: Webhook, call_id: UUID) -> WebhookCall:
    """Raises NotFound."""
    call = WebhookCall.objects.of(tenant).filter(webhook_id=webhook.id, id=call_id).first()
    if call is None:
        raise NotFound(_("There is no such call, or its log is not kept any more."), field="call")
    return call


def call_of_test(webhook: Webhook, test_id: UUID) -> WebhookCall | None:
    """The call that a test led to, once it was made."""
    calls = WebhookCall.objects.of(webhook.tenant_id).filter(webhook_id=webhook.id, id__gte=_just_before(test_id))
    return calls.filter(event_ids=[test_id]).first()


def backlog_of(webhook: Webhook) -> Backlog:
    return backlogs([webhook])[webhook.id]


def backlogs(webhooks: Sequence[Webhook]) -> dict[UUID, Backlog]:
    """Of many webhooks, with one question."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT wanted.id,
                       (SELECT count(*) FROM (SELECT FROM delivery_webhookevent WHERE webhook_id = wanted.id
                                              AND died_at IS NULL LIMIT {_MOST_COUNTED}) AS waiting),
                       (SELECT count(*) FROM (SELECT FROM delivery_webhookevent WHERE webhook_id = wanted.id
                                              AND died_at IS NOT NULL LIMIT {_MOST_COUNTED}) AS dead)
                FROM unnest(%s::uuid[]) AS wanted (id)""",
            [[webhook.id for webhook in webhooks]],
        )
        return {key: Backlog(waiting, dead) for key, waiting, dead in cursor.fetchall()}


def dead_events(webhook: Webhook, *, before: int | None = None, most: int = 50) -> list[WebhookEvent]:
    """At most ``most`` + 1 events that could not be told, newest first."""
    events = WebhookEvent.objects.of(webhook.tenant_id).filter(webhook_id=webhook.id).exclude(died_at=None)
    if before is not None:
        events = events.filter(id__lt=before)
    return list(events.order_by("-id")[: most + 1])


def _just_before(key: UUID) -> UUID:
    """The first key of its millisecond: a call follows the wish for it."""
    return UUID(int=key.int >> 80 << 80)
