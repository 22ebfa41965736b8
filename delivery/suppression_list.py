"""Asks the suppressions, many recipients in one statement: at acceptance and before every attempt.

The nearest word counts first (an exact address, then a domain, then a pattern); who owns it does not matter, since each
of stream, tenant and operator may keep mail back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from delivery.models.suppression import OPERATOR

Connection = psycopg.AsyncConnection[Any]


def key_of(address: str) -> str:
    """An address as the list has it: receiving hosts tell no letters apart by their case, whatever RFC 5321 allows."""
    return address.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Asked:
    recipient_id: UUID
    tenant_id: UUID
    stream_id: UUID
    address: str
    domain: str


@dataclass(frozen=True, slots=True)
class Match:
    suppression_id: UUID
    reason: str


_ACTIVE = "removed_at IS NULL AND (expires_at IS NULL OR expires_at > now())"


def lateral(*, address: str, domain: str, tenant: str, stream: str) -> str:
    """A subquery for LATERAL with at most one row (id, reason); the arguments are SQL expressions, never input.

    PostgreSQL's "C" collation folds ASCII letters alone, as ``key_of`` does; the index is of the default one.
    """
    key = f'lower({address} COLLATE "C") COLLATE "default"'
    owners = f"owner_id IN ('{OPERATOR}', {tenant}, {stream})"
    return f"""(
        (SELECT id, reason FROM delivery_suppression
         WHERE value = {key} AND kind = 'address' AND {owners} AND {_ACTIVE} LIMIT 1)
        UNION ALL
        (SELECT id, reason FROM delivery_suppression
         WHERE value = {domain} AND kind = 'domain' AND {owners} AND {_ACTIVE} LIMIT 1)
        UNION ALL
        (SELECT id, reason FROM delivery_suppression
         WHERE kind = 'pattern' AND {owners} AND {_ACTIVE} AND {key} LIKE like_pattern LIMIT 1)
        LIMIT 1)"""


_OF_ASKED = lateral(address="asked.address", domain="asked.domain", tenant="asked.tenant_id", stream="asked.stream_id")
_FIND = f"""
SELECT asked.recipient_id, found.id, found.reason
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[])
     AS asked (recipient_id, tenant_id, stream_id, address, domain)
CROSS JOIN LATERAL {_OF_ASKED} AS found
"""


async def find(connection: Connection, asked: Iterable[Asked]) -> dict[UUID, Match]:
    """Those that mail must not go to, by recipient id."""
    rows = list(asked)
    if not rows:
        return {}
    cursor = await connection.execute(
        _FIND,
        [
            [row.recipient_id for row in rows],
            [row.tenant_id for row in rows],
            [row.stream_id for row in rows],
            [row.address for row in rows],
            [row.domain for row in rows],
        ],
    )
    return {recipient_id: Match(key, reason) for recipient_id, key, reason in await cursor.fetchall()}


async def count_hits(connection: Connection, suppression_ids: Iterable[UUID]) -> None:
    """In the transaction that keeps the mail back. Locked in order, so that two of them never wait in a circle."""
    hits = Counter(suppression_ids)
    await connection.execute(
        """UPDATE delivery_suppression AS suppression SET hits = suppression.hits + hit.count, last_hit_at = now()
           FROM unnest(%s::uuid[], %s::int[]) AS hit (id, count),
                (SELECT id FROM delivery_suppression WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS locked
           WHERE suppression.id = hit.id AND locked.id = suppression.id""",
        [list(hits), list(hits.values()), sorted(hits)],
    )
