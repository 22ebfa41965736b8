"""A tenant's figures as programs read them: a row for each hour or day (UTC), and for each value of one dimension.

The same counters as those of the statistics page, so the two never contradict each other: outcomes count at the time they
happened, acceptance and that a recipient was put off at the time of acceptance.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from django.db import connection

from accounts.models import Tenant
from delivery.core import histogram
from delivery.statistics.counting import ALL
from delivery.statistics.figures import COLUMNS, ClassCount, Totals, Waits, classes
from delivery.time_limit import within_the_time_limit

LONGEST = timedelta(days=92)
MOST_ROWS = 5_000


class Bucket(StrEnum):
    HOUR = "hour"
    DAY = "day"


class Grouping(StrEnum):
    """The dimensions that are counted."""

    PROVIDER = "provider"
    DOMAIN = "domain"
    STREAM = "stream"
    CREDENTIAL = "credential"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Row:
    """An empty value stands for everything without a name of its own."""

    at: datetime
    value: str
    totals: Totals
    waits: Waits


@dataclass(frozen=True, slots=True)
class Series:
    """``rows`` are at most MOST_ROWS + 1, oldest first: one more than MOST_ROWS says that there are too many."""

    since: datetime
    until: datetime
    rows: tuple[Row, ...]
    classes: tuple[ClassCount, ...]


def series(tenant: Tenant, *, since: datetime, until: datetime, bucket: Bucket, grouping: Grouping | None) -> Series:
    """Of the whole hours that the period touches. Raises delivery.TookTooLong."""
    since, until = _hour_of(since), _hour_of(until + timedelta(hours=1) - timedelta(microseconds=1))
    dimension = ALL if grouping is None else grouping.value
    where = "WHERE tenant_id = %s AND dimension = %s AND minutes = 60 AND starts_at >= %s AND starts_at < %s"
    at, asked = "date_trunc(%s, starts_at, 'UTC')", [bucket.value, tenant.pk, dimension, since, until]
    with within_the_time_limit(), connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT {at}, value, {", ".join(f"sum({name})" for name in COLUMNS)} FROM delivery_statistic {where}
                GROUP BY 1, 2 ORDER BY 1, greatest(sum(accepted), sum(delivered + bounced + expired)) DESC, 2
                LIMIT {MOST_ROWS + 1}""",
            asked,
        )
        sums = cursor.fetchall()
        times: dict[tuple[datetime, str], dict[int, int]] = defaultdict(dict)
        if len(sums) <= MOST_ROWS:
            cursor.execute(
                f"SELECT {at}, value, slot, sum(recipients) FROM delivery_statistic_time {where} GROUP BY 1, 2, 3",
                asked,
            )
            for moment, value, slot, number in cursor.fetchall():
                times[moment, value][slot] = int(number)
    rows = (
        Row(
            moment,
            value,
            Totals(**{name: int(number or 0) for name, number in zip(COLUMNS, found, strict=True)}),
            Waits(
                histogram.percentile(times.get((moment, value), {}), 0.5),
                histogram.percentile(times.get((moment, value), {}), 0.95),
            ),
        )
        for moment, value, *found in sums
    )
    return Series(since, until, tuple(rows), classes(tenant, since, until))


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
