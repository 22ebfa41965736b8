"""What the tables hold of accepted messages, and the one statement that writes it all.

A batch crosses to the database once: each message and each recipient as a row of JSON, the contents beside them as octets.
The statement asks the suppressions, and by their answer writes recipients, events, queue entries and what is owed to senders.
One statement costs one round trip and one plan whatever the number of tables, where a COPY for each would cost five; a batch
holds few messages as long as few clients talk at the same time, so that is most of what acceptance costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from accounts.identifiers import uuid7_at
from delivery import suppression_list
from delivery.acceptance import quota
from delivery.acceptance.message import NewMessage, NewRecipient
from delivery.core.mailbox import NULL_REVERSE_PATH
from delivery.core.notices import Notice
from delivery.core.states import EventKind, RecipientState
from delivery.models.owed import OwedAction
from delivery.queue import enqueue, wake
from delivery.queue.enqueue import Place, Sender

TEST_REASON = "test"

Connection = psycopg.AsyncConnection[Any]

_encode = msgspec.json.Encoder().encode

_MESSAGE = """id uuid, tenant_id uuid, credential_id uuid, stream_id uuid, domain_id uuid, accepted_at timestamptz,
              expires_at timestamptz, reverse_path varchar, author varchar, author_domain varchar, subject varchar,
              header_message_id varchar, size_bytes int8, recipient_count int4, body_type varchar, needs_smtputf8 bool,
              dsn_ret varchar, dsn_envid varchar, protocol varchar, peer_address inet, peer_ehlo varchar, is_test bool,
              tags varchar[], metadata jsonb, retention_days int2, tls varchar"""
_MESSAGE_COLUMNS = ", ".join(column.split()[0] for column in _MESSAGE.split(","))

_SUPPRESSED = suppression_list.lateral(
    address="given.address", domain="given.domain", tenant="given.tenant_id", stream="given.stream_id"
)

# `reason` is why a recipient is kept back; null where it is queued. PostgreSQL carries out the parts that nothing else reads
# from the last to the first: so the rows that others wait for, quotas above all, are locked as late as can be.
_STORE = f"""
WITH fate AS MATERIALIZED (
    SELECT given.*, COALESCE(given.kept_back, suppression.reason) AS reason, suppression.id AS suppression_id
    FROM json_to_recordset(%(recipients)s::json) AS given (
        id uuid, message_id uuid, tenant_id uuid, stream_id uuid, credential_id uuid, address varchar, domain varchar,
        group_id int8, lane_id int8, domain_route_id int8, accepted_at timestamptz, first_attempt_at timestamptz,
        lifetime_begins_at timestamptz, send_at timestamptz, kept_back varchar, dsn_notify varchar[], dsn_orcpt varchar,
        notices int2, accepted_event uuid, suppressed_event uuid)
    LEFT JOIN LATERAL {_SUPPRESSED} AS suppression ON given.kept_back IS NULL
), charged AS (
    {quota.CHARGE}
), due AS (
    {enqueue.MARK_DUE}
), hit AS (
    UPDATE delivery_suppression AS suppression SET hits = suppression.hits + hit.count, last_hit_at = now()
    FROM (SELECT suppression_id, count(*) FROM fate WHERE suppression_id IS NOT NULL GROUP BY suppression_id) AS hit,
         (SELECT id FROM delivery_suppression WHERE id IN (SELECT suppression_id FROM fate) ORDER BY id FOR UPDATE) AS locked
    WHERE suppression.id = hit.suppression_id AND locked.id = suppression.id
), message AS (
    INSERT INTO delivery_message ({_MESSAGE_COLUMNS})
    SELECT {_MESSAGE_COLUMNS} FROM json_to_recordset(%(messages)s::json) AS given ({_MESSAGE})
), content AS (
    INSERT INTO delivery_content (message_id, retention_days, compressed)
    SELECT * FROM unnest(%(content_ids)s::uuid[], %(retentions)s::int2[], %(contents)b::bytea[])
), recipient AS (
    INSERT INTO delivery_recipient (id, message_id, tenant_id, address, domain, group_id, state, state_since, reason, attempts,
                                    next_attempt_at, phase, reply, reply_class, action, scope, rule, host,
                                    has_ambiguous_attempt, returned_class, dsn_notify, dsn_orcpt)
    SELECT id, message_id, tenant_id, address, domain, group_id,
           CASE WHEN reason IS NULL THEN '{RecipientState.QUEUED}' ELSE '{RecipientState.SUPPRESSED}' END,
           accepted_at, COALESCE(reason, ''), 0, CASE WHEN reason IS NULL THEN first_attempt_at END,
           '', '', '', '', '', '', '', false, '', dsn_notify, dsn_orcpt
    FROM fate
), event AS (
    INSERT INTO delivery_event (id, message_id, recipient_id, tenant_id, kind, occurred_at, data)
    SELECT accepted_event, message_id, id, tenant_id, '{EventKind.ACCEPTED}', accepted_at, '{{}}'::jsonb FROM fate
    UNION ALL
    SELECT suppressed_event, message_id, id, tenant_id, '{EventKind.SUPPRESSED}', accepted_at,
           jsonb_build_object('reason', reason)
    FROM fate WHERE reason IS NOT NULL
), entry AS (
    INSERT INTO delivery_queue_entry (recipient_id, message_id, tenant_id, credential_id, lane_id, domain_route_id,
                                      accepted_at, next_attempt_at, attempts, losses, notices)
    SELECT id, message_id, tenant_id, credential_id, lane_id, domain_route_id,
           lifetime_begins_at, GREATEST(send_at, now()), 0, 0, notices
    FROM fate WHERE reason IS NULL
), owed AS (
    INSERT INTO delivery_owed_dsn (tenant_id, message_id, recipient_id, action, happened_at, due_at)
    SELECT tenant_id, message_id, id, '{OwedAction.FAILED}', accepted_at, accepted_at
    FROM fate WHERE suppression_id IS NOT NULL AND notices & {Notice.FAILURE:d} <> 0
)
SELECT CASE WHEN cardinality(%(lanes)s::bigint[]) > 0 THEN pg_notify('{wake.LANES}', '') END
"""


async def store(
    connection: Connection, messages: Sequence[NewMessage], places: Mapping[tuple[Sender, str], Place]
) -> None:
    """Write messages with all that belongs to them; ``places`` has one for each sender and domain whose mail is no test.

    Raises quota.Exceeded.
    """
    recipients = [
        _recipient(
            message, recipient, None if message.principal.is_test else places[sender_of(message), recipient.domain]
        )
        for message in messages
        for recipient in message.recipients
    ]
    try:
        await connection.execute(
            _STORE,
            {
                "messages": _encode([_message(message) for message in messages]).decode(),
                "content_ids": [message.id for message in messages],
                "retentions": [message.principal.retention_days for message in messages],
                "contents": [message.compressed for message in messages],
                "recipients": _encode(recipients).decode(),
                "lanes": sorted({place.lane_id for place in places.values()}),
                "charges": _encode(quota.charges(messages)).decode(),
            },
            prepare=True,
        )
    except psycopg.Error as error:
        if (exceeded := quota.exceeded(error)) is not None:
            raise exceeded from None
        raise


def sender_of(message: NewMessage) -> Sender:
    return Sender(message.pool_id, message.principal.tenant_id, message.principal.stream_id)


def _message(message: NewMessage) -> dict[str, Any]:
    principal, envelope = message.principal, message.envelope
    return {
        "id": message.id,
        "tenant_id": principal.tenant_id,
        "credential_id": principal.credential_id,
        "stream_id": principal.stream_id,
        "domain_id": message.domain_id,
        "accepted_at": message.accepted_at,
        "expires_at": message.expires_at,
        "reverse_path": envelope.reverse_path.address if envelope.reverse_path else NULL_REVERSE_PATH,
        "author": message.author[:320],
        "author_domain": message.author_domain,
        "subject": message.subject[:998],
        "header_message_id": message.header_message_id[:998],
        "size_bytes": message.size_bytes,
        "recipient_count": len(message.recipients),
        "body_type": envelope.body,
        "needs_smtputf8": envelope.smtputf8,
        "dsn_ret": envelope.ret or "",
        "dsn_envid": envelope.envid or "",
        "protocol": message.peer.protocol,
        "peer_address": message.peer.address or None,
        "peer_ehlo": message.peer.ehlo[:255],
        "is_test": principal.is_test,
        "tags": message.controls.tags,
        "metadata": message.controls.metadata,
        "retention_days": principal.retention_days,
        "tls": message.controls.tls or "",
    }


def _recipient(message: NewMessage, recipient: NewRecipient, place: Place | None) -> dict[str, Any]:
    """``place`` is None for a test: it is kept back, and waits nowhere."""
    principal = message.principal
    return {
        "id": recipient.id,
        "message_id": message.id,
        "tenant_id": principal.tenant_id,
        "stream_id": principal.stream_id,
        "credential_id": principal.credential_id,
        "address": recipient.address,
        "domain": recipient.domain,
        "group_id": place.group_id if place else None,
        "lane_id": place.lane_id if place else None,
        "domain_route_id": place.domain_route_id if place else None,
        "accepted_at": message.accepted_at,
        "first_attempt_at": message.first_attempt_at,
        "lifetime_begins_at": message.lifetime_begins_at,
        "send_at": message.controls.send_at,
        "kept_back": None if place else TEST_REASON,
        "dsn_notify": recipient.notify,
        "dsn_orcpt": recipient.orcpt,
        "notices": int(recipient.notices),
        "accepted_event": uuid7_at(message.id),
        "suppressed_event": uuid7_at(message.id),
    }
