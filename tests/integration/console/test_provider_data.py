"""Figures of providers: taken up from files, shown beside our own, taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from delivery import domains, sources
from delivery.models import Path, PathHour, ProviderDay, ProviderGroup, ProviderImport, Statistic
from delivery.provider_data import imports
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

PAGE = "/operator/provider-data/"
DAY = (timezone.now() - timedelta(days=2)).date()


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


def _import(client: Client, text: str, name: str = "export.csv") -> str:
    return client.post(PAGE, {"file": SimpleUploadedFile(name, text.encode())}, follow=True).content.decode()


def _snds(result: str, *, hits: int = 0) -> str:
    return f"192.0.2.10,{DAY:%m/%d/%Y} 4:00 PM,,1000,990,980,{result},< 0.1%,,,{hits},mx,a@b.example,\n"


def test_snds_stands_on_the_page_of_the_address_beside_our_attempts(cast: Cast, olivia: Client) -> None:
    source = sources.add_source("192.0.2.10", actor=Actor.person(cast.olivia))
    group, _new = ProviderGroup.objects.get_or_create(
        key="microsoft", defaults={"kind": "provider", "title": "Microsoft"}
    )
    path = Path.objects.create(source=source, group=group)
    noon = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
    PathHour.objects.create(path_id=path.pk, hour=noon, accepted=4321, blocked=7)

    page = _import(olivia, _snds("GREEN") + "192.0.2.10,never,,1\n", "<snds>.csv")
    assert "1 day was taken up." in page and "&lt;snds&gt;.csv" in page and "Line 2" in page and "4 columns" in page
    first = ProviderImport.objects.get()
    bad = olivia.get(f"{PAGE}{first.pk}/bad-rows/").content.decode()
    assert "192.0.2.10,never,,1" in bad
    shown = olivia.get(f"/operator/sources/{source.pk}/").content.decode()
    assert "Green" in shown and "&lt; 0.1%" in shown and "4,321" in shown and "4,328" in shown

    _import(olivia, _snds("RED", hits=5))
    later = ProviderImport.objects.latest("id")
    assert "Red" in olivia.get(f"/operator/sources/{source.pk}/").content.decode()
    assert [one.figures["trap_hits"] for one in imports.of_source(source)] == [5]
    olivia.post(f"{PAGE}{later.pk}/undo/")
    olivia.post(f"{PAGE}{later.pk}/undo/")
    assert [one.figures["filter_result"] for one in imports.of_source(source)] == ["green"]
    actions = list(AuditEntry.objects.filter(action__startswith="provider_data.").values_list("action", flat=True))
    assert sorted(actions) == ["provider_data.import", "provider_data.import", "provider_data.undo"]


def test_google_stands_on_the_operators_page_of_the_domain(cast: Cast, olivia: Client) -> None:
    domain = domains.add_domain(cast.acme, "acme.example", actor=Actor.person(cast.olivia), assume_verified=True)
    noon = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
    Statistic.objects.create(
        tenant_id=cast.acme.pk, dimension="domain", minutes=60, value="acme.example", starts_at=noon, delivered=2000,
        complained=4,
    )  # fmt: skip

    Statistic.objects.create(
        tenant_id=cast.acme.pk, dimension="provider", minutes=60, value="google", starts_at=noon, delivered=777
    )
    _import(olivia, f"domain,date,user_reported_spam_rate,domainReputation\nacme.example,{DAY},0.35%,LOW\n")

    page = olivia.get("/operator/tenants/acme/domains/acme.example/").content.decode()
    assert "0.35 %" in page and "Low" in page and "0.20 %" in page and "2,000" in page
    assert "Accepted by Gmail, whole tenant (ours)" in page and "777" in page
    assert [(one.own.complaints, one.own.accepted) for one in imports.of_domain(domain)] == [(4, 2000)]
    assert imports.forget_old(now=timezone.now() + timedelta(days=401)) == 1


def test_what_cannot_be_read_changes_nothing_and_says_why(cast: Cast, olivia: Client) -> None:
    for text in ("hello,world\n1,2\n", "{"):
        page = _import(olivia, text)
        assert "The file cannot be read" in page
    assert "id_file_error" in olivia.post(PAGE, {}).content.decode()
    assert not ProviderImport.objects.exists() and not ProviderDay.objects.exists()
