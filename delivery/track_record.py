"""How cleanly a tenant sends: what raises its trust, and what is told when bounces or complaints rise.

Counted over a bounded time, tenant by tenant, in short statements: no long snapshot over the tables that grow.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection
from django.utils import timezone

from accounts import notices, quotas, trust
from accounts.audit import Actor
from accounts.identifiers import first_of
from accounts.models import Notice, NoticeKind, QuotaBucket, QuotaPeriod, Tenant, TenantState
from accounts.trust import Record
from delivery.models import DomainState, SendingDomain

WINDOW = timedelta(hours=24)
FEWEST = 100  # below that a few bad addresses would look like a wave
NEAR = 0.8
_LONGEST = timedelta(days=60)


def record_of(tenant: Tenant, *, since: datetime, now: datetime | None = None) -> Record:
    """Of mail accepted since then: taken by the receiving hosts, bounced or returned, complained about."""
    begun = first_of(max(since, (now or timezone.now()) - _LONGEST))
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FILTER (WHERE state = 'delivered' AND returned_at IS NULL),
                      count(*) FILTER (WHERE state = 'bounced' OR returned_at IS NOT NULL)
               FROM delivery_recipient WHERE tenant_id = %s AND id >= %s""",
            [tenant.pk, begun],
        )
        accepted, bounced = cursor.fetchone()
        cursor.execute(
            "SELECT count(*) FROM delivery_complaint WHERE tenant_id = %s AND received_at >= %s", [tenant.pk, since]
        )
        return Record(accepted, bounced, cursor.fetchone()[0])


# ---------------------------------------------------------------- trust


def raise_trust(*, now: datetime | None = None) -> int:
    """Tenants that have earned their next step get it. Running it twice raises nobody twice."""
    moment, risen = now or timezone.now(), 0
    waiting = Tenant.objects.filter(state=TenantState.ACTIVE, trust_level__lt=len(trust.STEPS), awaits_approval=False)
    for tenant in waiting.iterator():
        step, since = trust.step_of(tenant), tenant.trust_since
        if step is None or since is None or moment - since < timedelta(days=step.days):
            continue
        if trust.has_earned(step, record_of(tenant, since=since, now=moment), since=since, now=moment):
            trust.rise(tenant, actor=Actor.system("trust"))
            risen += 1
    return risen


# ---------------------------------------------------------------- what is told


def watch_limits(*, now: datetime | None = None) -> None:
    """80 and 100 % of a tenant's hour, day or month; over when the period is, or the limit was raised."""
    moment = now or timezone.now()
    starts = {period: quotas.window_start(period, moment) for period in QuotaPeriod.values}
    limited = {
        tenant.pk: tenant
        for tenant in Tenant.objects.exclude(hourly_limit=None, daily_limit=None, monthly_limit=None).exclude(
            state=TenantState.CLOSED
        )
    }
    used = {
        (bucket.owner_id, bucket.period): bucket.used
        for bucket in QuotaBucket.objects.filter(owner_id__in=limited, window_start__in=starts.values())
        if bucket.window_start == starts[bucket.period]
    }
    for tenant in limited.values():
        near: list[str] = []
        reached: list[str] = []
        for period, limit in (
            ("hour", tenant.hourly_limit),
            ("day", tenant.daily_limit),
            ("month", tenant.monthly_limit),
        ):
            count = used.get((tenant.pk, period), 0)
            if not limit or count < limit * NEAR:
                continue
            subject = f"{period} {starts[period]:%Y-%m-%dT%H}"
            kind = NoticeKind.LIMIT_REACHED if count >= limit else NoticeKind.LIMIT_NEAR
            (reached if count >= limit else near).append(subject)
            notices.raise_notice(tenant, kind, subject=subject, data={"period": period, "used": count, "limit": limit})
        notices.close_notice(tenant, NoticeKind.LIMIT_NEAR, but=tuple(near))
        notices.close_notice(tenant, NoticeKind.LIMIT_REACHED, but=tuple(reached))


def watch_domains() -> None:
    """A needed record that went missing, before and after new mail is refused for it."""
    _tell_domains(NoticeKind.DOMAIN_FAILING, state=DomainState.VERIFIED)
    _tell_domains(NoticeKind.DOMAIN_LAPSED, state=DomainState.LAPSED)


def _tell_domains(kind: NoticeKind, *, state: str) -> None:
    found = SendingDomain.objects.filter(state=state).exclude(failing_since=None).select_related("tenant")
    names: dict[str, set[str]] = {}
    for domain in found:
        names.setdefault(str(domain.tenant_id), set()).add(domain.name)
        since = domain.failing_since
        notices.raise_notice(
            domain.tenant,
            kind,
            subject=domain.name,
            data={"domain": domain.name, "since": since.astimezone(UTC).isoformat() if since else ""},
        )
    for notice in Notice.objects.filter(kind=kind, closed_at=None).select_related("tenant"):
        if notice.subject not in names.get(str(notice.tenant_id), set()):
            notices.close_notice(notice.tenant, kind, subject=notice.subject)


def watch_rates(*, now: datetime | None = None) -> None:
    """Bounces and complaints of the last day, for tenants that sent enough to tell; over when half the bound is left."""
    moment = now or timezone.now()
    today = quotas.window_start("day", moment)
    busy = QuotaBucket.objects.filter(
        period="day", window_start__gte=today - timedelta(days=1), used__gte=FEWEST
    ).values_list("owner_id", flat=True)
    watched = set(Notice.objects.filter(kind__in=_RATES, closed_at=None).values_list("tenant_id", flat=True))
    for tenant in Tenant.objects.filter(pk__in=watched | set(busy), is_system=False):
        record = record_of(tenant, since=moment - WINDOW, now=moment)
        for kind, count, total, most in (
            (NoticeKind.BOUNCES_RISING, record.bounced, record.settled, trust.MOST_BOUNCED),
            (NoticeKind.COMPLAINTS_RISING, record.complained, record.accepted, trust.MOST_COMPLAINED),
        ):
            if total >= FEWEST and count > total * most and count > 1:
                notices.raise_notice(
                    tenant, kind, data={"count": count, "total": total, "percent": round(100 * count / total, 2)}
                )
            elif count <= total * most / 2:
                notices.close_notice(tenant, kind)


_RATES = (NoticeKind.BOUNCES_RISING, NoticeKind.COMPLAINTS_RISING)
