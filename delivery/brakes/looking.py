"""The rules about tenants, carriers, credentials and volume, judged by the counters of the statistics, twice a minute.

Mail that came back and complaints, which no attempt shows, are seen here. What was only slowed and is clean again is let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Tenant, TenantState
from delivery.brakes import evidence, levels, pulling
from delivery.brakes.levels import UNKNOWN_CLASSES, Count, Rule, Step
from delivery.brakes.pulling import BY_HAND, Owner
from delivery.models import Brake

_ADVISORY_LOCK = 7_294_119
_QUARTER = timedelta(minutes=15)
_BEFORE = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Looked:
    pulled: int = 0
    ended: int = 0


def look(*, now: datetime | None = None) -> Looked:
    """Running it twice pulls nothing twice; where another process is at it, nothing happens."""
    moment = now or timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return Looked()
        ended = sum(_end_if_clean(brake, moment) for brake in _slowed())
        return Looked(sum(_judge(rule, moment) for rule in levels.rules() if rule.of != "watched"), ended)


def _judge(rule: Rule, now: datetime) -> int:
    pulled = 0
    found = _counts(rule, since=now - rule.window, now=now)
    owners = Tenant.objects.in_bulk([tenant_id for tenant_id, _value in found])
    for (tenant_id, value), count in found.items():
        tenant = owners.get(tenant_id)
        if tenant is None or tenant.state == TenantState.CLOSED:
            continue
        owner = Owner(tenant, _credential(rule, value))
        since, times = _begun(owner, rule, now)
        if since > now - rule.window:
            again = _counts(rule, since=since, now=now, tenant_id=tenant_id)
            count = again.get((tenant_id, value), Count(0, 0))
        finding = levels.judge(rule, count, level=pulling.level_of(tenant), times=times)
        if finding is None or _is_braked(owner, rule, finding.step):
            continue
        told = evidence.of(owner, finding, since=since, group=value if rule.of == "carrier" else "")
        pulled += pulling.pull(owner, rule=rule.name, step=finding.step, evidence=told) is not None
    return pulled


def _credential(rule: Rule, value: str) -> UUID | None:
    return UUID(value) if rule.of in ("credential", "volume") else None


def _begun(owner: Owner, rule: Rule, now: datetime) -> tuple[datetime, float]:
    """From when on it counts, and how many times the share it needs: what a person has judged is not judged again."""
    last = (
        Brake.objects.filter(tenant=owner.tenant, credential_id=owner.credential_id, ended_at__gt=now - rule.window)
        .filter(rule=rule.name)
        .order_by("-ended_at")
        .first()
    )
    length, times = levels.grace()
    is_fresh = Brake.objects.filter(
        tenant=owner.tenant, credential_id=owner.credential_id, rule=rule.name, is_released=True,
        ended_at__gt=now - length,
    ).exists()  # fmt: skip
    since = now - rule.window
    if last is not None and last.ended_at is not None:
        since = max(since, last.ended_at)
    return since, times if is_fresh else 1.0


def _is_braked(owner: Owner, rule: Rule, step: Step) -> bool:
    """Spares the look for evidence where nothing would come of it."""
    known = Brake.objects.filter(
        tenant=owner.tenant, credential_id=owner.credential_id, rule=rule.name, ended_at=None
    ).first()
    return known is not None and Step(known.step).hardness >= step.hardness


# ---------------------------------------------------------------- letting go


def _slowed() -> list[Brake]:
    return list(
        Brake.objects.filter(ended_at=None, step=Step.SLOW).exclude(rule=BY_HAND).select_related("tenant")[:500]
    )


def _end_if_clean(brake: Brake, now: datetime) -> bool:
    rule = levels.rule_named(brake.rule)
    if rule is None:  # no rule of that name is left in the data
        return pulling.end_clean(brake)
    since = max(brake.pulled_at, now - rule.window)
    value = str(brake.credential_id or brake.evidence.get("group", ""))
    found = _counts(rule, since=since, now=now, tenant_id=brake.tenant_id)
    count = found.get((brake.tenant_id, value), Count(0, 0))
    level = pulling.level_of(brake.tenant)
    return levels.is_over(rule, count, level=level, pulled_for=now - brake.pulled_at) and pulling.end_clean(brake)


# ---------------------------------------------------------------- counting

_Key = tuple[UUID, str]  # tenant, value: a credential, a carrier, or nothing

_BAD = {
    "bounced": "sum(bounced + returned)",
    "complained": "sum(complained)",
    "accepted": "sum(accepted)",
}
_TOTAL = {
    "bounced": "sum(delivered + bounced)",
    "complained": "sum(delivered)",
    "accepted": "sum(accepted)",
}


def _counts(rule: Rule, *, since: datetime, now: datetime, tenant_id: UUID | None = None) -> dict[_Key, Count]:
    """By owner, those who have enough to be judged; of the quarters of an hour that begin in the time."""
    parameters: dict[str, Any] = {
        "since": _quarter_after(since), "until": now, "tenant": tenant_id, "least": rule.least,
        "fewest": rule.fewest, "groups": list(rule.groups), "classes": sorted(UNKNOWN_CLASSES),
        "before": now - _BEFORE,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_sql(rule), parameters)
        return {(owner, value): Count(int(bad), int(total)) for owner, value, bad, total in cursor.fetchall()}


def _sql(rule: Rule) -> str:
    if rule.of == "volume":
        return _VOLUME
    if rule.counts == "unknown":
        return _UNKNOWN
    dimension = "credential" if rule.of == "credential" else "all"
    bad, total = _BAD[rule.counts], _TOTAL[rule.counts]
    return f"""SELECT tenant_id, value, {bad}, {total} FROM delivery_statistic
               WHERE dimension = '{dimension}' AND minutes = 15 AND starts_at >= %(since)s AND starts_at <= %(until)s
                 AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s) AND ('{dimension}' = 'all' OR value <> '')
               GROUP BY tenant_id, value
               HAVING %(tenant)s::uuid IS NOT NULL OR ({bad} >= %(least)s AND {total} >= %(fewest)s)"""


_UNKNOWN = """
SELECT total.tenant_id, total.value, coalesce(bad.number, 0), total.number
FROM (SELECT tenant_id, value, sum(delivered + bounced) AS number FROM delivery_statistic
      WHERE dimension = 'provider' AND minutes = 15 AND starts_at >= %(since)s AND starts_at <= %(until)s
        AND value = ANY(%(groups)s) AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
      GROUP BY tenant_id, value) AS total
