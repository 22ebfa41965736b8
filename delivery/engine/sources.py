"""Source addresses that cannot be used: marked by whoever finds out, looked at again until they can.

An address that the machine does not have (any more) is our trouble and nobody else's: no mail is judged by it, other addresses
of the pool go on, and the address comes back by itself.
"""

from __future__ import annotations

import socket
from typing import Any

import psycopg
import structlog

from delivery.queue import wake

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

_LOOKED_AT_EVERY_S = 20


async def mark_unusable(connection: Connection, source_id: Any, *, reason: str) -> None:
    cursor = await connection.execute(
        # One that is drained would come back into full use by itself; paused, somebody decides.
        """UPDATE delivery_sourceaddress
           SET state = CASE state WHEN 'active' THEN 'unusable' ELSE 'paused' END, state_reason = %s, state_since = now()
           WHERE id = %s AND state IN ('active', 'draining')""",
        [reason[:500], source_id],
    )
    if cursor.rowcount:
        log.error("source_unusable", source=str(source_id), reason=reason)
        await connection.execute(wake.RING, [wake.PATHS])


async def look_again(connection: Connection, *, node: str) -> None:
    """Take addresses of this node back into use that it can bind again. One worker looks at a time."""
    sql = """UPDATE delivery_sourceaddress SET state_since = now()
             WHERE node_id = %s AND state = 'unusable' AND address IS NOT NULL
               AND state_since < now() - make_interval(secs => %s)
             RETURNING id, host(address)"""
    for source_id, address in await (await connection.execute(sql, [node, _LOOKED_AT_EVERY_S])).fetchall():
        if can_bind(address):
            await connection.execute(
                """UPDATE delivery_sourceaddress SET state = 'active', state_reason = '', state_since = now()
                   WHERE id = %s AND state = 'unusable'""",
                [source_id],
            )
            log.info("source_usable_again", source=address)
            await connection.execute(wake.RING, [wake.PATHS])


def can_bind(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
