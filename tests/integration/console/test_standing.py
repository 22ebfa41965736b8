"""The operator's pages of scores, warm-ups and checks of source addresses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry
from delivery import pools
from delivery.models import (
    Node,
    Path,
    ProviderGroup,
    ReputationScore,
    SourceAddress,
    SourceCheck,
    WarmUp,
    WarmUpPlan,
    WarmUpState,
)
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

PAGE = "/operator/standing/"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


@pytest.fixture
def source(db: None) -> SourceAddress:
    node, _is_new = Node.objects.get_or_create(name="a")
    return SourceAddress.objects.create(
        address="192.0.2.10", ehlo_name="mx.relay.example", node=node, pool=pools.find_pool("default")
    )


@pytest.fixture
def path(source: SourceAddress) -> Path:
    group, _is_new = ProviderGroup.objects.get_or_create(key="google", defaults={"kind": "provider", "title": "Gmail"})
    return Path.objects.create(source=source, group=group)


def score(path: Path, value: int, *, hours_ago: float = 0.5) -> ReputationScore:
    counts = {"accepted": 950, "blocked": 50, "complaints": 0}
    return ReputationScore.objects.create(
        source=path.source,
        group=path.group,
        scored_at=timezone.now() - timedelta(hours=hours_ago),
        score=value,
        cap=40,
        cap_reason="reverse_dns",
        terms=[
            {"name": "blocked", "value": 0.05, "factor": 0.81, "costs": 14.2},
            {"name": "age", "value": 1.0, "factor": 1.0, "costs": 0.0},
        ],
        figures=dict.fromkeys(("24", "168", "720"), counts),
    )


def address_of(path: Path) -> str:
    return f"{PAGE}{path.source_id}/{path.group_id}/"


def test_the_list_pages_and_finds_what_is_low_or_warming(
    olivia: Client, path: Path, django_assert_max_num_queries: Any
) -> None:
    assert "Nothing matches" in olivia.get(f"{PAGE}?q=nothing").content.decode()
    score(path, 40)
    sites = [ProviderGroup(key=f"site:mx{n}.corp.example", kind="site", title=f"mx{n}.corp.example") for n in range(50)]
    for site in ProviderGroup.objects.bulk_create(sites):
        Path.objects.create(source=path.source, group=site)

    with django_assert_max_num_queries(15):
        page = olivia.get(PAGE).content.decode()

    assert "1 score on this page is below 70." in page and "40 of 100" in page and "too little sent" in page
    further = page.split("after=")[1].split('"')[0]
    second = olivia.get(f"{PAGE}?after={further}").content.decode()
    assert second.count('role="rowheader"') == 0 and second.count("192.0.2.10") == 1
    low = olivia.get(f"{PAGE}?show=low").content.decode()
    assert low.count("192.0.2.10") == 1 and "Gmail" in low
    assert "Nothing matches" in olivia.get(f"{PAGE}?show=warming").content.decode()
    assert olivia.get(f"{PAGE}?after=junk&show=junk").status_code == 200


def test_a_score_is_shown_with_every_term_and_its_history(
    olivia: Client, path: Path, django_assert_max_num_queries: Any
) -> None:
    for days, value in ((2, 90), (1, 60), (0, 40)):
        score(path, value, hours_ago=24 * days + 0.5)

    with django_assert_max_num_queries(15):
        page = olivia.get(address_of(path)).content.decode()

    assert "40 of 100 at Gmail." in page
    assert "The reverse DNS of the address is broken." in page and "at 40 at the most" in page
    assert "50 of 1,000" in page and "× 0.810" in page and "14.2" in page
    assert page.index("Repair the PTR record") < page.index("No blocks any more")
    assert '"kind": "scores"' in page and '<td class="rw-num">90</td>' in page


def test_a_warm_up_is_started_set_and_stopped_with_audit_lines(cast: Cast, olivia: Client, path: Path) -> None:
    page = olivia.post(f"{address_of(path)}start/", {"schedule": "sparkpost", "target": "50000"}, follow=True)
    assert "The warm-up has begun." in page.content.decode()
    assert "stage 1 of 29" in page.content.decode() and "waits: the pool has no other address" in page.content.decode()
    assert "Ready for 50,000 a day at Gmail in" in page.content.decode()
    assert "Ready for 200 a day at Gmail." in olivia.get(f"{address_of(path)}?daily=200").content.decode()
    assert olivia.get(f"{address_of(path)}?daily=junk").status_code == 200

    refused = olivia.post(f"{address_of(path)}stage/", {"stage": "99", "reason": ""}).content.decode()
    assert "The stages of sparkpost go from 1 to 29." in refused
    olivia.post(f"{address_of(path)}stage/", {"stage": "3", "reason": "known from before"})
    assert "known from before" in olivia.get(address_of(path)).content.decode()
    olivia.post(f"{address_of(path)}stop/", {"reason": ""})

    warm_up = WarmUp.objects.get(source=path.source, group=path.group)
    assert (warm_up.state, warm_up.stage, warm_up.target) == (WarmUpState.STOPPED, 2, 50_000)
    written = AuditEntry.objects.filter(actor=cast.olivia, action__startswith="warmup.").order_by("id")
    assert list(written.values_list("action", flat=True)) == ["warmup.start", "warmup.set", "warmup.stop"]
    twice = olivia.post(f"{address_of(path)}stop/", {"reason": ""}).content.decode()
    assert "is not being warmed up there" in twice


def test_an_address_is_warmed_up_everywhere_from_its_page(olivia: Client, path: Path) -> None:
    olivia.post(f"/operator/sources/{path.source_id}/warm-up/start/", {"schedule": "", "target": ""})

    assert WarmUpPlan.objects.get(source=path.source).is_running
    assert "stage 1 of" in olivia.get(f"/operator/sources/{path.source_id}/").content.decode()

    olivia.post(f"/operator/sources/{path.source_id}/warm-up/stop/", {"reason": ""})

    assert not WarmUpPlan.objects.get(source=path.source).is_running


def test_checks_say_what_was_expected_found_and_is_to_be_done(
    olivia: Client, source: SourceAddress, name_server: Any, settings: Any
) -> None:
    settings.BLOCKLISTS = []
    place = f"/operator/sources/{source.pk}/"
    assert "Nobody has looked yet" in olivia.get(f"{place}checks/").content.decode()
    results = [
        {"check": "reverse_dns", "verdict": "bad", "detail": "there is no PTR record", "found": [], "severity": None,
         "look_up": ""},
        {"check": "blocklist:spamhaus_zen", "verdict": "failed", "detail": "refused", "found": [], "severity": None,
         "look_up": ""},
    ]  # fmt: skip
    SourceCheck.objects.create(source=source, state="bad", results=results)

    page = olivia.get(f"{place}checks/").content.decode()

    assert "1 check found a problem." in page and "there is no PTR record" in page
    assert "Ask whoever gave you the address to set its PTR record to mx.relay.example" in page
    assert "It does not count as listed." in page and "Spamhaus ZEN" in page
    assert "Problem" in olivia.get(place).content.decode()
    again = olivia.post(f"{place}check/", follow=True).content.decode()
    assert "Looked at just now." in again and SourceCheck.objects.filter(source=source).count() == 2
