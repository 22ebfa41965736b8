"""DMARC and TLS reports, kept for the domain they are about.

Anybody may write such a report, so nothing is kept that is not about a verified domain, nothing beyond so many a day, and
nothing follows from one but what its tenant reads. A report is counted once, by its reporter and id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from delivery.core.aggregates import Damaged, Found
from delivery.core.dmarc import AggregateReport, Sender
from delivery.core.tls_reports import TlsReport
from delivery.models import (
    AggregateKind,
    DmarcRow,
    DomainReport,
    DomainState,
    ReturnedKind,
    ReturnedMail,
    SendingDomain,
    TlsFailure,
)

log = structlog.get_logger(__name__)

KEPT = timedelta(days=180)
MOST_PER_DAY = 300
MOST_ROWS = 1_000
# Clocks differ, and a report may be written before its day is over.
_AHEAD = timedelta(days=2)

NO_REPORT, NOT_OURS, AGAIN, TAKEN, TOO_MANY = "no_report", "unknown_domain", "again", "taken", "too_many"


def take(row: ReturnedMail, found: Sequence[Found]) -> str:
    """Inside a transaction; returns what became of it, as a machine word: of several reports, the best."""
    outcomes = [_take_one(row, one) for one in found]
    return min(outcomes, key=_RANK.index, default=NO_REPORT)


_RANK = (TAKEN, AGAIN, TOO_MANY, NOT_OURS, "damaged", NO_REPORT)


def forget_old(*, now: datetime | None = None) -> int:
    return DomainReport.objects.filter(ends_at__lt=(now or timezone.now()) - KEPT).delete()[0]


def _take_one(row: ReturnedMail, one: Found) -> str:
    match one:
        case AggregateReport():
            return _keep(row, AggregateKind.DMARC, one, one.policy.domain)
        case TlsReport():
            return _keep(row, AggregateKind.TLS, one, one.domain)
        case Damaged():
            return _note_damaged(row, one)


def _keep(row: ReturnedMail, kind: AggregateKind, report: AggregateReport | TlsReport, name: str) -> str:
    domain = find_verified(name)
    if domain is None:
        return NOT_OURS
    now = timezone.now()
    if not now - KEPT < report.ends_at < now + _AHEAD:
        return _note_damaged(row, Damaged("no_period", name))
    if _has_had_enough(domain, now=now):
        return TOO_MANY
    kept, is_new = DomainReport.objects.get_or_create(
        domain=domain,
        kind=kind,
        reporter=report.reporter,
        report_id=report.report_id,
        defaults={
            "tenant_id": domain.tenant_id,
            "contact": report.contact,
            "policy_domain": name,
            "begins_at": report.begins_at,
            "ends_at": report.ends_at,
            "received_at": row.received_at,
            "returned_id": row.pk,
        },
    )
    if not is_new:
        return AGAIN
    if isinstance(report, AggregateReport):
        _fill_dmarc(kept, report)
    else:
        _fill_tls(kept, report)
    return TAKEN


def find_verified(name: str) -> SendingDomain | None:
    """The verified domain that a report about ``name`` belongs to: itself, or one that covers it."""
    labels = name.split(".")
    names = [".".join(labels[index:]) for index in range(len(labels) - 1)]
    found = SendingDomain.objects.filter(name__in=names, state=DomainState.VERIFIED)
    covering = [domain for domain in found if domain.name == name or domain.covers_subdomains]
    return max(covering, key=lambda domain: len(domain.name), default=None)


def _has_had_enough(domain: SendingDomain, *, now: datetime) -> bool:
    recent = DomainReport.objects.filter(domain=domain, received_at__gt=now - timedelta(days=1))
    return recent[: MOST_PER_DAY + 1].count() >= MOST_PER_DAY


def _fill_dmarc(kept: DomainReport, report: AggregateReport) -> None:
    rows = [_dmarc_row(kept, sender) for sender in report.senders[:MOST_ROWS]]
    rows += _rest(kept, report.senders[MOST_ROWS:])
    DmarcRow.objects.bulk_create(rows, batch_size=500)
    kept.total = report.count
    kept.passed = sum(sender.count for sender in report.senders if sender.passes)
    kept.policy = report.policy.p
    kept.is_cut = report.is_cut or len(report.senders) > MOST_ROWS
    kept.save(update_fields=["total", "passed", "policy", "is_cut"])


def _dmarc_row(kept: DomainReport, sender: Sender) -> DmarcRow:
    return DmarcRow(
        report=kept,
        source=sender.source,
        count=sender.count,
        dkim_aligned=sender.dkim,
        spf_aligned=sender.spf,
        disposition=sender.disposition,
        override=sender.override,
        header_from=sender.header_from,
        dkim_domain=sender.dkim_domain,
        dkim_selector=sender.dkim_selector,
        dkim_result=sender.dkim_result,
        spf_domain=sender.spf_domain,
        spf_result=sender.spf_result,
    )


def _rest(kept: DomainReport, senders: Iterable[Sender]) -> list[DmarcRow]:
    """The many small ones as two rows without an address, so that the sums stay true."""
    sums: dict[tuple[bool, bool], int] = {}
    for sender in senders:
        key = (sender.dkim, sender.spf)
        sums[key] = sums.get(key, 0) + sender.count
    return [
        DmarcRow(report=kept, source=None, count=count, dkim_aligned=dkim, spf_aligned=spf)
        for (dkim, spf), count in sums.items()
    ]


def _fill_tls(kept: DomainReport, report: TlsReport) -> None:
    TlsFailure.objects.bulk_create(
        TlsFailure(
            report=kept,
            kind=detail.kind,
            count=detail.count,
            sending_address=detail.sending_address,
            receiving_host=detail.receiving_host,
            detail=detail.detail,
        )
        for policy in report.policies
        for detail in policy.details[:MOST_ROWS]
    )
    kept.passed = sum(policy.successes for policy in report.policies)
    kept.total = kept.passed + sum(policy.failures for policy in report.policies)
    kept.policy = ", ".join(sorted({policy.kind for policy in report.policies}))[:20]
    kept.save(update_fields=["total", "passed", "policy"])


def _note_damaged(row: ReturnedMail, damaged: Damaged) -> str:
    """Where its name says whom it is about, they see that one came and could not be read."""
    domain = find_verified(damaged.domain) if damaged.domain else None
    if domain is not None and not _has_had_enough(domain, now=timezone.now()):
        with transaction.atomic():
            DomainReport.objects.get_or_create(
                domain=domain,
                kind=AggregateKind.TLS if row.kind == ReturnedKind.TLS else AggregateKind.DMARC,
                reporter=row.reverse_path.rpartition("@")[2][:255],
                report_id=str(row.pk),
                defaults={
                    "tenant_id": domain.tenant_id,
                    "begins_at": row.received_at,
                    "ends_at": row.received_at,
                    "received_at": row.received_at,
                    "returned_id": row.pk,
                    "fault": damaged.reason[:30],
                },
            )
    log.info("aggregate_report_damaged", returned=str(row.pk), reason=damaged.reason)
    return "damaged"
