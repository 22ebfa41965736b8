"""Volume limits: raised by one conditional statement for all tenants and limited credentials, a part of that which stores.

Its rows are locked in order, so that two committers never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import psycopg

from accounts.authentication import Principal
from delivery.acceptance.message import NewMessage

# `within_quota` adds, or raises OVER where that would be more than there may be; the longest period is asked first.
CHARGE = """
INSERT INTO accounts_quotabucket AS bucket (owner_id, period, window_start, used)
SELECT owner_id, period, date_trunc(period, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
       within_quota(owner_id, period, 0, count, most)
FROM json_to_recordset(%(charges)s::json) AS asked (owner_id uuid, count bigint, hour bigint, day bigint, month bigint)
CROSS JOIN LATERAL (VALUES (1, 'month', month), (2, 'day', day), (3, 'hour', hour)) AS wanted (place, period, most)
ORDER BY owner_id, place
ON CONFLICT (owner_id, period, window_start) DO UPDATE
SET used = within_quota(bucket.owner_id, bucket.period, bucket.used, EXCLUDED.used, (
    SELECT CASE bucket.period WHEN 'hour' THEN hour WHEN 'day' THEN day ELSE month END
    FROM json_to_recordset(%(charges)s::json) AS asked (owner_id uuid, hour bigint, day bigint, month bigint)
    WHERE asked.owner_id = bucket.owner_id))
"""
OVER = "RW001"  # of accounts/migrations/0012


class Exceeded(Exception):
    """The owner, a tenant or a credential, has no room left in a period; the transaction must be rolled back.

    ``period`` is the longest of them: before it ends nothing more is accepted.
    """

    def __init__(self, owner_id: UUID, period: str) -> None:
        super().__init__(f"{owner_id} is over a volume limit of the {period}")
        self.owner_id = owner_id
        self.period = period


def charges(messages: Iterable[NewMessage]) -> list[dict[str, Any]]:
    """What ``CHARGE`` is to count: recipients against every period of those who hand them over."""
    found: dict[UUID, dict[str, Any]] = {}
    for message in messages:
        for limits in _limits(message.principal):
            found.setdefault(limits["owner_id"], limits)["count"] += len(message.recipients)
    return list(found.values())


def exceeded(error: psycopg.Error) -> Exceeded | None:
    """Whose quota made the statement fail, if it was that."""
    if error.sqlstate != OVER:
        return None
    return Exceeded(UUID(error.diag.message_detail), str(error.diag.message_hint))


def is_charged_to(principal: Principal, owner_id: UUID) -> bool:
    return owner_id in {principal.tenant_id, principal.credential_id}


def _limits(principal: Principal) -> Iterator[dict[str, Any]]:
    yield {
        "owner_id": principal.tenant_id,
        "count": 0,
        "hour": principal.hourly_limit,
        "day": principal.daily_limit,
        "month": principal.monthly_limit,
    }
    if principal.credential_id is not None and principal.credential_daily_limit is not None:
        yield {"owner_id": principal.credential_id, "count": 0, "day": principal.credential_daily_limit}
