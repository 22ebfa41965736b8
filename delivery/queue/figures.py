"""What waits over all tenants, on which paths, and who drives it: numbers for operators, without a word of any mail."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Count, Min

from accounts.models import Tenant
from delivery.models import QueueEntry, Worker
from delivery.queue.remembering import Remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFigures:
    provider: str
    title: str
    open: int
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    suspended_until: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFigures:
    """A source address towards a provider group. ``pace`` is the share of full speed, ``in_hand`` what is being attempted.

    ``state`` is that of the address; where it is not active, or the path is suspended, nothing begins.
    """

    provider: str
    source: str
    node: str
    state: str
    pace: float
    pace_reason: str
    in_hand: int
    suspended_until: datetime | None
    suspended_reason: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """Every recipient that is not in a final state: open = due + claimed + deferred + held.

    ``paths`` are those that are driven now, slowed or suspended.
    """

    open: int
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    by_provider: tuple[ProviderFigures, ...] = field(default=())
    paths: tuple[PathFigures, ...] = field(default=())


# Counted by lane first: lanes are few, entries may be a million.
_FIGURES_BY_GROUP = """
WITH by_lane AS (
    SELECT lane_id,
           count(*) AS open,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NULL AND next_attempt_at <= now()) AS due,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NOT NULL) AS claimed,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NULL AND next_attempt_at > now()) AS deferred,
           count(*) FILTER (WHERE held_reason IS NOT NULL) AS held,
           min(accepted_at) AS oldest
    FROM delivery_queue_entry GROUP BY lane_id
), by_group AS (
    SELECT l.group_id, sum(b.open) AS open, sum(b.due) AS due, sum(b.claimed) AS claimed, sum(b.deferred) AS deferred,
           sum(b.held) AS held, min(b.oldest) AS oldest
    FROM by_lane b LEFT JOIN delivery_lane l ON l.id = b.lane_id GROUP BY l.group_id
), suspended AS (
    SELECT DISTINCT ON (group_id) group_id, suspended_until, suspended_reason
    FROM (SELECT group_id, suspended_until, suspended_reason FROM delivery_lane WHERE suspended_until > now()
          UNION ALL
          SELECT group_id, suspended_until, suspended_reason FROM delivery_path WHERE suspended_until > now()) s
    ORDER BY group_id, suspended_until DESC
)
SELECT coalesce(g.key, ''), coalesce(g.title, ''), f.open, f.due, f.claimed, f.deferred, f.held,
       extract(epoch FROM now() - f.oldest), s.suspended_until, coalesce(s.suspended_reason, '')
FROM by_group f
LEFT JOIN delivery_providergroup g ON g.id = f.group_id
LEFT JOIN suspended s ON s.group_id = f.group_id
ORDER BY f.open DESC, g.key
"""


_PATHS = """
WITH in_hand AS (
    SELECT path_id, count(*) AS number FROM delivery_queue_entry WHERE path_id IS NOT NULL GROUP BY path_id
)
SELECT grp.key AS provider, coalesce(host(source.address), '') AS source, source.node_id AS node, source.state,
       path.pace_share AS pace, path.pace_reason, coalesce(in_hand.number, 0) AS in_hand,
       CASE WHEN path.suspended_until > now() THEN path.suspended_until END AS suspended_until,
       CASE WHEN path.suspended_until > now() THEN path.suspended_reason ELSE '' END AS suspended_reason,
       CASE WHEN path.leased_until > now() THEN path.owner ELSE '' END AS owner
FROM delivery_path AS path
JOIN delivery_providergroup AS grp ON grp.id = path.group_id
JOIN delivery_sourceaddress AS source ON source.id = path.source_id
LEFT JOIN in_hand ON in_hand.path_id = path.id
WHERE in_hand.number > 0 OR path.pace_share < 1 OR path.suspended_until > now()
   OR (path.owner <> '' AND path.leased_until > now())
