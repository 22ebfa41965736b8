"""Tells the database, and so the console, that this gate lives and what it does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from uuid import UUID

import psycopg
import structlog
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from accounts.authentication import Pool
from accounts.identifiers import uuid7
from delivery.version import VERSION

log = structlog.get_logger(__name__)

GATE, RETURNS = "gate", "returns"  # a process that takes what comes back and nothing else is a part of its own
_EVERY_SECONDS = 5.0

_BEAT = """
INSERT INTO delivery_worker (slot, incarnation, node_id, part, pid, version, started_at, heartbeat_at, is_draining,
                             figures)
VALUES (%(slot)s, %(incarnation)s, %(node)s, %(part)s, %(pid)s, %(version)s, now(), now(), %(is_draining)s, %(figures)s)
ON CONFLICT (slot) DO UPDATE
SET heartbeat_at = now(), is_draining = EXCLUDED.is_draining, figures = EXCLUDED.figures, pid = EXCLUDED.pid,
    version = EXCLUDED.version,
    started_at = CASE WHEN delivery_worker.incarnation = EXCLUDED.incarnation THEN delivery_worker.started_at
                      ELSE EXCLUDED.started_at END,
    incarnation = EXCLUDED.incarnation
"""
_NODE = """
INSERT INTO delivery_node (name, is_draining, created_at) VALUES (%s, false, now()) ON CONFLICT (name) DO NOTHING
"""


class Heartbeat:
    """``figures`` gives what the gate does right now."""

    def __init__(self, pool: Pool, *, node: str, part: str, number: int, figures: Callable[[], dict[str, int]]) -> None:
        self.slot = f"{node}/{part}-{number}"
        self._part = part
        self._pool = pool
        self._node = node
        self._figures = figures
        self._incarnation: UUID = uuid7()

    async def keep_beating(self) -> None:
        """Until cancelled. Silence is what shows that we are gone, so trouble here is only logged."""
        while True:
            await self.beat(is_draining=False)
            await asyncio.sleep(_EVERY_SECONDS)

    async def beat(self, *, is_draining: bool) -> None:
        try:
            async with self._pool.connection(timeout=2) as connection:
                await connection.execute(_NODE, [self._node])
                await connection.execute(
                    _BEAT,
                    {
                        "slot": self.slot,
                        "incarnation": self._incarnation,
                        "node": self._node,
                        "part": self._part,
                        "pid": os.getpid(),
                        "version": VERSION,
                        "is_draining": is_draining,
                        "figures": Jsonb(self._figures()),
                    },
                )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("heartbeat_not_written", slot=self.slot, error=str(error))

    async def stop(self) -> None:
        """Leave no row behind: a gate that was stopped on purpose is not one that fell silent."""
        try:
            async with self._pool.connection(timeout=2) as connection:
                await connection.execute(
                    "DELETE FROM delivery_worker WHERE slot = %s AND incarnation = %s", [self.slot, self._incarnation]
                )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("heartbeat_not_written", slot=self.slot, error=str(error))
