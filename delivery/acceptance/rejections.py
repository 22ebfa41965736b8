"""The rejection log: bounded, one row per reason and minute, nothing of the mail itself.

The bound holds whatever a client tries: after so many kinds of refusal in a minute the author domain is not told any more,
and only the newest rows of a tenant are kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from accounts.authentication import Principal
from accounts.identifiers import first_of, uuid7
from delivery.core.replies import Rejection

MOST_ROWS = 1_000
_TOLD_APART_PER_MINUTE = 50

_INSERT = """
INSERT INTO delivery_rejectionentry (id, tenant_id, credential_id, minute, last_at, count, code, enhanced, text, reason,
                                     author_domain, peer_address, reference)
VALUES (%(id)s, %(tenant)s, %(credential)s, date_trunc('minute', now()), now(), 1, %(code)s, %(enhanced)s, %(text)s,
        %(reason)s,
        CASE WHEN (SELECT count(*) FROM delivery_rejectionentry WHERE tenant_id = %(tenant)s AND id >= %(since)s) < %(apart)s
             THEN %(author_domain)s ELSE '' END,
        %(peer)s, %(reference)s)
ON CONFLICT (tenant_id, COALESCE(credential_id, '00000000-0000-0000-0000-000000000000'::uuid), minute, reason,
             author_domain, COALESCE(peer_address, '::'::inet))
DO UPDATE SET count = delivery_rejectionentry.count + 1, last_at = now(), reference = EXCLUDED.reference
RETURNING id = %(id)s
"""
_TRIM = """
DELETE FROM delivery_rejectionentry WHERE tenant_id = %(tenant)s AND id <= (
    SELECT id FROM delivery_rejectionentry WHERE tenant_id = %(tenant)s ORDER BY id DESC OFFSET %(most)s LIMIT 1)
"""


async def log(
    connection: psycopg.AsyncConnection[Any],
    rejection: Rejection,
    *,
    principal: Principal,
    peer_address: str | None,
    author_domain: str,
    reference: str,
) -> None:
    now = datetime.now(tz=UTC)
    cursor = await connection.execute(
        _INSERT,
        {
            "id": uuid7(now),
            "since": first_of(now - timedelta(minutes=1)),
            "apart": _TOLD_APART_PER_MINUTE,
            "tenant": principal.tenant_id,
            "credential": principal.credential_id,
            "code": rejection.reply.code,
            "enhanced": rejection.reply.enhanced,
            "text": rejection.reply.text[:500],
            "reason": rejection.reason[:60],
            "author_domain": author_domain[:255],
            "peer": peer_address,
            "reference": reference[:32],
        },
    )
    row = await cursor.fetchone()
    if row is not None and row[0]:
        await connection.execute(_TRIM, {"tenant": principal.tenant_id, "most": MOST_ROWS})
