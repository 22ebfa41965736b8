"""Scores of tenants and of their sending domains, from the counters of the statistics; written down every hour, and read.

What is read are the hours' counters of tenants that sent within thirty days, by their keys: nothing is counted anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Tenant, TenantState
from delivery.brakes.levels import UNKNOWN_CLASSES
from delivery.domain_blocklists.checks import severely_listed
from delivery.models import Brake, DomainState, SenderScore, SendingDomain
from delivery.reputation import scoring
from delivery.reputation.scoring import History, Met, Score

KEPT = timedelta(days=100)
LASTS = timedelta(hours=2)
_ADVISORY_LOCK = 7_294_120
_EVERY = timedelta(hours=1)
_AT_ONCE = 50
_PROVED = (DomainState.VERIFIED, DomainState.LAPSED)

_Owner = tuple[UUID, UUID | None]  # tenant, domain

# What the classes of bounces and returned mail count as; all others are `refused`.
_NAMES: dict[str, str] = {
    **dict.fromkeys(UNKNOWN_CLASSES, "unknown"),
    "content": "content",
    "ip_block": "blocked",
    "reverse_dns": "blocked",
    "authentication": "policy",
    "policy": "policy",
    "expired": "expired",
}

_COUNTS = """
SELECT tenant_id, dimension, value, sum(delivered), sum(returned), sum(complained), sum(suppressed), min(starts_at)
FROM delivery_statistic
WHERE tenant_id = ANY(%s) AND dimension IN ('all', 'domain') AND minutes = 60 AND starts_at > %s AND starts_at <= %s
GROUP BY tenant_id, dimension, value
"""

_CLASSES = """
SELECT tenant_id, dimension, value, reply_class, sum(bounced + returned)
FROM delivery_statistic_class
WHERE tenant_id = ANY(%s) AND dimension IN ('all', 'domain') AND minutes = 60 AND starts_at > %s AND starts_at <= %s
GROUP BY tenant_id, dimension, value, reply_class
"""


# ---------------------------------------------------------------- writing down


def write_due(*, now: datetime | None = None) -> int:
    """Write the scores of this hour down, once; returns how many."""
    now = now or timezone.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        # A little less: a task that comes a second early would otherwise wait for the next hour.
        if SenderScore.objects.filter(scored_at__gt=now - _EVERY * 0.9).exists():
            return 0
        return len(SenderScore.objects.bulk_create(compute(now=now), batch_size=500))


def forget_old(*, now: datetime | None = None) -> int:
    deleted, _by_table = SenderScore.objects.filter(scored_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


def compute(tenants: Iterable[Tenant] | None = None, *, now: datetime | None = None) -> Iterator[SenderScore]:
    """The scores of now, not written down: of each tenant first, then of its domains. Too little mail gives none."""
    now = now or timezone.now()
    if tenants is None:
        tenants = Tenant.objects.filter(is_system=False).exclude(state=TenantState.CLOSED).iterator()
    batch: list[Tenant] = []
    for tenant in tenants:
        batch.append(tenant)
        if len(batch) == _AT_ONCE:
            yield from _of_batch(batch, now)
            batch = []
    if batch:
        yield from _of_batch(batch, now)


def _of_batch(tenants: Sequence[Tenant], now: datetime) -> Iterator[SenderScore]:
    keys = [tenant.pk for tenant in tenants]
    domains: dict[UUID, list[SendingDomain]] = defaultdict(list)
    for domain in SendingDomain.objects.filter(tenant_id__in=keys, state__in=_PROVED).order_by("name"):
        domains[domain.tenant_id].append(domain)
    lengths = scoring.windows(scoring.formula_of_senders())
    met = {hours: _met(keys, domains, now - timedelta(hours=hours), now) for hours in lengths}
    begun = _begun(keys, domains, now)
    caps = _brakes(keys)
    listed = severely_listed([one.pk for own in domains.values() for one in own])
    for tenant in tenants:
        owners: list[SendingDomain | None] = [None, *domains[tenant.pk]]
        for owned in owners:
            key: _Owner = (tenant.pk, owned.pk if owned else None)
            if key not in met[max(lengths)]:
                continue
            history = History(
                windows={hours: by_key.get(key, Met()) for hours, by_key in met.items()},
                passed=_passed(begun.get(key, now), now),
                caps=frozenset(caps[tenant.pk] if owned is None else _caps_of(owned, listed)),
            )
            result = scoring.score(history, by=scoring.formula_of_senders())
            if result.value is not None:
                yield _row(tenant, owned, history, result, now)


def _row(tenant: Tenant, domain: SendingDomain | None, history: History, result: Score, now: datetime) -> SenderScore:
    assert result.value is not None
    return SenderScore(
        tenant=tenant,
        domain=domain,
        scored_at=now,
        score=result.value,
        cap=result.cap,
        cap_reason=result.cap_reason,
        terms=[asdict(term) for term in result.terms],
        figures={str(hours): dict(met.counts) for hours, met in history.windows.items()},
    )


# ---------------------------------------------------------------- what is known


def _met(
    keys: list[UUID], domains: dict[UUID, list[SendingDomain]], since: datetime, until: datetime
) -> dict[_Owner, Met]:
    counts: dict[_Owner, Counter[str]] = defaultdict(Counter)
    for tenant_id, dimension, value, delivered, returned, complained, suppressed, _first in _rows(
        _COUNTS, [keys, since, until]
    ):
        for owner in _owners(domains, tenant_id, dimension, value):
            # What came back was delivered before; its class is counted below.
            counts[owner].update(accepted=max(0, delivered - returned), complaints=complained, suppressed=suppressed)
    for tenant_id, dimension, value, reply_class, number in _rows(_CLASSES, [keys, since, until]):
        for owner in _owners(domains, tenant_id, dimension, value):
            counts[owner][_NAMES.get(reply_class, "refused")] += int(number)
    return {key: Met({name: int(number) for name, number in found.items()}) for key, found in counts.items()}


def _begun(keys: list[UUID], domains: dict[UUID, list[SendingDomain]], now: datetime) -> dict[_Owner, datetime]:
    """The first hour with mail, as far back as age counts."""
    begun: dict[_Owner, datetime] = {}
    since = now - timedelta(days=scoring.formula_of_senders()["age"]["days"] + 1)
    for tenant_id, dimension, value, *_sums, first in _rows(_COUNTS, [keys, since, now]):
        for owner in _owners(domains, tenant_id, dimension, value):
            begun[owner] = min(first, begun.get(owner, first))
    return begun


def _owners(domains: dict[UUID, list[SendingDomain]], tenant_id: UUID, dimension: str, value: str) -> list[_Owner]:
    """Whose a counter is. Authors below a domain count with it, and with the longest that they are below."""
    if dimension == "all":
        return [(tenant_id, None)]
    fitting = [
        one
        for one in domains.get(tenant_id, ())
        if value == one.name or (one.covers_subdomains and value.endswith(f".{one.name}"))
    ]
    return [(tenant_id, max(fitting, key=lambda one: len(one.name)).pk)] if fitting else []


def _passed(first: datetime, now: datetime) -> float:
    days = (now - first) / timedelta(days=1)
    return min(1.0, max(0.0, days / scoring.formula_of_senders()["age"]["days"]))


def _brakes(keys: list[UUID]) -> dict[UUID, set[str]]:
    """Brakes on the whole tenant; one on a credential is that credential's."""
    found: dict[UUID, set[str]] = defaultdict(set)
    pulled = Brake.objects.filter(tenant_id__in=keys, ended_at=None, credential_id=None)
    for tenant_id, step in pulled.values_list("tenant_id", "step"):
        found[tenant_id].add(f"brake_{step}")
    return found


