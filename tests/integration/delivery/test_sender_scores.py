"""Scores of tenants and sending domains come from the counters; pages and the hour's rows show the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from delivery import domains, tasks
from delivery.brakes import pulling
from delivery.models import SenderScore, SendingDomain, Statistic, StatisticClass
from delivery.reputation import senders
from delivery.statistics.counting import start_of
from tests.support.journeys import Cast, make_cast

pytestmark = pytest.mark.django_db
OLIVIA = Actor("olivia@relay.example", is_operator=True)


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def domain(cast: Cast) -> SendingDomain:
    return domains.add_domain(cast.acme, "acme.example", actor=OLIVIA, assume_verified=True)


def _count(cast: Cast, *, author: str = "", days_ago: float = 0.2, classes: dict[str, int], **counts: int) -> None:
    at = start_of(timezone.now() - timedelta(days=days_ago), minutes=60)
    places = [("all", ""), *([("domain", author)] if author else [])]
    for dimension, value in places:
        key = {"tenant_id": cast.acme.pk, "dimension": dimension, "minutes": 60, "value": value, "starts_at": at}
        Statistic.objects.create(**key, **counts)
        for name, number in classes.items():
            StatisticClass.objects.create(**key, reply_class=name, bounced=number)


def _scores(cast: Cast) -> list[tuple[str, int, list[str]]]:
    found = senders.compute([cast.acme])
    return [(row.domain.name if row.domain else "", row.score, senders.raises(row)) for row in found]


def test_a_domain_has_what_its_authors_sent_and_the_tenant_has_all(cast: Cast, domain: SendingDomain) -> None:
    _count(cast, author="news.acme.example", delivered=800, bounced=100, classes={"bad_mailbox": 100})
    _count(cast, author="acme.example", days_ago=29, delivered=1000, returned=20, bounced=0, classes={})
    _count(cast, author="elsewhere.example", days_ago=0.3, delivered=900, classes={})

    tenant, of_domain = senders.compute([cast.acme])

    assert (tenant.domain, of_domain.domain) == (None, domain)
    assert tenant.figures["24"] == {"accepted": 1700, "complaints": 0, "suppressed": 0, "unknown": 100}
    assert of_domain.figures["24"]["accepted"] == 800
    assert of_domain.figures["720"]["accepted"] == 800 + 980
    assert of_domain.score < tenant.score < 80
    assert senders.raises(of_domain)[0] == "unknown"


def test_brakes_and_missing_records_cap_it(cast: Cast, domain: SendingDomain) -> None:
    _count(cast, author="acme.example", days_ago=29.9, delivered=1000, classes={})
    pulling.pull_by_hand(cast.acme, step="hold", reason="spam", actor=OLIVIA)
    SendingDomain.objects.filter(pk=domain.pk).update(failing_since=timezone.now())

    assert _scores(cast) == [("", 40, ["brake_hold"]), ("acme.example", 50, ["records"])]


def test_they_are_written_once_an_hour_and_shown(
    cast: Cast, domain: SendingDomain, django_assert_max_num_queries: Any
) -> None:
    _count(cast, author="acme.example", days_ago=29.9, delivered=1000, bounced=60, classes={"content": 60})
    tasks.score_sources()
    tasks.score_sources()
    assert SenderScore.objects.count() == 2
    yesterday = SenderScore.objects.all()[:1].get()
    yesterday.pk, yesterday.scored_at, yesterday.score = None, timezone.now() - timedelta(days=1), 55
    yesterday.save()
    client = Client(headers={"accept-language": "en"})
    client.force_login(cast.olivia)

    with django_assert_max_num_queries(15):
        listed = client.get("/operator/tenants/").content.decode()
    with django_assert_max_num_queries(15):
        page = client.get("/operator/tenants/acme/score/").content.decode()
    score = senders.latest(cast.acme)

    assert score is not None and f"{score.score} of 100" in listed and "too little sent" in listed
    assert "60 of 1,060" in page and "Refused as spam" in page and "scores-data" in page and "55" in page
    assert "60 of 1,060" in client.get("/operator/tenants/acme/domains/acme.example/").content.decode()
    assert client.get("/operator/tenants/acme/domains/globex.example/").status_code == 404
    client.force_login(cast.bob)
    assert f"{score.score} of 100" in client.get("/t/acme/domains/acme.example/").content.decode()
    assert client.get("/operator/tenants/acme/score/").status_code == 404
    assert senders.forget_old(now=timezone.now() + timedelta(days=101)) == 3
