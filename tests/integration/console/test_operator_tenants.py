"""The operator's pages of tenants."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import quotas, tenants, trust
from accounts.audit import Actor
from accounts.models import AuditEntry, Notice, QuotaBucket, Tenant
from delivery.models import Statistic
from delivery.statistics.counting import start_of
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast, Fate, write_message

PAGE = "/operator/tenants/"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


def test_the_list_has_volume_and_rates_and_no_mail(
    cast: Cast, olivia: Client, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    write_message(cast.acme, Fate(address="secret@far.test", state="queued"))
    for period, used in (("day", 1234), ("month", 56789)):
        QuotaBucket.objects.create(
            owner_id=cast.acme.id, period=period, window_start=quotas.window_start(period, now), used=used
        )
    Statistic.objects.create(
        tenant_id=cast.acme.id, dimension="all", minutes=60, value="", starts_at=start_of(now, minutes=60),
        accepted=200, delivered=180, bounced=20, complained=1,
    )  # fmt: skip

    with django_assert_max_num_queries(15):
        page = olivia.get(PAGE).content.decode()
    assert "1,234" in page and "56,789" in page and "10.0 %" in page and "0.50 %" in page
    with django_assert_max_num_queries(15):
        page += olivia.get(f"{PAGE}acme/").content.decode()
    assert "alice@acme.example" in page and "90.0 %" in page
    assert "secret" not in page


def test_the_list_is_narrowed_and_comes_in_pages(cast: Cast, olivia: Client) -> None:
    Tenant.objects.bulk_create(Tenant(slug=f"shop-{n:03}", name=f"Shop {n}") for n in range(60))
    first = olivia.get(f"{PAGE}?q=shop").content.decode()
    second = olivia.get(f"{PAGE}?q=shop&after=shop-049").content.decode()

    assert "shop-049" in first and "shop-050" not in first and "after=shop-049" in first
    assert "shop-050" in second and "shop-059" in second and "rw-pages" not in second
    Tenant.objects.filter(pk=cast.globex.pk).update(awaits_approval=True)
    waiting = olivia.get(f"{PAGE}?state=approval").content.decode()
    assert "Globex" in waiting and "Acme" not in waiting
    assert "No tenant fits this filter." in olivia.get(f"{PAGE}?q=zzz").content.decode()


def test_a_tenant_is_paused_with_a_reason_and_resumed(cast: Cast, olivia: Client) -> None:
    write_message(cast.acme, Fate(address="a@far.test", state="queued"))
    assert "1 recipient that was taken is kept" in olivia.get(f"{PAGE}acme/suspend/").content.decode()
    assert b"id_reason_error" in olivia.post(f"{PAGE}acme/suspend/", {"reason": ""}).content

    page = olivia.post(f"{PAGE}acme/suspend/", {"reason": "spam <traps>"}, follow=True).content.decode()
    cast.acme.refresh_from_db()
    assert cast.acme.state == "suspended" and "spam &lt;traps&gt;" in page
    assert Notice.objects.filter(tenant=cast.acme, closed_at=None).count() == 1

    olivia.post(f"{PAGE}acme/resume/")
    cast.acme.refresh_from_db()
    assert cast.acme.state == "active"
    assert [one.actor for one in AuditEntry.objects.filter(action__startswith="tenant.")] == [cast.olivia] * 2


def test_limits_are_set_and_leave_the_rest_alone(cast: Cast, olivia: Client) -> None:
    trust.begin(cast.acme, actor=Actor.system("test"))
    given = {"hourly_limit": "100", "daily_limit": str(cast.acme.daily_limit), "max_recipients": "50"}

    olivia.post(f"{PAGE}acme/limits/", given)
    cast.acme.refresh_from_db()
    assert (cast.acme.hourly_limit, cast.acme.max_recipients, cast.acme.monthly_limit) == (100, 50, None)
    assert cast.acme.trust_level == 0  # the daily limit is the ladder's still
    olivia.post(f"{PAGE}acme/limits/", given | {"daily_limit": "7000"})
    cast.acme.refresh_from_db()
    assert (cast.acme.daily_limit, cast.acme.trust_level) == (7000, None)

    page = olivia.post(f"{PAGE}acme/limits/", given | {"hourly_limit": "-1", "rate_per_second": "x"}).content.decode()
    assert "id_hourly_limit_error" in page and "id_rate_per_second_error" in page
    assert b"id_monthly_limit_error" in olivia.post(f"{PAGE}acme/limits/", {"monthly_limit": str(2**40)}).content
    cast.acme.refresh_from_db()
    assert cast.acme.hourly_limit == 100


def test_the_step_is_set(cast: Cast, olivia: Client) -> None:
    olivia.post(f"{PAGE}acme/step/", {"step": "1"})
    cast.acme.refresh_from_db()
    assert (cast.acme.trust_level, cast.acme.daily_limit) == (1, 1000)
    assert "2 of 4" in olivia.get(f"{PAGE}acme/").content.decode()
    olivia.post(f"{PAGE}acme/step/", {"step": ""})
    cast.acme.refresh_from_db()
    assert (cast.acme.trust_level, cast.acme.daily_limit) == (None, 1000)
    assert b"id_step_error" in olivia.post(f"{PAGE}acme/step/", {"step": "99"}).content


def test_the_services_own_tenant_cannot_be_paused(olivia: Client) -> None:
    system = Tenant.objects.get(is_system=True)
    assert f"{system.slug}/suspend/" not in olivia.get(f"{PAGE}{system.slug}/").content.decode()

    page = olivia.post(f"{PAGE}{system.slug}/suspend/", {"reason": "x"}).content.decode()
    assert "stays active" in page and tenants.find_tenant(system.slug).state == "active"
