"""Numbers of a tenant's mail for programs: what became of what was accepted in a period, by time and one more thing.

Counted from the recipients themselves, within the time that a statement may take: whoever asks for too long a period of too
much mail is told so (``TookTooLong``) and nothing is left running.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import connection

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.history import within_the_time_limit

LONGEST = timedelta(days=92)
MOST_ROWS = 5_000


class Bucket(StrEnum):
    HOUR = "hour"
    DAY = "day"


class Grouping(StrEnum):
    STATE = "state"
    CLASS = "class"
    PROVIDER = "provider"
    DOMAIN = "domain"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Count:
    at: datetime
    group: str
    accepted: int
    open: int
    delivered: int
    bounced: int
    expired: int
    suppressed: int
    cancelled: int
    returned: int


# SQL of what a row is counted under, and the join it needs.
_GROUPS = {
    Grouping.STATE: ("r.state", ""),
    Grouping.CLASS: ("coalesce(nullif(r.returned_class, ''), r.reply_class)", ""),
    Grouping.PROVIDER: (
        "coalesce(CASE WHEN g.kind = 'site' THEN 'other' WHEN g.kind IN ('unrouted', 'unreachable') THEN '' ELSE g.key END, '')",
        "LEFT JOIN delivery_providergroup g ON g.id = r.group_id",
    ),
    Grouping.DOMAIN: ("r.domain", ""),
    Grouping.STREAM: (
        "coalesce(s.name, '')",
        "JOIN delivery_message m ON m.id = r.message_id LEFT JOIN delivery_stream s ON s.id = m.stream_id",
    ),
}
# A recipient's key begins with the millisecond at which its message was accepted (RFC 9562 §5.7).
_ACCEPTED_AT = "to_timestamp(('x' || substr(replace(r.id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0)"


def counts(
    tenant: Tenant, *, since: datetime, until: datetime, bucket: Bucket, grouping: Grouping | None
) -> list[Count]:
    """By time, oldest first, at most MOST_ROWS. Days begin at midnight UTC. Raises delivery.history.TookTooLong."""
    group, join = ("''", "") if grouping is None else _GROUPS[grouping]
    sql = f"""
        SELECT date_trunc(%s, {_ACCEPTED_AT}, 'UTC') AS at, {group} AS "group", count(*),
               count(*) FILTER (WHERE r.state IN ('queued', 'deferred', 'held')),
               count(*) FILTER (WHERE r.state = 'delivered'), count(*) FILTER (WHERE r.state = 'bounced'),
               count(*) FILTER (WHERE r.state = 'expired'), count(*) FILTER (WHERE r.state = 'suppressed'),
               count(*) FILTER (WHERE r.state = 'cancelled'), count(*) FILTER (WHERE r.returned_at IS NOT NULL)
        FROM delivery_recipient r {join}
        WHERE r.tenant_id = %s AND r.id >= %s AND r.id < %s
        GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2 LIMIT {MOST_ROWS + 1}"""
    with within_the_time_limit(), connection.cursor() as cursor:
        cursor.execute(sql, [bucket.value, tenant.pk, first_of(since), first_of(until)])
        return [Count(*row) for row in cursor.fetchall()]
