"""Replies that no rule knew, counted by what they say, so that operators see what a rule is missing for.

Counted in memory and written with the sweep: what a killed worker had not written is lost, and costs nobody's mail. A peer
that invents a new text for every reply fills neither memory nor table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import psycopg

from delivery.core.live_rules import grouped_text, without_addresses
from delivery.core.reply import Origin, Reply

MOST_IN_MEMORY = 200
MOST_IN_TABLE = 2_000

Connection = psycopg.AsyncConnection[Any]

# Counting one that is known already is always possible; new ones only as long as there is room.
_WRITE = """
INSERT INTO delivery_unmatchedreply (key, group_key, phase, text, example, count, first_at, last_at, ignored_by, ignored_reason)
SELECT key, group_key, phase, text, example, count, now(), now(), '', ''
FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])
     AS new (key, group_key, phase, text, example, count)
WHERE EXISTS (SELECT 1 FROM delivery_unmatchedreply AS known WHERE known.key = new.key)
   OR (SELECT count(*) FROM delivery_unmatchedreply) < %s
ORDER BY key
ON CONFLICT (key) DO UPDATE
SET count = delivery_unmatchedreply.count + EXCLUDED.count, last_at = EXCLUDED.last_at, example = EXCLUDED.example
"""


@dataclass(slots=True)
class _Counted:
    group_key: str
    phase: str
    text: str
    example: str
    count: int = 0


class UnmatchedReplies:
    def __init__(self) -> None:
        self._counted: dict[bytes, _Counted] = {}

    def note(self, reply: Reply, group_key: str) -> None:
        """``group_key`` is that of a provider known by name, or empty."""
        if reply.origin is not Origin.PEER:
            return
        text = grouped_text(reply)
        key = hashlib.blake2b(f"{group_key}\0{reply.phase}\0{text}".encode(), digest_size=16).digest()
        if key not in self._counted and len(self._counted) >= MOST_IN_MEMORY:
            return
        known = self._counted.setdefault(
            key, _Counted(group_key, reply.phase.value, text, without_addresses(reply.line).replace("\0", ""))
        )
        known.count += 1

    async def write(self, connection: Connection) -> None:
        """Add what was counted since the last time; on failure it is counted on."""
        counted = self._counted
        if not counted:
            return
        self._counted = {}
        rows = list(counted.values())
        try:
            await connection.execute(
                _WRITE,
                [
                    list(counted),
                    [row.group_key for row in rows],
                    [row.phase for row in rows],
                    [row.text for row in rows],
                    [row.example for row in rows],
                    [row.count for row in rows],
                    MOST_IN_TABLE,
                ],
            )
        except psycopg.Error:
            self._counted = {**counted, **self._counted}
            raise
