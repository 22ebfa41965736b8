"""Volume limits: one conditional statement per tenant and limited credential, the last of the transaction, in one order.

Last, so that the row every message of a tenant touches is locked only while the commit itself runs; in order, so that two
committers never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from accounts.authentication import Principal

_CHARGE = """
INSERT INTO accounts_quotabucket AS bucket (owner_id, period, window_start, used)
SELECT %(owner)s, wanted.period, date_trunc(wanted.period, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', %(count)s
FROM (VALUES ('hour', %(hour)s::bigint), ('day', %(day)s::bigint), ('month', %(month)s::bigint)) AS wanted (period, most)
WHERE wanted.most IS NULL OR %(count)s <= wanted.most
ON CONFLICT (owner_id, period, window_start) DO UPDATE SET used = bucket.used + EXCLUDED.used
WHERE bucket.used + EXCLUDED.used <= COALESCE(
    CASE bucket.period WHEN 'hour' THEN %(hour)s::bigint WHEN 'day' THEN %(day)s::bigint ELSE %(month)s::bigint END,
    9223372036854775807)
RETURNING bucket.period
"""
_PERIODS = ("hour", "day", "month")


class Exceeded(Exception):
    """The owner, a tenant or a credential, has no room left in a period; the transaction must be rolled back.

    ``period`` is the longest of them: before it ends nothing more is accepted.
    """

    def __init__(self, owner_id: UUID, period: str) -> None:
        super().__init__(f"{owner_id} is over a volume limit of the {period}")
        self.owner_id = owner_id
        self.period = period


@dataclass(slots=True)
class _Charge:
    owner_id: UUID
    hour: int | None
    day: int | None
    month: int | None
    count: int = 0


async def charge(cursor: psycopg.AsyncCursor[Any], recipients: Iterable[tuple[Principal, int]]) -> None:
    """Count recipients against every period of those who hand them over. Raises Exceeded."""
    charges: dict[UUID, _Charge] = {}
    for principal, count in recipients:
        for one in _owners(principal):
            charges.setdefault(one.owner_id, one).count += count
    for owner_id in sorted(charges):
        one = charges[owner_id]
        await cursor.execute(
            _CHARGE, {"owner": owner_id, "count": one.count, "hour": one.hour, "day": one.day, "month": one.month}
        )
        if cursor.rowcount != len(_PERIODS):
            charged = {row[0] for row in await cursor.fetchall()}
            raise Exceeded(owner_id, [period for period in _PERIODS if period not in charged][-1])


def is_charged_to(principal: Principal, owner_id: UUID) -> bool:
    return owner_id in {principal.tenant_id, principal.credential_id}


def _owners(principal: Principal) -> list[_Charge]:
    owners = [_Charge(principal.tenant_id, principal.hourly_limit, principal.daily_limit, principal.monthly_limit)]
    if principal.credential_id is not None and principal.credential_daily_limit is not None:
        owners.append(_Charge(principal.credential_id, None, principal.credential_daily_limit, None))
    return owners
