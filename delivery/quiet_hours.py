"""Quiet hours: a tenant's mail to mobile carriers waits until the morning, because a phone rings where it lies.

The window is the tenant's own, in its time zone. An engine that finds a lane due within it rests the lane until the window
ends; nothing of the mail changes, and no attempt is counted. What a transactional stream carries, such as a password
reset at midnight, goes on unless the tenant wants silence altogether.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import structlog
from django.db import connection, transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import QuietStreams, Tenant
from accounts.refusals import Refused
from delivery.core.suppressing import CARRIER_GROUPS
from delivery.models.stream import StreamKind
from delivery.queue import wake
from delivery.queue.claim import DueLane

log = structlog.get_logger(__name__)

REASON = "quiet_hours"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From a time of day until another, over midnight where the second is the earlier one."""

    begins: time
    ends: time
    zone: ZoneInfo

    def end_after(self, now: datetime) -> datetime | None:
        """When the silence that holds at ``now`` ends; None outside of it.

        Where clocks are put forward over the end, it ends at the first moment after (RFC 5545 §3.3.5 reads times likewise).
        """
        local = now.astimezone(self.zone)
        for day in (local.date() - timedelta(days=1), local.date()):
            begin = datetime.combine(day, self.begins, self.zone)
            last_day = day if self.ends > self.begins else day + timedelta(days=1)
            end = datetime.combine(last_day, self.ends, self.zone)
            if begin.timestamp() <= now.timestamp() < end.timestamp():
                return datetime.fromtimestamp(end.timestamp(), now.tzinfo)
        return None


@cache
def _zone(name: str) -> ZoneInfo:
    """UTC for a name that the machine does not know (any more): one tenant's clock stops nobody's mail."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        log.warning("time_zone_unknown", name=name)
        return ZoneInfo("UTC")


def set_quiet_hours(
    tenant: Tenant, *, begins: time | None, ends: time | None, streams: str = QuietStreams.BULK, actor: Actor
) -> None:
    """None for both ends the silence for good, and what rested goes on at once. Raises Refused."""
    if (begins is None) != (ends is None) or (begins is not None and begins == ends):
        raise Refused(
            _("Quiet hours need a beginning and an end that differ."),
            reason="quiet_hours_malformed",
            field="quiet_until",
        )
    if streams not in QuietStreams.values:
        raise Refused(
            _("Quiet hours are for bulk streams or for all."), reason="quiet_streams_unknown", field="quiet_streams"
        )
    before = _shape(tenant)
    tenant.quiet_from, tenant.quiet_until, tenant.quiet_streams = begins, ends, streams
    with transaction.atomic():
        tenant.save(update_fields=["quiet_from", "quiet_until", "quiet_streams"])
        with connection.cursor() as cursor:
            # An engine that finds them due looks at the new hours.
            cursor.execute(
                """UPDATE delivery_lane SET suspended_until = NULL, suspended_reason = ''
                   WHERE tenant_id = %s AND suspended_reason = %s""",
                [tenant.pk, REASON],
            )
            cursor.execute(wake.RING, [wake.LANES])
        audit.record(
            actor,
            "tenant.quiet_hours",
            tenant=tenant,
            object_id=tenant.id,
            object_name=tenant.slug,
            before=before,
            after=_shape(tenant),
        )


def _shape(tenant: Tenant) -> dict[str, Any]:
    return {
        "from": tenant.quiet_from and f"{tenant.quiet_from:%H:%M}",
        "until": tenant.quiet_until and f"{tenant.quiet_until:%H:%M}",
        "streams": tenant.quiet_streams,
    }


def quiet_lanes(lanes: Iterable[DueLane], now: datetime) -> dict[int, datetime]:
    """Which of these lanes rest, and until when."""
    resting: dict[int, datetime] = {}
    for lane in lanes:
        if lane.quiet_from is None or lane.quiet_until is None or lane.group_key not in CARRIER_GROUPS:
            continue
        if lane.quiet_streams == QuietStreams.BULK and lane.stream_kind != StreamKind.BULK:
            continue
        until = QuietHours(lane.quiet_from, lane.quiet_until, _zone(lane.time_zone)).end_after(now)
        if until is not None:
            resting[lane.id] = until
    return resting


async def rest(connection: psycopg.AsyncConnection[Any], lanes: dict[int, datetime]) -> None:
    """The lanes that rest say so, and are not due before."""
    await connection.execute(
        """UPDATE delivery_lane AS lane SET suspended_until = resting.until, suspended_reason = %s
           FROM unnest(%s::bigint[], %s::timestamptz[]) AS resting (id, until)
           WHERE lane.id = resting.id AND (lane.suspended_until IS NULL OR lane.suspended_until < resting.until)""",
        [REASON, list(lanes), list(lanes.values())],
    )