ORDER BY coalesce(in_hand.number, 0) DESC, grp.key, source LIMIT %s
"""
# Sites that are one domain each are many: those with most in hand come first.
MOST_PATHS_SHOWN = 500


def _path_figures() -> tuple[PathFigures, ...]:
    with connection.cursor() as cursor:
        cursor.execute(_PATHS, [MOST_PATHS_SHOWN])
        names = [column.name for column in cursor.description]
        return tuple(PathFigures(**dict(zip(names, row, strict=True))) for row in cursor.fetchall())


def queue_stats() -> QueueFigures:
    """What waits, over all tenants: the operator's figures, without a word of any mail."""
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES_BY_GROUP)
        providers = tuple(
            ProviderFigures(
                provider=key,
                title=title,
                open=int(waiting),
                due=int(due),
                claimed=int(claimed),
                deferred=int(deferred),
                held=int(held),
                oldest_age_s=max(0.0, round(float(age), 1)),
                suspended_until=suspended_until,
                reason=reason,
            )
            for key, title, waiting, due, claimed, deferred, held, age, suspended_until, reason in cursor.fetchall()
        )
    return QueueFigures(
        open=sum(row.open for row in providers),
        due=sum(row.due for row in providers),
        claimed=sum(row.claimed for row in providers),
        deferred=sum(row.deferred for row in providers),
        held=sum(row.held for row in providers),
        oldest_age_s=max((row.oldest_age_s for row in providers), default=0.0),
        by_provider=providers,
        paths=_path_figures(),
    )


_recent = Remembered(queue_stats, size=lambda figures: figures.open)


def recent_queue_stats() -> QueueFigures:
    """For pages: a long queue is not counted anew for each look (delivery.queue.remembering)."""
    return _recent.get()


@dataclass(frozen=True, slots=True)
class TenantFigures:
    tenant: Tenant
    open: int
    oldest_accepted_at: datetime | None


def _count_by_tenant() -> dict[UUID, tuple[int, datetime]]:
    counted = QueueEntry.objects.values("tenant_id").annotate(number=Count("recipient_id"), oldest=Min("accepted_at"))
    return {row["tenant_id"]: (row["number"], row["oldest"]) for row in counted}


_by_tenant = Remembered(_count_by_tenant, size=lambda found: sum(number for number, _oldest in found.values()))


def open_by_tenant() -> dict[UUID, tuple[int, datetime]]:
    """How many recipients of each tenant are open, and when the oldest was accepted; as recent as ``recent_queue_stats``."""
    return _by_tenant.get()


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """Open recipients of one lane."""

    pool_id: UUID
    group_id: int
    open: int
    oldest: datetime


def _count_by_lane() -> tuple[LaneFigures, ...]:
    sql = """SELECT lane.pool_id, lane.group_id, by_lane.open, by_lane.oldest
             FROM (SELECT lane_id, count(*) AS open, min(accepted_at) AS oldest
                   FROM delivery_queue_entry GROUP BY lane_id) AS by_lane
             JOIN delivery_lane AS lane ON lane.id = by_lane.lane_id"""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return tuple(LaneFigures(*row) for row in cursor.fetchall())


_by_lane = Remembered(_count_by_lane, size=lambda lanes: sum(lane.open for lane in lanes))


def open_by_lane() -> tuple[LaneFigures, ...]:
    """Lanes with open recipients; as recent as ``recent_queue_stats``."""
    return _by_lane.get()


def tenants_with_open_mail() -> list[TenantFigures]:
    """Every tenant with what waits for it: for the operator, numbers only."""
    waiting = open_by_tenant()
    return [
        TenantFigures(tenant, *waiting.get(tenant.pk, (0, None)))
        for tenant in Tenant.objects.order_by("is_system", "slug")
    ]


def workers() -> list[Worker]:
    """The processes that have told the database that they live, by node and slot."""
    return list(Worker.objects.order_by("node_id", "slot"))
