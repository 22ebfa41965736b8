"""Telling events once more: those of a call, those of a period, those that died. Each keeps its id.

Mail's events and a tenant's are kept as history, whatever became of their calls, so a replay notes them anew from there. An
event that still waits to be told is only made due.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import Refused
from delivery.models import Webhook, WebhookCall, WebhookState
from delivery.webhooks import wake

# Of one replay; the next one begins where it ended.
MOST_REPLAYED = 50_000

_COLUMNS = "webhook_id, tenant_id, event_id, kind, occurred_at, subject_id, message_id, data, calls, next_call_at"
_AGAIN = """ON CONFLICT (webhook_id, event_id) DO UPDATE SET calls = 0, next_call_at = now(), died_at = NULL"""


def replay_call(call: WebhookCall, webhook: Webhook, *, actor: Actor) -> int:
    """The events of one call. Raises Refused."""
    _refuse_unless_active(webhook)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO delivery_webhookevent ({_COLUMNS})
                SELECT %s, event.tenant_id, event.id, event.kind, event.occurred_at, event.recipient_id, event.message_id,
                       event.data, 0, now()
                FROM unnest(%s::uuid[], %s::uuid[]) WITH ORDINALITY AS called (event_id, message_id, place)
                JOIN delivery_event AS event ON event.message_id = called.message_id AND event.id = called.event_id
                WHERE event.tenant_id = %s ORDER BY called.place {_AGAIN}""",
            [webhook.id, call.event_ids, call.message_ids, webhook.tenant_id],
        )
        count = cursor.rowcount
        cursor.execute(
            f"""INSERT INTO delivery_webhookevent ({_COLUMNS})
                SELECT %s, tenant_id, id, kind, occurred_at, subject_id, NULL, data, 0, now()
                FROM delivery_tenantevent WHERE id = ANY(%s::uuid[]) AND tenant_id = %s ORDER BY id {_AGAIN}""",
            [webhook.id, call.event_ids, webhook.tenant_id],
        )
        return _done(webhook, actor, count + cursor.rowcount, call=call.id)


def replay_period(webhook: Webhook, *, since: datetime, until: datetime, actor: Actor) -> int:
    """What the webhook wants of what happened from ``since`` to before ``until``. Raises Refused."""
    _refuse_unless_active(webhook)
    if since >= until:
        raise Refused(_("The period ends before it begins."), reason="period_malformed", field="until")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO delivery_webhookevent ({_COLUMNS})
                SELECT %(webhook)s, tenant_id, id, kind, occurred_at, subject_id, message_id, data, 0, now()
                FROM (SELECT tenant_id, id, kind, occurred_at, recipient_id AS subject_id, message_id, data
                      FROM delivery_event
                      WHERE tenant_id = %(tenant)s AND kind = ANY(%(kinds)s)
                        AND occurred_at >= %(since)s AND occurred_at < %(until)s
                      UNION ALL
                      SELECT tenant_id, id, kind, occurred_at, subject_id, NULL, data FROM delivery_tenantevent
                      WHERE tenant_id = %(tenant)s AND kind = ANY(%(kinds)s)
                        AND occurred_at >= %(since)s AND occurred_at < %(until)s) AS happened
                ORDER BY occurred_at, (kind <> 'accepted'), id LIMIT %(most)s {_AGAIN}""",
            {
                "webhook": webhook.id,
                "tenant": webhook.tenant_id,
                "kinds": webhook.events,
                "since": since,
                "until": until,
                "most": MOST_REPLAYED,
            },
        )
        return _done(webhook, actor, cursor.rowcount, since=since, until=until)


def replay_dead(webhook: Webhook, *, actor: Actor) -> int:
    """All that could not be told. Raises Refused."""
    _refuse_unless_active(webhook)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE delivery_webhookevent SET calls = 0, next_call_at = now(), died_at = NULL
               WHERE id IN (SELECT id FROM delivery_webhookevent WHERE webhook_id = %s AND died_at IS NOT NULL
                            ORDER BY id LIMIT %s)""",
            [webhook.id, MOST_REPLAYED],
        )
        return _done(webhook, actor, cursor.rowcount, which="dead")


def _refuse_unless_active(webhook: Webhook) -> None:
    if webhook.state != WebhookState.ACTIVE:
        raise Refused(_("Enable the webhook first; then replay."), reason="webhook_disabled")


def _done(webhook: Webhook, actor: Actor, count: int, **which: Any) -> int:
    if count == 0:
        raise Refused(_("There is nothing to replay."), reason="nothing_to_replay")
    audit.record(
        actor,
        "webhook.replay",
        tenant=webhook.tenant,
        object_id=webhook.id,
        object_name=(webhook.name or webhook.url)[:255],
        after={"events": count, **which},
    )
    wake.ring()
    return count
