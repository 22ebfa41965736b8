"""What receivers report about a domain, as its owners read it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from delivery.core.aggregates import Damaged, find_aggregates
from delivery.domain_reports import DomainSummary, Share, Who
from delivery.domains import add_domain
from delivery.models import Node, ReturnedKind, ReturnedMail, SendingDomain, SourceAddress, SourcePool
from delivery.reports import aggregates
from relayweb.console.dmarc import advise, percent
from tests.support.aggregates import BEGIN, dmarc_mail, record, tls_mail
from tests.support.journeys import Cast

PAGE = "/t/acme/dmarc/acme.example/"


@pytest.fixture
def domain(cast: Cast) -> SendingDomain:
    return add_domain(cast.acme, "acme.example", actor=Actor.system("test"), assume_verified=True)


def report(content: bytes, kind: ReturnedKind = ReturnedKind.DMARC) -> None:
    """As if it had come yesterday."""
    row = ReturnedMail(kind=kind, reverse_path="dmarc@receiver.example", received_at=timezone.now())
    days = (timezone.now().timestamp() - BEGIN) // 86400 - 1
    found: list[Any] = []
    for one in find_aggregates(content):
        if not isinstance(one, Damaged):
            for name in ("begins_at", "ends_at"):
                object.__setattr__(one, name, getattr(one, name) + timedelta(days=days))
        found.append(one)
    aggregates.take(row, found)


def test_who_sends_in_the_name_is_shown_strangers_first(
    cast: Cast, alice: Client, domain: SendingDomain, django_assert_max_num_queries: Any
) -> None:
    pool = SourcePool.objects.get_or_create(name="default")[0]
    node = Node.objects.get_or_create(name="node1")[0]
    SourceAddress.objects.create(address="192.0.2.10", ehlo_name="mx1.relay.test", pool=pool, node=node)
    evil = {"dkim": "fail", "disposition": "reject", "spf_domain": "&lt;b&gt;evil.example"}
    report(
        dmarc_mail(
            record("192.0.2.10", 5_000),
            record("198.51.100.7", 40),
            record("203.0.113.66", 9, **evil),
            reporter="Big&lt;i&gt;Mail",
        )
    )
    report(tls_mail(), ReturnedKind.TLS)

    with django_assert_max_num_queries(15):
        answer = alice.get(PAGE)

    page = answer.content.decode()
    senders = [(one.line.source, one.line.who.value) for one in answer.context["senders"]]
    assert senders == [("203.0.113.66", "stranger"), ("198.51.100.7", "known"), ("192.0.2.10", "ours")]
    assert "99.8 % of 5,049 mails" in page
    assert "the certificate has expired" in page
    assert "9 refused" in page
    assert "<b>evil" not in page


def test_the_list_shows_the_worst_domain_first(cast: Cast, alice: Client, domain: SendingDomain) -> None:
    add_domain(cast.acme, "aaa.example", actor=Actor.system("test"), assume_verified=True)
    report(dmarc_mail(record(count=3, dkim="fail")))

    answer = alice.get("/t/acme/dmarc/")

    assert [one.domain.name for one, _share, _tls in answer.context["summaries"]] == ["acme.example", "aaa.example"]
    assert "0.0 % of 3 mails" in answer.content.decode()


def test_without_reports_the_record_to_publish_is_shown(cast: Cast, alice: Client, domain: SendingDomain) -> None:
    for path in ("/t/acme/dmarc/", PAGE):
        page = alice.get(path).content.decode()
        assert "rua=mailto:dmarc@" in page
        assert "_dmarc.acme.example" in page


def test_without_domains_it_leads_to_them(cast: Cast, alice: Client) -> None:
    assert "No verified domain yet" in alice.get("/t/acme/dmarc/").content.decode()


def test_damaged_reports_are_listed_with_the_reason(cast: Cast, alice: Client, domain: SendingDomain) -> None:
    row = ReturnedMail(kind=ReturnedKind.DMARC, reverse_path="x@receiver.example", received_at=timezone.now())
    aggregates.take(row, [Damaged("too_large", "acme.example")])

    assert "it is too large" in alice.get(PAGE).content.decode()


def test_a_domain_that_is_not_verified_has_no_page(cast: Cast, alice: Client) -> None:
    add_domain(cast.acme, "acme.example", actor=Actor.system("test"))

    assert alice.get(PAGE).status_code == 404


def test_reports_of_one_reporter_and_period(cast: Cast, alice: Client, domain: SendingDomain) -> None:
    report(dmarc_mail(record("192.0.2.1", 3), reporter="one.example"))
    report(dmarc_mail(record("192.0.2.2", 3), reporter="two.example", report_id="r-2"))

    answer = alice.get(f"{PAGE}?reporter=two.example&days=7")

    assert [one.line.source for one in answer.context["senders"]] == ["192.0.2.2"]
    assert alice.get(f"{PAGE}?reporter=%00&days=x").status_code == 200


# ---------------------------------------------------------------- advice


def said(policy: str, *shares: Share, tls: tuple[int, int] = (0, 0)) -> list[tuple[str, str]]:
    total, passed = sum(share.count for share in shares), sum(share.passed for share in shares)
    summary = DomainSummary(SendingDomain(), 1, total, passed, *tls, 0, None)
    return [(one.mark.tone, str(one.sentence)) for one in advise(policy, summary, shares)]


OURS = Share(Who.OURS, 1, 1_000, 1_000)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("none", "go on to p=quarantine"), ("", "go on to p=quarantine"), ("quarantine", "go on to p=reject")],
)
def test_who_passes_may_go_on(policy: str, expected: str) -> None:
    ((tone, sentence),) = said(policy, OURS)

    assert tone == "ok" and expected in sentence


def test_who_has_arrived_is_told_so() -> None:
    assert "receivers refuse mail" in said("reject", OURS)[0][1]


def test_too_little_mail_is_no_evidence() -> None:
    assert "too few to judge by" in said("none", Share(Who.OURS, 1, 99, 99))[0][1]


def test_own_mail_that_fails_comes_first() -> None:
    found = said("none", Share(Who.OURS, 1, 1_000, 900), Share(Who.STRANGER, 3, 50, 0))

    assert [tone for tone, _sentence in found] == ["fail", "retry", "wait"]
    assert "100 of 1,000 mails" in found[0][1]
    assert "lets them through" in found[1][1]
    assert "90.0 % of your own mail passes" in found[2][1]


def test_strangers_do_not_keep_the_policy_back() -> None:
    found = said("quarantine", OURS, Share(Who.STRANGER, 3, 50_000, 0))

    assert "has them stopped" in found[0][1]
    assert "go on to p=reject" in found[1][1]


def test_known_services_that_fail_partly_are_named() -> None:
    assert "20 of 200 mails of known services" in said("none", Share(Who.KNOWN, 2, 200, 180))[0][1]


def test_connections_that_could_not_be_encrypted_are_told() -> None:
    assert "3 of 10 connections" in said("reject", OURS, tls=(10, 7))[0][1]


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(0, 0, ""), (0, 5, "0.0"), (99_999, 100_000, "99.9"), (5, 5, "100")]
)
def test_a_share_never_claims_more_than_is_there(part: int, whole: int, shown: str) -> None:
    assert percent(part, whole) == shown
