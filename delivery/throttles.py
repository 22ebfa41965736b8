"""How fast receivers are approached, as operators see and change it: limits of a group, suspensions and pace of a path.

``shaping.overrides`` does it; here it is done by somebody, written down in the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.identifiers import first_of
from accounts.models import AuditEntry
from accounts.refusals import NotFound, Refused
from delivery.models import Path, ProviderGroup, SourceAddress
from delivery.queue import wake
from delivery.queue.figures import open_by_lane
from delivery.shaping import changes, overrides
from delivery.shaping.providers import Limits, default_limits
from delivery.sources import shares_of_limits
from delivery.time_limit import within_the_time_limit

# What a path that was suspended by hand is suspended for; the audit log has the words.
BY_HAND = changes.BY_HAND
LONGEST = timedelta(days=30)
# A suspension by the receiver that follows one by hand is measured as if that had been so long.
_MEASURE_FOR_THE_NEXT = timedelta(minutes=15)
REPLIES_OF = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver said to one of our addresses last; without the recipient's name."""

    ended_at: datetime
    host: str
    phase: str
    reply_code: int
    reply_enhanced: str
    reply_text: str
    reply_class: str
    rule: str


@dataclass(frozen=True, slots=True)
class InForce:
    """A limit, as people read and set it. ``default``: what it is without the override."""

    name: str
    value: Any
    default: Any
    is_overridden: bool


def find_group(key: str) -> ProviderGroup:
    """One that was met, or that is known by name. Raises NotFound."""
    group = overrides.find_group(key)
    if group is None:
        raise NotFound(_("There is no provider group %(key)s.") % {"key": key}, field="provider")
    return group


def limits_in_force(group: ProviderGroup) -> list[InForce]:
    defaults = default_limits(group.key, group.kind).values()
    values = overrides.limits_of(group).values()
    return [InForce(name, values[name], defaults[name], name in group.limits) for name in overrides.NAMES]


def change_limits(group: ProviderGroup, changes: Mapping[str, Any], *, actor: Actor) -> Limits:
    """Override limits at once; None takes an override back. Raises Refused."""
    before = {name: group.limits.get(name) for name in changes if group.limits.get(name) != changes[name]}
    if not before:
        return overrides.limits_of(group)
    try:
        with transaction.atomic():
            limits = overrides.set_limits(group.key, changes)
            audit.record(
                actor,
                "shaping.set",
                object_name=group.key,
                before=before,
                after={name: changes[name] for name in before},
            )
    except ValueError as error:
        raise Refused(_("These make no limits: %(why)s.") % {"why": error}, reason="limits_malformed") from None
    return limits


def suspend_path(
    source: SourceAddress, group: ProviderGroup, *, length: timedelta, reason: str, actor: Actor
) -> datetime:
    """No new attempt from ``source`` to the group until the time that is returned. Raises Refused."""
    if not timedelta(minutes=1) <= length <= LONGEST:
        raise Refused(_("A suspension lasts from a minute to 30 days."), reason="length_malformed", field="hours")
    until = timezone.now() + length
    with transaction.atomic():
        group, _is_new = ProviderGroup.objects.get_or_create(
            key=group.key, defaults={"kind": group.kind, "title": group.title}
        )
        path, _is_new = Path.objects.update_or_create(
            source=source,
            group=group,
            defaults={
                "suspended_until": until,
                "suspended_reason": BY_HAND,
                "suspension_s": _MEASURE_FOR_THE_NEXT.total_seconds(),
            },
        )
        changes.write_by_hand([path], reason=changes.BY_HAND, until=until)
        audit.record(
            actor,
            "shaping.suspend",
            object_name=group.key,
            after={"source": str(source), "ends_at": until},
            reason=reason,
        )
        _tell_engines()
    return until


def release_path(source: SourceAddress, group: ProviderGroup, *, actor: Actor) -> bool:
    """End the suspension and the slowed pace of one path now; False where there was none."""
    with transaction.atomic():
        found = Path.objects.filter(source=source, group=group).exclude(suspended_until__isnull=True, pace_share=1.0)
        touched = list(found.select_for_update(of=("self",)))
        changes.write_by_hand(touched, reason=changes.RELEASED)
        changed = Path.objects.filter(pk__in=[path.pk for path in touched]).update(
            suspended_until=None,
            suspended_reason="",
            suspension_s=0,
            pace_share=1.0,
            pace_reason="",
            pace_changed_at=timezone.now(),
        )
        if changed:
            audit.record(
                actor, "shaping.release", object_name=group.key, after={"source": str(source), "paths": changed}
            )
            _tell_engines()
    return bool(changed)


def _tell_engines() -> None:
    with connection.cursor() as cursor:
        for channel in (wake.PATHS, wake.LANES):
            cursor.execute(wake.RING, [channel])


# ---------------------------------------------------------------- looking


