"""Rates of tenants and credentials: token buckets that all workers share, taken in the transaction that claims.

What was claimed beyond what a bucket holds goes back in the same transaction and is due when its tokens will be there; so other
tenants' mail in the lanes is not held up, and a kill can overspend nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from delivery.queue.enqueue import mark_due

if TYPE_CHECKING:
    from delivery.queue.claim import ClaimedEntry

Connection = psycopg.AsyncConnection[Any]

# A bucket holds what a second brings, at least one: short bursts pass, and a quiet hour saves nothing up.
_BURST_S = 1.0


async def read_rates(connection: Connection) -> dict[UUID, float]:
    """Messages a second of every tenant and credential that has a rate of its own, or is slowed by a brake."""
    sql = """SELECT id, min(rate_per_second) FROM (
                 SELECT id, rate_per_second FROM accounts_tenant WHERE rate_per_second IS NOT NULL
                 UNION ALL
                 SELECT id, rate_per_second FROM accounts_credential
                 WHERE rate_per_second IS NOT NULL AND revoked_at IS NULL
                 UNION ALL
                 SELECT coalesce(credential_id, tenant_id), rate_per_second FROM delivery_brake
                 WHERE ended_at IS NULL AND rate_per_second IS NOT NULL
             ) AS rate GROUP BY id"""
    return dict(await (await connection.execute(sql)).fetchall())


async def keep_within(
    connection: Connection, entries: Sequence[ClaimedEntry], *, rates: Mapping[UUID, float]
) -> list[ClaimedEntry]:
    """Take a token for each entry from every bucket it falls under; what finds none is put off. In the claim's transaction."""
    owners = await _owners_of(connection, entries, rates)
    wanted = Counter(owner for of_entry in owners.values() for owner in of_entry)
    left = {owner: await _take(connection, owner, rates[owner], wanted[owner]) for owner in sorted(wanted)}
    kept: list[ClaimedEntry] = []
    late: dict[UUID, float] = {}
    behind: Counter[UUID] = Counter()
    for entry in entries:
        short = [owner for owner in owners[entry.recipient_id] if left[owner] < 1]
        if short:
            behind.update(short)
            late[entry.recipient_id] = max(behind[owner] / rates[owner] for owner in short)
            continue
        for owner in owners[entry.recipient_id]:
            left[owner] -= 1
        kept.append(entry)
    await _give_back(connection, left)
    if late:
        await _put_off(connection, late)
    return kept


async def _owners_of(
    connection: Connection, entries: Sequence[ClaimedEntry], rates: Mapping[UUID, float]
) -> dict[UUID, list[UUID]]:
    sql = "SELECT recipient_id, tenant_id, credential_id FROM delivery_queue_entry WHERE recipient_id = ANY(%s)"
    rows = await (await connection.execute(sql, [[entry.recipient_id for entry in entries]])).fetchall()
    return {recipient_id: [owner for owner in owners if owner in rates] for recipient_id, *owners in rows}


_TAKE = """
INSERT INTO accounts_ratebucket AS bucket (owner_id, rate_per_second, capacity, tokens, refilled_at)
VALUES (%(owner)s, %(rate)s, %(capacity)s, %(capacity)s, now())
ON CONFLICT (owner_id) DO UPDATE SET rate_per_second = %(rate)s, capacity = %(capacity)s, refilled_at = clock_timestamp(),
    tokens = least(%(capacity)s, bucket.tokens + %(rate)s
                   * greatest(0, extract(epoch FROM clock_timestamp() - bucket.refilled_at)::float8))
RETURNING tokens
"""


async def _take(connection: Connection, owner: UUID, rate: float, wanted: int) -> int:
    """At most ``wanted`` whole tokens of a bucket; its row stays locked until the claim is committed."""
    capacity = max(1.0, rate * _BURST_S)
    row = await (await connection.execute(_TAKE, {"owner": owner, "rate": rate, "capacity": capacity})).fetchone()
    taken = min(wanted, int(row[0])) if row else 0
    await connection.execute("UPDATE accounts_ratebucket SET tokens = tokens - %s WHERE owner_id = %s", [taken, owner])
    return taken


async def _give_back(connection: Connection, left: Mapping[UUID, int]) -> None:
    for owner, tokens in left.items():
        if tokens > 0:
            sql = "UPDATE accounts_ratebucket SET tokens = tokens + %s WHERE owner_id = %s"
            await connection.execute(sql, [tokens, owner])


async def _put_off(connection: Connection, late: Mapping[UUID, float]) -> None:
    cursor = await connection.execute(
        """UPDATE delivery_queue_entry AS entry
           SET path_id = NULL, fence = NULL, claimed_at = NULL, attempts = entry.attempts - 1,
               next_attempt_at = now() + make_interval(secs => late.seconds)
           FROM unnest(%s::uuid[], %s::float8[]) AS late (recipient_id, seconds)
           WHERE entry.recipient_id = late.recipient_id RETURNING entry.lane_id""",
        [list(late), list(late.values())],
    )
    await mark_due(connection, {lane_id for (lane_id,) in await cursor.fetchall()})
