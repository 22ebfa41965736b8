"""What aggregate reports say about a tenant's domains, summed up: who sends in its name, what passes, who could not encrypt.

Who reports may lie; the sums are those of the reports. An address is *ours* when mail of this installation leaves from it,
*known* when its mail passed as the domain's own (whoever sends has its key, or stands in its SPF record), else a *stranger*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from accounts.models import Tenant
from delivery.models import AggregateKind, DmarcRow, DomainReport, DomainState, SendingDomain, SourceAddress, TlsFailure

MOST_SENDERS = 200
MOST_SHOWN = 50


class Who(StrEnum):
    OURS = "ours"
    KNOWN = "known"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class DomainSummary:
    """``passed`` of ``total`` mails passed DMARC; of TLS ``tls_total`` sessions ``tls_passed`` were encrypted."""

    domain: SendingDomain
    reports: int
    total: int
    passed: int
    tls_total: int
    tls_passed: int
    damaged: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class SenderLine:
    """One address that sends in the domain's name. ``source`` is None for many small ones of large reports together."""

    source: str | None
    who: Who
    count: int
    passed: int
    dkim: int
    spf: int
    quarantined: int
    rejected: int
    dkim_domains: tuple[str, ...]
    spf_domains: tuple[str, ...]
    reporters: int

    @property
    def failed(self) -> int:
        return self.count - self.passed


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a domain's mail comes from one kind of sender."""

    who: Who
    addresses: int
    count: int
    passed: int


@dataclass(frozen=True, slots=True)
class FailureLine:
    kind: str
    host: str
    count: int
    reporters: int
    details: tuple[str, ...]


def summaries(tenant: Tenant, *, since: datetime) -> list[DomainSummary]:
    """All domains of a tenant that are in use, those with the most failing mail first."""
    recent = Q(ends_at__gte=since)
    dmarc, tls = recent & Q(kind=AggregateKind.DMARC), recent & Q(kind=AggregateKind.TLS)
    sums = {
        row["domain_id"]: row
        for row in DomainReport.objects.of(tenant)
        .values("domain_id")
        .annotate(
            reports=Count("id", filter=recent & Q(fault="")),
            mails=Coalesce(Sum("total", filter=dmarc), 0),
            passing=Coalesce(Sum("passed", filter=dmarc), 0),
            sessions=Coalesce(Sum("total", filter=tls), 0),
            encrypted=Coalesce(Sum("passed", filter=tls), 0),
            damaged=Count("id", filter=recent & ~Q(fault="")),
            last_at=Max("received_at"),
        )
    }
    domains = SendingDomain.objects.of(tenant).exclude(state__in=[DomainState.REMOVED, DomainState.PENDING])
    found = [_summary(domain, sums.get(domain.id)) for domain in domains.order_by("name")]
    return sorted(found, key=lambda one: (one.passed - one.total, one.domain.name))


def summary_of(domain: SendingDomain, *, since: datetime) -> DomainSummary:
    found = summaries(domain.tenant, since=since)
    return next((one for one in found if one.domain.pk == domain.pk), _summary(domain, None))


def _summary(domain: SendingDomain, sums: Mapping[str, Any] | None) -> DomainSummary:
    if sums is None:
        return DomainSummary(domain, 0, 0, 0, 0, 0, 0, None)
    names = ("reports", "mails", "passing", "sessions", "encrypted", "damaged", "last_at")
    return DomainSummary(domain, *[sums[name] for name in names])


def _rows(domain: SendingDomain, since: datetime, reporter: str) -> QuerySet[DmarcRow]:
    rows = DmarcRow.objects.filter(report__domain=domain, report__kind=AggregateKind.DMARC, report__ends_at__gte=since)
    return rows.filter(report__reporter=reporter) if reporter else rows


