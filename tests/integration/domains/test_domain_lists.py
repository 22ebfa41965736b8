"""Sending domains are looked for in blocklists: kept, told as an alert, shown, and a cap of the score."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from delivery import domains, tasks
from delivery.alerts import rules
from delivery.domain_blocklists import checks
from delivery.models import DomainListCheck, Statistic
from delivery.reputation import senders
from delivery.statistics.counting import start_of
from tests.support.dns_server import Behaviour
from tests.support.journeys import Cast, make_cast

if TYPE_CHECKING:
    from tests.support.dns_server import FakeDns

pytestmark = pytest.mark.django_db
OLIVIA = Actor("olivia@relay.example", is_operator=True)


@pytest.fixture
def cast(name_server: FakeDns, settings: Any) -> Cast:
    settings.DOMAIN_BLOCKLISTS, settings.BLOCKLIST_DNS = ["spamhaus_dbl", "surbl"], None
    settings.SPAMHAUS_KEY = ""
    name_server.records.update(
        {
            "dbltest.com.dbl.spamhaus.org": {"A": ["127.0.1.2"]},
            "test.surbl.org.multi.surbl.org": {"A": ["127.0.0.254"]},
            "acme.example.dbl.spamhaus.org": {"A": ["127.0.1.2"]},
        }
    )
    cast = make_cast()
    for tenant, name in ((cast.acme, "acme.example"), (cast.globex, "globex.example")):
        domains.add_domain(tenant, name, actor=OLIVIA, assume_verified=True)
    return cast


def _alerts() -> dict[str, str]:
    found = rules.look(now=timezone.now())["domain_blocklisted"]
    return {subject: evidence["detail"] for subject, evidence in found.by_subject.items()}


def test_a_listing_is_kept_told_and_shown(cast: Cast) -> None:
    tasks.check_domain_lists()
    tasks.check_domain_lists()

    states = dict(DomainListCheck.objects.values_list("domain__name", "state"))
    assert states == {"acme.example": "bad", "globex.example": "ok"} and DomainListCheck.objects.count() == 2
    assert _alerts() == {"acme.example spamhaus_dbl": "listed by Spamhaus DBL: low reputation"}
    Statistic.objects.create(
        tenant_id=cast.acme.pk, dimension="domain", minutes=60, value="acme.example",
        starts_at=start_of(timezone.now() - timedelta(days=1), minutes=60), delivered=500,
    )  # fmt: skip
    (score,) = senders.compute([cast.acme])
    assert (score.score, senders.raises(score)[0]) == (20, "severe_listing")
    client = Client(headers={"accept-language": "en"})
    for person, path in ((cast.bob, "/t/acme/domains/"), (cast.olivia, "/operator/tenants/acme/domains/")):
        client.force_login(person)
        page = client.get(f"{path}acme.example/").content.decode()
        assert "low reputation (127.0.1.2)" in page and "https://check.spamhaus.org/" in page
    assert checks.forget_old(now=timezone.now() + timedelta(days=91)) == 2


@pytest.mark.parametrize("fault", ["silent", "error code", "lists everything", "test name is missing"])
def test_a_list_that_cannot_be_trusted_lists_nobody(cast: Cast, name_server: FakeDns, fault: str) -> None:
    match fault:
        case "silent":
            name_server.behaviours["acme.example.dbl.spamhaus.org"] = Behaviour.SERVFAIL
        case "error code":
            name_server.records["acme.example.dbl.spamhaus.org"] = {"A": ["127.255.255.254"]}
        case "lists everything":
            name_server.records["invalid.dbl.spamhaus.org"] = {"A": ["127.0.1.2"]}
        case _:
            del name_server.records["dbltest.com.dbl.spamhaus.org"]

    checks.check_due()

    check = DomainListCheck.objects.get(domain__name="acme.example")
    assert (check.state, _alerts()) == ("failed", {})
    assert not rules.look(now=timezone.now())["domain_blocklisted"].is_known("acme.example spamhaus_dbl")


def test_the_query_key_is_used_and_never_told(cast: Cast, name_server: FakeDns, settings: Any) -> None:
    settings.SPAMHAUS_KEY, settings.DOMAIN_BLOCKLISTS = "secretkey", ["spamhaus_dbl"]
    name_server.records["dbltest.com.secretkey.dbl.dq.spamhaus.net"] = {"A": ["127.0.1.2"]}
    name_server.behaviours["acme.example.secretkey.dbl.dq.spamhaus.net"] = Behaviour.SERVFAIL

    checks.check_due()

    check = DomainListCheck.objects.get(domain__name="acme.example")
    assert check.state == "failed" and "secretkey" not in str(check.results)
    assert DomainListCheck.objects.get(domain__name="globex.example").state == "ok"
    settings.DOMAIN_BLOCKLISTS = []
    assert checks.check_due(now=timezone.now() + timedelta(days=1)) == 0
