"""A tenant's figures for a period: totals, courses over time, and how they divide. Sums of counters, flat in cost.

Outcomes count at the time they happened; acceptance by us, and that a recipient was put off, at the time of acceptance.
What was written down in the last seconds may not be counted yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.models import Credential, Tenant
from delivery.core import histogram
from delivery.models import ProviderGroup, Stream
from delivery.statistics.counting import ALL, KEEP_QUARTERS

# Below this many settled recipients a percentage says more than is known.
ENOUGH_FOR_A_RATE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Recipients. ``deferred`` are those that were put off at least once; they are among the others, sooner or later."""

    accepted: int = 0
    delivered: int = 0
    deferred: int = 0
    bounced: int = 0
    expired: int = 0
    suppressed: int = 0
    cancelled: int = 0
    returned: int = 0
    complained: int = 0
    unsubscribed: int = 0

    @property
    def decided(self) -> int:
        """What the receiving side has decided on. Suppressed, cancelled and test mail is not among it."""
        return self.delivered + self.bounced + self.expired

    @property
    def failed(self) -> int:
        return self.bounced + self.expired

    @property
    def acceptance_rate(self) -> float | None:
        """delivered ÷ (delivered + bounced + expired); None where too few to say."""
        return self._of_decided(self.delivered)

    @property
    def bounce_rate(self) -> float | None:
        """(bounced + returned) ÷ (delivered + bounced + expired)."""
        return self._of_decided(self.bounced + self.returned)

    @property
    def complaint_rate(self) -> float | None:
        """complained ÷ (delivered + bounced + expired)."""
        return self._of_decided(self.complained)

    @property
    def unsubscribe_rate(self) -> float | None:
        """unsubscribed ÷ (delivered + bounced + expired)."""
        return self._of_decided(self.unsubscribed)

    def _of_decided(self, number: int) -> float | None:
        return min(1.0, number / self.decided) if self.decided >= ENOUGH_FOR_A_RATE else None


COLUMNS = tuple(Totals.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Waits:
    """Time from our acceptance to the receiving server's: half, and 95 of 100, took no longer. Within 9 %."""

    p50: timedelta | None = None
    p95: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """One value of a dimension. An empty value stands for everything without a name of its own."""

    value: str
    totals: Totals
    waits: Waits


@dataclass(frozen=True, slots=True)
class Breakdown:
    slices: tuple[Slice, ...]
    left_out: int = 0  # values beyond the limit


@dataclass(frozen=True, slots=True)
class Course:
    """Totals and waits between neighbouring edges: one fewer than there are edges."""

    edges: tuple[datetime, ...]
    totals: tuple[Totals, ...]
    waits: tuple[Waits, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ClassCount:
    reply_class: str
    failed: int
    returned: int


_SUMS = ", ".join(f"sum({name})" for name in COLUMNS)


def totals(tenant: Tenant, since: datetime, until: datetime, *, dimension: str = ALL, value: str = "") -> Totals:
    return course(tenant, (since, until), dimension=dimension, value=value, with_waits=False).totals[0]


def totals_of_many(tenant_ids: Sequence[UUID], since: datetime, until: datetime) -> dict[UUID, Totals]:
    """By tenant, in whole hours; tenants of which nothing was counted are not among them."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT tenant_id, {_SUMS} FROM delivery_statistic
                WHERE tenant_id = ANY(%s) AND dimension = %s AND minutes = 60 AND value = '' AND starts_at >= %s
                  AND starts_at < %s GROUP BY tenant_id""",
            [list(tenant_ids), ALL, since, until],
        )
        return {tenant_id: _totals(sums) for tenant_id, *sums in cursor.fetchall()}


def course(
    tenant: Tenant, edges: Sequence[datetime], *, dimension: str = ALL, value: str = "", with_waits: bool = True
) -> Course:
    """``edges`` are quarters of an hour, ascending."""
    where, parameters = _where(tenant, edges, dimension, value)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT width_bucket(starts_at, %s::timestamptz[]), {_SUMS} FROM delivery_statistic {where} GROUP BY 1",
            [list(edges), *parameters],
        )
        found = {row[0]: _totals(row[1:]) for row in cursor.fetchall()}
        waits: dict[int, dict[int, int]] = defaultdict(dict)
        if with_waits:
            cursor.execute(
                f"""SELECT width_bucket(starts_at, %s::timestamptz[]), slot, sum(recipients) FROM delivery_statistic_time
                    {where} GROUP BY 1, 2""",
                [list(edges), *parameters],
            )
            for place, slot, number in cursor.fetchall():
                waits[place][slot] = number
    places = range(1, len(edges))
    return Course(
        edges=tuple(edges),
        totals=tuple(found.get(place, Totals()) for place in places),
        waits=tuple(_waits(waits[place]) for place in places) if with_waits else (),
    )


