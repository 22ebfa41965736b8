"""MTA-STS policies in the database: what one worker has fetched holds for all, and outlives them.

A policy that cannot be read is a fault of ours and raised, so that no mail goes out with less protection than its domain
asked for; one that cannot be written is still used by the worker that has it.
"""

from __future__ import annotations

from typing import Any

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from delivery.transport.mta_sts import StsMode, StsPolicy

log = structlog.get_logger(__name__)

_LOAD = """
SELECT policy_id, mode, mx, fetched_at, expires_at FROM delivery_mta_sts_policy
WHERE domain = %s AND expires_at > now()
"""
# The newest wins, whichever worker comes last.
_SAVE = """
INSERT INTO delivery_mta_sts_policy (domain, policy_id, mode, mx, fetched_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (domain) DO UPDATE SET policy_id = EXCLUDED.policy_id, mode = EXCLUDED.mode, mx = EXCLUDED.mx,
    fetched_at = EXCLUDED.fetched_at, expires_at = EXCLUDED.expires_at
WHERE delivery_mta_sts_policy.fetched_at <= EXCLUDED.fetched_at
"""
# Fetches are rare, so there is time to sweep; rows that another worker is at are left to it.
_SWEEP = """
DELETE FROM delivery_mta_sts_policy WHERE domain IN (
    SELECT domain FROM delivery_mta_sts_policy WHERE expires_at < now() - interval '1 day'
    LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


class StoredPolicies:
    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def load(self, domain: str) -> StsPolicy | None:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_LOAD, [domain])).fetchone()
        if row is None:
            return None
        policy_id, mode, mx, fetched_at, expires_at = row
        return StsPolicy(domain, policy_id, StsMode(mode), tuple(mx), fetched_at, expires_at)

    async def save(self, policy: StsPolicy) -> None:
        values = [
            policy.domain,
            policy.policy_id,
            policy.mode.value,
            list(policy.mx),
            policy.fetched_at,
            policy.expires_at,
        ]
        try:
            async with self._pool.connection() as connection:
                await connection.execute(_SAVE, values)
                await connection.execute(_SWEEP)
        except (psycopg.Error, PoolTimeout, OSError) as error:
            log.warning("tls_policy_not_kept", domain=policy.domain, error=str(error))