def _caps_of(domain: SendingDomain, listed: set[UUID]) -> set[str]:
    caps = {"severe_listing"} if domain.pk in listed else set()
    return caps | {"records"} if domain.state == DomainState.LAPSED or domain.failing_since is not None else caps


def _rows(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


# ---------------------------------------------------------------- reading


def raises(row: SenderScore) -> list[str]:
    """What would raise a score, the most helpful first."""
    terms = tuple(scoring.Term(**term) for term in row.terms)
    return Score(row.score, terms, row.cap, row.cap_reason).what_would_raise_it


def latest_of_tenants(keys: Iterable[UUID], *, now: datetime | None = None) -> dict[UUID, SenderScore]:
    """By tenant, none older than two hours: what is older is no score of now."""
    found = SenderScore.objects.filter(
        tenant_id__in=list(keys), domain=None, scored_at__gt=(now or timezone.now()) - LASTS
    )
    rows = found.order_by("tenant_id", "-scored_at", "-id").distinct("tenant_id")
    return {row.tenant_id: row for row in rows}


def latest_of_domains(tenant: Tenant, *, now: datetime | None = None) -> dict[UUID, SenderScore]:
    found = SenderScore.objects.of(tenant).filter(domain__isnull=False, scored_at__gt=(now or timezone.now()) - LASTS)
    rows = found.order_by("domain_id", "-scored_at", "-id").distinct("domain_id")
    return {row.domain_id: row for row in rows if row.domain_id is not None}


def latest(tenant: Tenant, domain: SendingDomain | None = None, *, now: datetime | None = None) -> SenderScore | None:
    found = SenderScore.objects.of(tenant).filter(domain=domain, scored_at__gt=(now or timezone.now()) - LASTS)
    return found.order_by("-scored_at", "-id").first()


def history_of(tenant: Tenant, domain: SendingDomain | None = None) -> list[SenderScore]:
    """What was written down and is kept, the oldest first."""
    return list(SenderScore.objects.of(tenant).filter(domain=domain).order_by("scored_at", "id"))


@dataclass(frozen=True, slots=True)
class Day:
    """The scores of a day in a zone: the last one, and the lowest."""

    day: date
    last: int
    lowest: int


def days_of(tenant: Tenant, domain: SendingDomain | None = None, *, zone: ZoneInfo, days: int = 100) -> list[Day]:
    """The oldest first; days without a score are left out."""
    since = timezone.now() - timedelta(days=days)
    found: dict[date, list[int]] = {}
    rows = SenderScore.objects.of(tenant).filter(domain=domain, scored_at__gte=since)
    for at, score in rows.order_by("scored_at", "id").values_list("scored_at", "score"):
        found.setdefault(at.astimezone(zone).date(), []).append(score)
    return [Day(day, values[-1], min(values)) for day, values in found.items()]