def senders_of(domain: SendingDomain, *, since: datetime, reporter: str = "") -> list[SenderLine]:
    """Strangers first, then by volume; at most ``MOST_SENDERS``, chosen by volume."""
    passes = Q(dkim_aligned=True) | Q(spf_aligned=True)
    found = (
        _rows(domain, since, reporter)
        .values("source")
        .annotate(
            mails=Sum("count"),
            passed=Coalesce(Sum("count", filter=passes), 0),
            dkim=Coalesce(Sum("count", filter=Q(dkim_aligned=True)), 0),
            spf=Coalesce(Sum("count", filter=Q(spf_aligned=True)), 0),
            quarantined=Coalesce(Sum("count", filter=Q(disposition="quarantine")), 0),
            rejected=Coalesce(Sum("count", filter=Q(disposition="reject")), 0),
            dkim_domains=ArrayAgg("dkim_domain", distinct=True, filter=~Q(dkim_domain=""), default=[]),
            spf_domains=ArrayAgg("spf_domain", distinct=True, filter=~Q(spf_domain=""), default=[]),
            reporters=Count("report__reporter", distinct=True),
        )
        .order_by("-mails", "source")[:MOST_SENDERS]
    )
    ours = own_addresses()
    lines = [
        SenderLine(
            source=row["source"],
            who=_who(row["source"], row["passed"], ours),
            count=row["mails"],
            passed=row["passed"],
            dkim=row["dkim"],
            spf=row["spf"],
            quarantined=row["quarantined"],
            rejected=row["rejected"],
            dkim_domains=tuple(sorted(row["dkim_domains"])[:3]),
            spf_domains=tuple(sorted(row["spf_domains"])[:3]),
            reporters=row["reporters"],
        )
        for row in found
    ]
    return sorted(lines, key=lambda line: (_ORDER.index(line.who), -line.count))


_ORDER = (Who.STRANGER, Who.KNOWN, Who.OURS)


def _who(source: str | None, passed: int, ours: frozenset[str]) -> Who:
    if source is not None and source in ours:
        return Who.OURS
    return Who.KNOWN if passed else Who.STRANGER


def own_addresses() -> frozenset[str]:
    """Addresses that mail of this installation leaves from, or left from once."""
    addresses = SourceAddress.objects.exclude(address=None).values_list("address", flat=True)
    return frozenset(address for address in addresses if address is not None)


def shares(lines: Iterable[SenderLine]) -> list[Share]:
    """Of the lines shown, by kind of sender; kinds without mail are left out."""
    lines = list(lines)
    found = [(who, [line for line in lines if line.who is who]) for who in (Who.OURS, Who.KNOWN, Who.STRANGER)]
    return [
        Share(who, len(own), sum(line.count for line in own), sum(line.passed for line in own))
        for who, own in found
        if own
    ]


def reporters_of(domain: SendingDomain, *, since: datetime) -> list[str]:
    reports = DomainReport.objects.filter(domain=domain, kind=AggregateKind.DMARC, ends_at__gte=since, fault="")
    found = reports.values("reporter").annotate(mails=Sum("total")).order_by("-mails", "reporter")
    return [row["reporter"] for row in found[:MOST_SHOWN]]


def tls_failures_of(domain: SendingDomain, *, since: datetime) -> list[FailureLine]:
    found = (
        TlsFailure.objects.filter(report__domain=domain, report__ends_at__gte=since)
        .values("kind", "receiving_host")
        .annotate(
            sessions=Sum("count"),
            reporters=Count("report__reporter", distinct=True),
            details=ArrayAgg("detail", distinct=True, filter=~Q(detail=""), default=[]),
        )
        .order_by("-sessions", "kind")[:MOST_SHOWN]
    )
    return [
        FailureLine(row["kind"], row["receiving_host"], row["sessions"], row["reporters"], tuple(row["details"][:3]))
        for row in found
    ]


def damaged_of(domain: SendingDomain, *, since: datetime) -> list[DomainReport]:
    damaged = DomainReport.objects.filter(domain=domain, received_at__gte=since).exclude(fault="")
    return list(damaged.order_by("-received_at")[:MOST_SHOWN])


def latest_of(domain: SendingDomain, *, since: datetime) -> list[DomainReport]:
    """The newest reports, at most ``MOST_SHOWN``."""
    reports = DomainReport.objects.filter(domain=domain, ends_at__gte=since, fault="")
    return list(reports.order_by("-id")[:MOST_SHOWN])