LEFT JOIN (SELECT tenant_id, value, sum(bounced + returned) AS number FROM delivery_statistic_class
      WHERE dimension = 'provider' AND minutes = 15 AND starts_at >= %(since)s AND starts_at <= %(until)s
        AND value = ANY(%(groups)s) AND reply_class = ANY(%(classes)s)
        AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
      GROUP BY tenant_id, value) AS bad USING (tenant_id, value)
WHERE %(tenant)s::uuid IS NOT NULL OR (total.number >= %(fewest)s AND bad.number >= %(least)s)
"""

# The last hour beside the busiest hour before it. Without an hour before there is nothing to compare with: such a credential
# is watched from its first mail.
_VOLUME = """
SELECT fresh.tenant_id, fresh.value, fresh.number,
       (SELECT max(hour.accepted) FROM delivery_statistic AS hour
        WHERE hour.tenant_id = fresh.tenant_id AND hour.dimension = 'credential' AND hour.minutes = 60
          AND hour.value = fresh.value AND hour.starts_at >= %(before)s AND hour.starts_at < %(since)s - interval '1 h')
FROM (SELECT tenant_id, value, sum(accepted) AS number FROM delivery_statistic
      WHERE dimension = 'credential' AND minutes = 15 AND value <> '' AND starts_at >= %(since)s AND starts_at <= %(until)s
        AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
      GROUP BY tenant_id, value) AS fresh
WHERE fresh.number >= %(fewest)s AND EXISTS (
    SELECT 1 FROM delivery_statistic AS hour
    WHERE hour.tenant_id = fresh.tenant_id AND hour.dimension = 'credential' AND hour.minutes = 60
      AND hour.value = fresh.value AND hour.starts_at >= %(before)s AND hour.starts_at < %(since)s - interval '1 h')
"""


def _quarter_after(moment: datetime) -> datetime:
    """Quarters that had begun before are left out: what was judged already must not count again."""
    begun = moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    return begun if begun == moment else begun + _QUARTER
