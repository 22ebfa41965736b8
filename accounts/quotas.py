"""What a tenant may hand over and has handed over: volume limits, sizes, and the bucket that paces it.

Volume is counted and refused where mail is accepted, by one conditional UPDATE; this module sets the limits, reads
what was used, and keeps the bucket rows of tenants and credentials in step with their rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import QuotaBucket, QuotaPeriod, RateBucket, Tenant
from accounts.refusals import Refused

LIMITS = ("hourly_limit", "daily_limit", "monthly_limit", "rate_per_second", "max_message_bytes", "max_recipients")
_HIGHEST_WHOLE_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """In force: the tenant's own, else the operator's. None: no limit of that kind."""

    hourly_limit: int | None
    daily_limit: int | None
    monthly_limit: int | None
    rate_per_second: float | None
    max_message_bytes: int
    max_recipients: int


def limits_of(tenant: Tenant) -> Limits:
    return Limits(
        hourly_limit=tenant.hourly_limit,
        daily_limit=tenant.daily_limit,
        monthly_limit=tenant.monthly_limit,
        rate_per_second=tenant.rate_per_second,
        # A tenant's own size limit never exceeds the installation's, which bounds the memory of the gates.
        max_message_bytes=min(tenant.max_message_bytes or settings.MAX_MESSAGE_BYTES, settings.MAX_MESSAGE_BYTES),
        max_recipients=min(tenant.max_recipients or settings.MAX_RECIPIENTS, settings.MAX_RECIPIENTS),
    )


def set_limits(tenant: Tenant, changes: Mapping[str, float | None], *, actor: Actor, by_ladder: bool = False) -> Limits:
    """``changes`` by name; None gives the operator's default back. Raises Refused for anything that is no limit.

    A daily limit that somebody sets is meant to stay: the tenant leaves the trust ladder, unless it is the ladder's own.
    """
    for name, value in changes.items():
        _check(name, value)
    with transaction.atomic():
        before = {name: getattr(tenant, name) for name in changes}
        Tenant.objects.filter(pk=tenant.pk).update(**changes)
        if "daily_limit" in changes and not by_ladder:
            Tenant.objects.filter(pk=tenant.pk).update(trust_level=None, trust_since=None)
        if "rate_per_second" in changes:
            keep_rate_bucket(tenant.id, changes["rate_per_second"])
        audit.record(
            actor,
            "limits.set",
            tenant=tenant,
            object_id=tenant.id,
            object_name=tenant.slug,
            before=before,
            after=changes,
        )
    tenant.refresh_from_db()
    return limits_of(tenant)


def usage_of(tenant: Tenant, *, now: datetime | None = None) -> dict[str, int]:
    """Recipients accepted in the current hour, day and month (UTC)."""
    moment = now or timezone.now()
    found = {
        (bucket.period, bucket.window_start): bucket.used
        for bucket in QuotaBucket.objects.filter(owner_id=tenant.id, window_start__gte=window_start("month", moment))
    }
    return {period: found.get((period, window_start(period, moment)), 0) for period in QuotaPeriod.values}


def months_of(tenant: Tenant) -> list[tuple[datetime, int]]:
    """Recipients accepted in each calendar month (UTC) that is known, the newest first."""
    found = QuotaBucket.objects.filter(owner_id=tenant.id, period=QuotaPeriod.MONTH).order_by("-window_start")
    return list(found.values_list("window_start", "used"))


def window_start(period: str, moment: datetime) -> datetime:
    """When the period that ``moment`` lies in began, in UTC: every process must find the same bucket."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    match QuotaPeriod(period):
        case QuotaPeriod.HOUR:
            return hour
        case QuotaPeriod.DAY:
            return hour.replace(hour=0)
        case QuotaPeriod.MONTH:
            return hour.replace(day=1, hour=0)


def window_end(period: str, moment: datetime) -> datetime:
    """When the next one begins, and what was used counts no more."""
    start = window_start(period, moment)
    # A month has at most 31 days, and the hours after it belong to the next.
    longest = {QuotaPeriod.HOUR: timedelta(hours=1), QuotaPeriod.DAY: timedelta(days=1)}.get(
        QuotaPeriod(period), timedelta(days=31)
    )
    return window_start(period, start + longest)


def keep_rate_bucket(owner_id: UUID, rate_per_second: float | None) -> None:
    """The bucket of a tenant or credential: made, changed or removed with its rate. A new one starts full."""
    if rate_per_second is None:
        RateBucket.objects.filter(owner_id=owner_id).delete()
        return
    # One second's worth may leave at once, and always a single mail.
    capacity = max(1.0, rate_per_second)
    changed = RateBucket.objects.filter(owner_id=owner_id).update(rate_per_second=rate_per_second, capacity=capacity)
    if not changed:
        RateBucket.objects.create(
            owner_id=owner_id,
            rate_per_second=rate_per_second,
            capacity=capacity,
            tokens=capacity,
            refilled_at=timezone.now(),
        )


def as_mapping(limits: Limits) -> dict[str, float | None]:
    return asdict(limits)


def _check(name: str, value: float | None) -> None:
    if name not in LIMITS:
        raise Refused(_("%(name)s is no limit.") % {"name": name}, reason="limit_unknown", field=name)
    if value is None:
        return
    if name == "rate_per_second":
        acceptable = 0.001 <= value <= 1e6
    else:
        acceptable = float(value).is_integer() and 0 <= value <= _HIGHEST_WHOLE_NUMBER
        acceptable = acceptable and not (name.startswith("max_") and value < 1)
    if not acceptable:
        sentence = _("%(value)s is no value for %(name)s.") % {"value": value, "name": name}
        raise Refused(sentence, reason="limit_malformed", field=name)