def waits(tenant: Tenant, since: datetime, until: datetime, *, dimension: str = ALL, value: str = "") -> Waits:
    return course(tenant, (since, until), dimension=dimension, value=value).waits[0]


def breakdown(tenant: Tenant, since: datetime, until: datetime, *, dimension: str, most: int = 50) -> Breakdown:
    """The values of a dimension with the most mail, with totals and waits."""
    where, parameters = _where(tenant, (since, until), dimension)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT value, {_SUMS}, count(*) OVER () FROM delivery_statistic {where} GROUP BY value
                ORDER BY greatest(sum(accepted), sum(delivered + bounced + expired)) DESC, value LIMIT %s""",
            [*parameters, most],
        )
        rows = cursor.fetchall()
        cursor.execute(
            f"""SELECT value, slot, sum(recipients) FROM delivery_statistic_time {where} AND value = ANY(%s)
                GROUP BY 1, 2""",
            [*parameters, [row[0] for row in rows]],
        )
        times: dict[str, dict[int, int]] = defaultdict(dict)
        for value, slot, number in cursor.fetchall():
            times[value][slot] = number
    return Breakdown(
        slices=tuple(Slice(row[0], _totals(row[1:-1]), _waits(times[row[0]])) for row in rows),
        left_out=rows[0][-1] - len(rows) if rows else 0,
    )


def classes(
    tenant: Tenant, since: datetime, until: datetime, *, dimension: str = ALL, value: str = ""
) -> tuple[ClassCount, ...]:
    """Why mail failed or came back, the most frequent reason first."""
    where, parameters = _where(tenant, (since, until), dimension, value)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT reply_class, sum(bounced), sum(returned) FROM delivery_statistic_class {where} GROUP BY 1
                ORDER BY sum(bounced) + sum(returned) DESC, 1""",
            parameters,
        )
        return tuple(ClassCount(*row) for row in cursor.fetchall())


@dataclass(frozen=True, slots=True)
class OpenMail:
    """What is not in a final state now; beyond the limit only that there are at least so many."""

    number: int
    is_exact: bool


COUNTED_OPEN = 10_000


def open_mail(tenant: Tenant) -> OpenMail:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT 1 FROM delivery_queue_entry WHERE tenant_id = %s LIMIT %s) AS open",
            [tenant.pk, COUNTED_OPEN + 1],
        )
        number = cursor.fetchone()[0]
    return OpenMail(min(number, COUNTED_OPEN), number <= COUNTED_OPEN)


def _where(
    tenant: Tenant, edges: Sequence[datetime], dimension: str, value: str | None = None
) -> tuple[str, list[Any]]:
    sql = "WHERE tenant_id = %s AND dimension = %s AND minutes = %s AND starts_at >= %s AND starts_at < %s"
    # Beyond the time of the quarters, the days of a zone that is half an hour off are cut at our hours.
    is_old = edges[0] < datetime.now(tz=UTC) - KEEP_QUARTERS
    minutes = 60 if is_old or all(edge.minute == 0 for edge in edges) else 15
    parameters: list[Any] = [tenant.pk, dimension, minutes, edges[0], edges[-1]]
    if value is not None:
        return f"{sql} AND value = %s", [*parameters, value]
    return sql, parameters


def _totals(sums: Iterable[Any]) -> Totals:
    return Totals(**{name: int(number or 0) for name, number in zip(COLUMNS, sums, strict=True)})


def _waits(counts: dict[int, int]) -> Waits:
    return Waits(histogram.percentile(counts, 0.5), histogram.percentile(counts, 0.95))


def names_of(tenant: Tenant, dimension: str, values: Iterable[str]) -> dict[str, str]:
    """What people call these values, where the value is a key; the others are their own names."""
    wanted = [value for value in values if value]
    if dimension == "provider":
        return dict(ProviderGroup.objects.filter(key__in=wanted).values_list("key", "title"))
    if dimension not in {"stream", "credential"}:
        return {}
    rows: Any = (Stream if dimension == "stream" else Credential).objects
    named = rows.of(tenant).filter(id__in=[UUID(value) for value in wanted]).values_list("id", "name")
    return {str(key): name for key, name in named}