@dataclass(frozen=True, slots=True)
class Column:
    """A provider group with what waits for it in the whole installation."""

    group: ProviderGroup
    open: int
    oldest: datetime | None
    suspended: int
    slowed: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A path as the matrix shows it. ``in_hand``: recipients being attempted; ``at_most``: connections at full speed."""

    group: ProviderGroup
    at_most: int
    path: Path | None
    in_hand: int
    suspended_until: datetime | None

    @property
    def is_slowed(self) -> bool:
        return self.path is not None and self.path.pace_share < 1


@dataclass(frozen=True, slots=True)
class Row:
    source: SourceAddress
    cells: tuple[Cell, ...]


def columns(*, query: str = "", most: int = 8) -> tuple[list[Column], bool]:
    """Groups with mail, trouble or paths in use, those with most mail first; ``query`` finds quiet ones, too.

    And whether there are more.
    """
    sql = """WITH waiting AS (SELECT group_id, sum(open) AS open, min(oldest) AS oldest
                              FROM unnest(%(groups)s::bigint[], %(open)s::bigint[], %(oldest)s::timestamptz[])
                                   AS lane (group_id, open, oldest) GROUP BY group_id),
                  troubled AS (SELECT group_id, count(*) FILTER (WHERE suspended_until > now()) AS suspended,
                                      count(*) FILTER (WHERE pace_share < 1) AS slowed
                               FROM delivery_path WHERE suspended_until > now() OR pace_share < 1 GROUP BY group_id),
                  in_use AS (SELECT DISTINCT group_id FROM delivery_path WHERE owner <> '' AND leased_until > now())
             SELECT grp.id, coalesce(waiting.open, 0), waiting.oldest, coalesce(troubled.suspended, 0),
                    coalesce(troubled.slowed, 0)
             FROM delivery_providergroup AS grp
             LEFT JOIN waiting ON waiting.group_id = grp.id LEFT JOIN troubled ON troubled.group_id = grp.id
             LEFT JOIN in_use ON in_use.group_id = grp.id
             WHERE grp.kind NOT IN ('unrouted', 'unreachable')
               AND CASE WHEN %(like)s = '' THEN waiting.open > 0 OR troubled.group_id IS NOT NULL OR in_use.group_id IS NOT NULL
                                             OR grp.kind = 'provider'
                        ELSE strpos(lower(grp.title), %(like)s) > 0 OR strpos(grp.key, %(like)s) > 0 END
             ORDER BY coalesce(troubled.suspended, 0) + coalesce(troubled.slowed, 0) > 0 DESC,
                      coalesce(waiting.open, 0) DESC, in_use.group_id IS NULL, grp.title LIMIT %(most)s"""
    lanes = open_by_lane()
    values: dict[str, Any] = {
        "groups": [lane.group_id for lane in lanes],
        "open": [lane.open for lane in lanes],
        "oldest": [lane.oldest for lane in lanes],
        "like": query.lower(),
        "most": most + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found = cursor.fetchall()
    groups = ProviderGroup.objects.in_bulk([row[0] for row in found])
    return [Column(groups[key], int(number), *rest) for key, number, *rest in found[:most]], len(found) > most


def matrix(sources: list[SourceAddress], groups: list[ProviderGroup]) -> list[Row]:
    """For each of these addresses a cell for each of these groups."""
    paths = {
        (path.source_id, path.group_id): path for path in Path.objects.filter(source__in=sources, group__in=groups)
    }
    shares = shares_of_limits()
    in_hand: dict[int, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT path_id, count(*) FROM delivery_queue_entry WHERE path_id = ANY(%s) GROUP BY path_id",
            [[path.pk for path in paths.values()]],
        )
        in_hand = dict(cursor.fetchall())
    now = timezone.now()

    def cell(source: SourceAddress, group: ProviderGroup) -> Cell:
        path = paths.get((source.pk, group.pk))
        until = path.suspended_until if path and path.suspended_until and path.suspended_until > now else None
        number = in_hand.get(path.pk, 0) if path else 0
        return Cell(group, _limits_of(group).shared(shares.get(source.pk, 1.0)).connections, path, number, until)

    return [Row(source, tuple(cell(source, group) for group in groups)) for source in sources]


def _limits_of(group: ProviderGroup) -> Limits:
    try:
        return overrides.limits_of(group)
    except ValueError:
        # Engines leave overrides that cannot be read aside, too.
        return default_limits(group.key, group.kind)


def sources_of(
    *, pool: str = "", only_troubled: bool = False, before: UUID | None = None, size: int = 30
) -> tuple[list[SourceAddress], UUID | None]:
    """Addresses that are not retired, newest first, and the key that the next page begins before."""
    found = SourceAddress.objects.exclude(state="retired").select_related("pool", "node")
    if pool:
        found = found.filter(pool__name=pool)
    if only_troubled:
        troubled = Path.objects.filter(suspended_until__gt=timezone.now()) | Path.objects.filter(pace_share__lt=1)
        found = found.filter(pk__in=troubled.values("source_id")) | found.filter(state="unusable")
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found.order_by("-pk")[: size + 1])
    return rows[:size], rows[size - 1].pk if len(rows) > size else None


def last_replies(source: SourceAddress, group: ProviderGroup, *, most: int = 10) -> list[Reply]:
    """Of mail accepted within REPLIES_OF, newest first. Raises delivery.TookTooLong."""
    sql = """SELECT attempt.ended_at, attempt.host, attempt.phase, attempt.reply_code, attempt.reply_enhanced,
                    left(attempt.reply_text, 500), attempt.reply_class, attempt.rule
             FROM delivery_attempt AS attempt
             JOIN delivery_recipient AS recipient ON recipient.id = attempt.recipient_id AND recipient.id >= %(since)s
             WHERE attempt.message_id >= %(since)s AND attempt.source_id = %(source)s AND recipient.group_id = %(group)s
             ORDER BY attempt.ended_at DESC LIMIT %(most)s"""
    since = first_of(timezone.now() - REPLIES_OF)
    with within_the_time_limit(), connection.cursor() as cursor:
        cursor.execute(sql, {"since": since, "source": source.pk, "group": group.pk, "most": most})
        return [Reply(*row) for row in cursor.fetchall()]


def changes_by_hand(group: ProviderGroup, *, most: int = 20) -> list[AuditEntry]:
    found = AuditEntry.objects.filter(tenant=None, action__startswith="shaping.", object_name=group.key[:255])
    return list(found.order_by("-id")[:most])
