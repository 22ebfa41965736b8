"""Entries bound to a source address that may send nothing more for a while are given to its pool."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from delivery.queue import claim
from delivery.queue.enqueue import Sender, announce, lane_of

Connection = psycopg.AsyncConnection[Any]

_PINNED = """
SELECT lane.id, lane.pool_id, lane.tenant_id, lane.stream_id FROM delivery_lane AS lane
WHERE lane.pinned_source_id = %s AND lane.group_id = %s AND lane.next_due_at IS NOT NULL ORDER BY lane.id
"""


async def unpin(connection: Connection, *, source_id: UUID, group_id: int) -> int:
    """Move what waits in lanes pinned to the address to those that any address of the pool may serve; returns how many."""
    moved = 0
    for lane_id, *sender in await (await connection.execute(_PINNED, [source_id, group_id])).fetchall():
        target = await lane_of(connection, Sender(*sender), group_id)
        async with connection.transaction():
            cursor = await connection.execute(
                "UPDATE delivery_queue_entry SET lane_id = %s WHERE lane_id = %s AND path_id IS NULL", [target, lane_id]
            )
            await announce(connection, [target])
        await claim.refresh_lanes(connection, [lane_id])
        moved += cursor.rowcount
    return moved
