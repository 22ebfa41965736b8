"""DMARC and TLS reports that came in: kept for the domain they are about, once, and for nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
import zstandard
from django.utils import timezone

from delivery import domain_reports
from delivery.domain_reports import Who
from delivery.domains import add_domain
from delivery.models import (
    DmarcRow,
    DomainReport,
    Node,
    ReturnedKind,
    ReturnedMail,
    SendingDomain,
    SourceAddress,
    SourcePool,
)
from delivery.reports import aggregates, incoming
from tests.support.aggregates import dmarc_mail, mail_with, record, tls_mail
from tests.support.journeys import Cast, make_cast

NOW = datetime(2025, 11, 24, 6, tzinfo=UTC)
SINCE = datetime(2025, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _the_day_after() -> Any:
    with time_machine.travel(NOW, tick=True):
        yield


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def domain(cast: Cast) -> SendingDomain:
    from accounts.audit import Actor

    return add_domain(cast.acme, "acme.example", actor=Actor.system("test"), assume_verified=True)


def arrive(content: bytes, kind: ReturnedKind = ReturnedKind.DMARC) -> str:
    row = ReturnedMail.objects.create(
        kind=kind,
        mailbox="dmarc@bounce.relay.test",
        reverse_path="noreply@receiver.example",
        peer_address="192.0.2.1",
        size_bytes=len(content),
        compressed=zstandard.ZstdCompressor().compress(content),
    )
    incoming.read_waiting()
    row.refresh_from_db()
    return row.outcome


def test_a_dmarc_report_is_kept_for_its_domain(cast: Cast, domain: SendingDomain) -> None:
    assert arrive(dmarc_mail(record(count=5), record("198.51.100.9", 3, dkim="fail", disposition="reject"))) == "taken"

    report = DomainReport.objects.of(cast.acme).get()
    assert (report.total, report.passed, report.policy, report.reporter) == (8, 5, "none", "receiver.example")
    assert {(row.source, row.count) for row in report.rows.all()} == {("192.0.2.10", 5), ("198.51.100.9", 3)}


def test_a_tls_report_is_kept_for_its_domain(domain: SendingDomain) -> None:
    assert arrive(tls_mail(), ReturnedKind.TLS) == "taken"

    (failure,) = domain_reports.tls_failures_of(domain, since=SINCE)
    assert (failure.kind, failure.host, failure.count) == ("certificate-expired", "mx.acme.example", 303)
    summary = domain_reports.summary_of(domain, since=SINCE)
    assert (summary.tls_total, summary.tls_passed, summary.total) == (5629, 5326, 0)


def test_a_report_is_counted_once(domain: SendingDomain) -> None:
    arrive(dmarc_mail(record(count=5)))

    assert arrive(dmarc_mail(record(count=500))) == "again"
    assert arrive(dmarc_mail(record(count=7), report_id="r-2")) == "taken"

    assert domain_reports.summary_of(domain, since=SINCE).total == 12


def test_nothing_is_kept_about_what_nobody_has_verified(cast: Cast) -> None:
    from accounts.audit import Actor

    add_domain(cast.acme, "acme.example", actor=Actor.system("test"))

    assert arrive(dmarc_mail()) == "unknown_domain"
    assert arrive(dmarc_mail(domain="globex.example")) == "unknown_domain"
    assert not DomainReport.objects.exists()


def test_a_subdomain_belongs_to_the_domain_that_covers_it(domain: SendingDomain) -> None:
    assert arrive(dmarc_mail(domain="mail.acme.example")) == "taken"
    SendingDomain.objects.update(covers_subdomains=False)

    assert arrive(dmarc_mail(domain="mail.acme.example", report_id="r-2")) == "unknown_domain"


def test_a_damaged_report_is_told_to_whom_it_is_about(domain: SendingDomain) -> None:
    assert arrive(mail_with(b"\x1f\x8b damaged")) == "damaged"

    (damaged,) = domain_reports.damaged_of(domain, since=SINCE)
    assert (damaged.fault, damaged.reporter) == ("damaged", "receiver.example")
    assert domain_reports.summary_of(domain, since=SINCE).total == 0


@pytest.mark.parametrize("end", [1764028800 + 5 * 86400, 1700000000])
def test_a_report_of_another_time_is_not_counted(domain: SendingDomain, end: int) -> None:
    content = dmarc_mail(end=end) if end > 1763856000 else dmarc_mail(report_id="old")
    later = NOW if end > 1763856000 else NOW + timedelta(days=190)
    with time_machine.travel(later, tick=True):
        assert arrive(content) == "damaged"

    assert not DomainReport.objects.filter(fault="").exists()


def test_a_mail_without_report_says_so(domain: SendingDomain) -> None:
    assert arrive(b"Subject: hello\r\n\r\nWhere is my report?\r\n") == "no_report"


def test_no_more_than_so_many_are_kept_a_day(domain: SendingDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "MOST_PER_DAY", 2)
    outcomes = [arrive(dmarc_mail(report_id=f"r-{number}")) for number in range(3)]

    assert outcomes == ["taken", "taken", "too_many"]


def test_the_many_small_rows_of_a_large_report_are_kept_as_a_sum(
    domain: SendingDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "MOST_ROWS", 2)
    arrive(dmarc_mail(*[record(f"10.0.0.{number}", number, dkim="fail") for number in range(1, 6)]))

    report = DomainReport.objects.get()
    rows = DmarcRow.objects.order_by("source").values_list("source", "count")
    assert set(rows) == {("10.0.0.5", 5), ("10.0.0.4", 4), (None, 6)}
    assert (report.total, report.is_cut) == (15, True)


def test_our_addresses_are_told_from_known_services_and_strangers(domain: SendingDomain) -> None:
    pool = SourcePool.objects.get_or_create(name="default")[0]
    node = Node.objects.get_or_create(name="node1")[0]
    SourceAddress.objects.create(address="192.0.2.10", ehlo_name="mx1.relay.test", pool=pool, node=node)
    arrive(
        dmarc_mail(
            record("192.0.2.10", 5),
            record("198.51.100.7", 4, dkim_domain="acme.example"),
            record("203.0.113.66", 9, dkim="fail", disposition="reject", spf_domain="evil.example"),
        )
    )

    lines = domain_reports.senders_of(domain, since=SINCE)

    assert [(line.source, line.who, line.count, line.passed) for line in lines] == [
        ("203.0.113.66", Who.STRANGER, 9, 0),
        ("198.51.100.7", Who.KNOWN, 4, 4),
        ("192.0.2.10", Who.OURS, 5, 5),
    ]
    assert (lines[0].rejected, lines[0].spf_domains) == (9, ("evil.example",))
    assert [(share.who, share.count) for share in domain_reports.shares(lines)] == [
        (Who.OURS, 5), (Who.KNOWN, 4), (Who.STRANGER, 9),
    ]  # fmt: skip


def test_reports_are_forgotten_after_half_a_year(domain: SendingDomain) -> None:
    arrive(dmarc_mail())

    assert aggregates.forget_old(now=timezone.now()) == 0
    assert aggregates.forget_old(now=timezone.now() + timedelta(days=181)) > 0
    assert not DmarcRow.objects.exists()
