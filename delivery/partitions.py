"""Day partitions of the tables that grow with mail: made ahead of time, so that acceptance never waits for DDL.

Bounds are computed from times: the keys are UUIDv7, whose first 48 bits are milliseconds. A DEFAULT partition catches what
no day has a place for (nothing is refused because housekeeping was late); ``strays`` counts what it holds, for an alert.

Tables belong to whoever migrates. Days are made and dropped by functions of the database (migration 0045) that run with the
owner's rights, so that housekeeping needs none of its own over tables; the rest is made once, after migrations.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from django.db import connection, transaction

AHEAD = timedelta(days=8)
RANGED = ("delivery_message", "delivery_recipient", "delivery_attempt", "delivery_event", "delivery_webhookcall")
CONTENT = "delivery_content"
RETENTION_DAYS = (1, 7, 30, 90)  # classes of content; a tenant chooses one
UNTIL_DELIVERED = 0  # or this one: gone with the end of the last recipient (delivery.retention)

DROP_DAY = "SELECT drop_day_partition(%s)"
_MAKE_DAY = "SELECT make_day_partition(%s, %s)"

# Two processes that make partitions at once would deadlock; the second finds the work done.
_ADVISORY_LOCK = 0x72656C61_70617274


def ensure_ahead(*, now: datetime | None = None, ahead: timedelta = AHEAD) -> list[str]:
    """Make every partition from yesterday to ``now + ahead`` that is missing; returns the names of the new ones."""
    today = (now or datetime.now(tz=UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today + timedelta(days=offset) for offset in range(-1, ahead.days + 1)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        cursor.execute("SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid")
        existing = {name for (name,) in cursor.fetchall()}
        made = []
        for name, statement, arguments in _wanted(days):
            if name not in existing:
                cursor.execute(statement, arguments)
                made.append(name)
    return made


def strays() -> dict[str, int]:
    """Rows that found no day partition, by table; more than none means that partitions were not made in time."""
    with connection.cursor() as cursor:
        found = {}
        for table in (*RANGED, CONTENT):
            cursor.execute(f'SELECT count(*) FROM (SELECT 1 FROM "{table}_default" LIMIT 1000) AS strays')
            found[table] = cursor.fetchone()[0]
    return found


def drop_days_before(table: str, moment: datetime) -> list[str]:
    """Drop the partitions of ``table`` whose day ended before ``moment``; returns their names."""
    last = f"{table}_p{moment - timedelta(days=1):%Y%m%d}"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass AND c.relname LIKE %s AND c.relname <= %s ORDER BY 1",
            [table, f"{table}_p%", last],
        )
        names = [name for (name,) in cursor.fetchall()]
        for name in names:
            cursor.execute(DROP_DAY, [name])
    return names


def _wanted(days: list[datetime]) -> Iterator[tuple[str, str, list[str | date] | None]]:
    """Each partition's name, and how it is made."""
    for table in RANGED:
        yield from _days_of(table, days)
        yield f"{table}_default", f'CREATE TABLE "{table}_default" PARTITION OF "{table}" DEFAULT', None
    for retention in (UNTIL_DELIVERED, *RETENTION_DAYS):
        name = f"{CONTENT}_r{retention}"
        yield (
            name,
            f'CREATE TABLE "{name}" PARTITION OF "{CONTENT}" FOR VALUES IN ({retention}) PARTITION BY RANGE (message_id)',
            None,
        )
        yield from _days_of(name, days)
        yield f"{name}_default", f'CREATE TABLE "{name}_default" PARTITION OF "{name}" DEFAULT', None
    yield f"{CONTENT}_default", f'CREATE TABLE "{CONTENT}_default" PARTITION OF "{CONTENT}" DEFAULT', None


def _days_of(table: str, days: list[datetime]) -> Iterator[tuple[str, str, list[str | date] | None]]:
    for day in days:
        yield f"{table}_p{day:%Y%m%d}", _MAKE_DAY, [table, day.date()]
