"""What attempts met with, counted by path and hour in memory and written with the sweep.

What a killed worker had not written is lost: a few seconds of figures, nobody's mail. The figures of an address that is
warmed up are then too small, so that it advances too late rather than too early.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg

from delivery.core.outcome import Outcome
from delivery.shaping.encounters import KINDS, kind_of

Connection = psycopg.AsyncConnection[Any]

_WRITE = f"""
INSERT INTO delivery_path_hour AS known (path_id, hour, {", ".join(KINDS)})
SELECT path_id, date_trunc('hour', now()), {", ".join(KINDS)}
FROM unnest(%s::bigint[], {", ".join("%s::int[]" for _ in KINDS)}) AS new (path_id, {", ".join(KINDS)})
ORDER BY path_id
ON CONFLICT (path_id, hour) DO UPDATE SET {", ".join(f"{kind} = known.{kind} + EXCLUDED.{kind}" for kind in KINDS)}
"""


class Tallies:
    def __init__(self) -> None:
        self._counted: Counter[tuple[int, str]] = Counter()

    def note(self, path_id: int, outcome: Outcome) -> None:
        kind = kind_of(outcome)
        if kind is not None:
            self._counted[path_id, kind] += 1

    async def write(self, connection: Connection) -> None:
        """Add what was counted since the last time; on failure it is counted on."""
        counted = self._counted
        if not counted:
            return
        self._counted = Counter()
        paths = sorted({path_id for path_id, _kind in counted})
        try:
            await connection.execute(
                _WRITE, [paths, *([counted[path_id, kind] for path_id in paths] for kind in KINDS)]
            )
        except psycopg.Error:
            self._counted.update(counted)
            raise
