"""A key by which a client makes sure that a request happens once: claimed in the transaction that stores its message.

So a key without its message, or a message without its key, exists at no moment, whatever is killed when. For ``KEPT`` the
key answers with what the first request became; afterwards it is forgotten, and may be used anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection as django_connection

from delivery.acceptance.message import NewMessage, Receipt
from delivery.acceptance.submission import Once

KEPT = timedelta(hours=24)

_CLAIM = """
INSERT INTO delivery_idempotency_key AS known (tenant_id, key, position, digest, message_id, recipients, created_at)
SELECT tenant_id, key, position, digest, message_id, recipients::jsonb, now()
FROM unnest(%s::uuid[], %s::text[], %s::int2[], %s::bytea[], %s::uuid[], %s::text[])
     AS wanted (tenant_id, key, position, digest, message_id, recipients)
ORDER BY tenant_id, key, position
ON CONFLICT (tenant_id, key, position) DO UPDATE
SET digest = EXCLUDED.digest, message_id = EXCLUDED.message_id, recipients = EXCLUDED.recipients, created_at = now()
WHERE known.created_at < now() - %s
RETURNING message_id
"""


class AlreadyAccepted(Exception):
    """The key was used by a request whose message is committed; nothing was stored for this one."""


class Repeated(Exception):
    """These messages carry keys that were used already; the transaction must be rolled back."""

    def __init__(self, message_ids: set[UUID]) -> None:
        super().__init__(f"{len(message_ids)} messages repeat a request")
        self.message_ids = message_ids


def is_asked(messages: Iterable[NewMessage]) -> bool:
    return any(message.controls.once is not None for message in messages)


async def claim(connection: psycopg.AsyncConnection[Any], messages: Sequence[NewMessage]) -> None:
    """Claim the keys of those messages that have one. Raises Repeated."""
    wanted = [(message, message.controls.once) for message in messages if message.controls.once is not None]
    if not wanted:
        return
    # One statement cannot touch a row twice: of a key that comes twice in one batch, the first has it.
    chosen: dict[tuple[UUID, str, int], tuple[NewMessage, Once]] = {}
    for message, key in wanted:
        chosen.setdefault((message.principal.tenant_id, key.key, key.position), (message, key))
    cursor = await connection.execute(
        _CLAIM,
        [
            [message.principal.tenant_id for message, _ in chosen.values()],
            [key.key for _, key in chosen.values()],
            [key.position for _, key in chosen.values()],
            [key.digest for _, key in chosen.values()],
            [message.id for message, _ in chosen.values()],
            [_as_json(message.receipt) for message, _ in chosen.values()],
            KEPT,
        ],
    )
    claimed = {row[0] for row in await cursor.fetchall()}
    if repeated := {message.id for message, _ in wanted} - claimed:
        raise Repeated(repeated)


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier request with the key became, by position within it."""

    digest: bytes
    receipt: Receipt


async def known(pool: Any, tenant_id: UUID, once: Once) -> dict[int, Known]:
    """The earlier request with this key; empty when there was none within ``KEPT``."""
    sql = """SELECT position, digest, message_id, recipients FROM delivery_idempotency_key
             WHERE tenant_id = %s AND key = %s AND created_at >= now() - %s"""
    async with pool.connection() as connection:
        rows = await (await connection.execute(sql, [tenant_id, once.key, KEPT])).fetchall()
    return {
        position: Known(bytes(digest), Receipt(message_id, tuple((UUID(key), address) for key, address in recipients)))
        for position, digest, message_id, recipients in rows
    }


def forget_old(*, most: int = 50_000) -> int:
    """Remove keys that answer nobody any more, in steps that hold no lock for long."""
    with django_connection.cursor() as cursor:
        cursor.execute(
            """DELETE FROM delivery_idempotency_key WHERE ctid = ANY(ARRAY(
                   SELECT ctid FROM delivery_idempotency_key WHERE created_at < now() - make_interval(secs => %s) LIMIT %s))""",
            [KEPT.total_seconds(), most],
        )
        return cursor.rowcount


def _as_json(receipt: Receipt) -> str:
    return json.dumps([[str(key), address] for key, address in receipt.recipients])
