"""Brakes as tenants and operators see them: why, what it does, the request for release and its answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from accounts.credentials import issue_credential
from accounts.models import AuditEntry, Notice, NoticeKind, Tenant
from delivery.brakes import looking, pulling
from delivery.brakes.levels import Step
from delivery.models import Appeal, Brake, Statistic, StatisticClass, TenantEvent
from relayweb.metrics import exposition
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

pytestmark = pytest.mark.django_db


def _count(tenant: Tenant, *, minutes_ago: int = 60, value: str = "", dimension: str = "all", **counts: int) -> None:
    moment = timezone.now() - timedelta(minutes=minutes_ago)
    begun = moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    Statistic.objects.create(
        tenant_id=tenant.id, dimension=dimension, minutes=15, value=value, starts_at=begun, **counts
    )


def _text(answer: object) -> str:
    return answer.content.decode()  # type: ignore[attr-defined, no-any-return]


def test_the_harder_it_bounces_the_harder_the_brake_and_the_level_decides(cast: Cast) -> None:
    _count(cast.acme, delivered=270, bounced=30)  # exactly 10 in 100
    _count(cast.globex, delivered=290, bounced=15)

    assert looking.look().pulled == 1
    assert looking.look().pulled == 0
    brake = Brake.objects.get()
    assert (brake.tenant, brake.rule, brake.step) == (cast.acme, "bounces", "slow")
    assert (brake.evidence["bad"], brake.evidence["total"], brake.evidence["percent"]) == (30, 300, 10.0)

    _count(cast.acme, minutes_ago=30, delivered=100, bounced=120)
    assert looking.look().pulled == 1
    brake.refresh_from_db()
    assert brake.step == "hold"
    kinds = set(Notice.objects.filter(tenant=cast.acme, closed_at=None).values_list("kind", flat=True))
    assert kinds == {NoticeKind.MAIL_HELD}

    pulling.set_level(cast.globex, "strict", actor=Actor.person(cast.olivia))
    _count(cast.globex, minutes_ago=30, delivered=0, bounced=1)
    assert looking.look().pulled == 1  # 16 of 306 is over 5 in 100
    pulling.set_level(cast.globex, "none", actor=Actor.person(cast.olivia))
    Brake.objects.filter(tenant=cast.globex).update(pulled_at=timezone.now() - timedelta(hours=2))
    assert looking.look().ended == 1
    assert 'relayweb_brakes_pulled{rule="bounces",step="hold"} 1.0' in exposition().decode()


def _count_unknown(tenant: Tenant, carrier: str, *, delivered: int, unknown: int, returned: int = 0) -> None:
    _count(tenant, dimension="provider", value=carrier, delivered=delivered, bounced=unknown, returned=returned)
    known = Statistic.objects.get(tenant_id=tenant.id, dimension="provider", value=carrier)
    StatisticClass.objects.create(
        tenant_id=tenant.id, dimension="provider", minutes=15, value=carrier, starts_at=known.starts_at,
        reply_class="bad_mailbox", bounced=unknown, returned=returned,
    )  # fmt: skip


def test_unknown_users_at_a_carrier_are_seen_and_elsewhere_they_are_none_of_that_rule(cast: Cast) -> None:
    _count_unknown(cast.acme, "docomo", delivered=285, unknown=8, returned=7)  # 15 of 293
    _count_unknown(cast.acme, "google", delivered=100, unknown=90)
    _count_unknown(cast.globex, "au", delivered=180, unknown=19)  # of 199: too few to say

    assert looking.look().pulled == 1
    brake = Brake.objects.get()
    assert (brake.tenant, brake.rule, brake.step) == (cast.acme, "carrier_unknown", "slow")
    assert (brake.evidence["group"], brake.evidence["bad"], brake.evidence["total"]) == ("docomo", 15, 293)

    _count_unknown(cast.acme, "softbank", delivered=180, unknown=20)  # another carrier, and harder
    assert looking.look().pulled == 1
    brake.refresh_from_db()
    assert (brake.step, brake.evidence["group"]) == ("hold", "softbank")


def test_a_credential_that_bounces_is_held_and_the_others_of_the_tenant_are_not(
    cast: Cast, signed_in: SignedIn
) -> None:
    shop, news = (
        issue_credential(cast.acme, kind="smtp", name=name, actor=Actor.person(cast.alice)).credential
        for name in ("shop", "news")
    )
    _count(cast.acme, dimension="credential", value=str(shop.id), delivered=180, bounced=10, returned=10)
    _count(cast.acme, dimension="credential", value=str(news.id), delivered=900, bounced=60)
    assert looking.look().pulled == 0  # 20 of 190 are over 10 in 100, but 190 are too few

    _count(cast.acme, minutes_ago=30, dimension="credential", value=str(shop.id), delivered=10)
    assert looking.look().pulled == 1
    brake = Brake.objects.get()
    assert (brake.rule, brake.step, brake.credential_id) == ("credential_bounces", "hold", shop.id)
    assert (brake.evidence["bad"], brake.evidence["total"]) == (20, 200)

    overview = _text(signed_in(cast.bob).get("/t/acme/"))
    assert "A brake is pulled on “shop”" in overview and f"/t/acme/brakes/{brake.id}/" in overview
    assert "brakes/" + str(brake.id) not in _text(signed_in(cast.charlie).get("/t/globex/"))


def test_what_a_person_let_go_is_not_pulled_again_for_the_same_mail(cast: Cast) -> None:
    _count(cast.acme, delivered=200, complained=9)
    looking.look()
    brake = Brake.objects.get()
    assert (brake.rule, brake.step) == ("complaints", "pause")
    cast.acme.refresh_from_db()
    assert cast.acme.state == "suspended" and "4.5" in cast.acme.state_reason

    pulling.release(brake, answer="", actor=Actor.person(cast.olivia))

    cast.acme.refresh_from_db()
    assert cast.acme.state == "active"
    assert looking.look().pulled == 0
    kinds = TenantEvent.objects.filter(tenant=cast.acme).order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["tenant.paused", "tenant.resumed"]


def test_many_times_the_volume_of_a_credential_is_slowed_and_let_go_when_it_is_over(cast: Cast) -> None:
    shop = issue_credential(cast.acme, kind="smtp", name="shop", actor=Actor.person(cast.alice)).credential
    known = {"tenant_id": cast.acme.id, "dimension": "credential", "value": str(shop.id)}
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    Statistic.objects.create(**known, minutes=60, starts_at=hour, accepted=40)
    _count(cast.acme, dimension="credential", value=str(shop.id), minutes_ago=15, accepted=1200)

    assert looking.look().pulled == 1
    brake = Brake.objects.get()
    assert (brake.rule, brake.step, brake.credential_id, brake.rate_per_second) == (
        "sudden_volume",
        "slow",
        shop.id,
        1.0,
    )

    assert looking.look(now=timezone.now() + timedelta(minutes=30)).ended == 0
    assert looking.look(now=timezone.now() + timedelta(hours=25)).ended == 1


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_tenant_reads_why_asks_and_reads_the_answer(cast: Cast, signed_in: SignedIn, language: str) -> None:
    alice, olivia = signed_in(cast.alice, language=language), signed_in(cast.olivia, language=language)
    _count(cast.acme, delivered=200, bounced=60)
    looking.look()
    brake = Brake.objects.get()
    page = f"/t/acme/brakes/{brake.id}/"

    assert "23.08" in _text(alice.get("/t/acme/brakes/"))
    assert "23.08" in _text(alice.get("/t/acme/notices/"))
    assert "260" in _text(alice.get(page)) and 'name="text"' in _text(alice.get(page))
    assert alice.post(page + "appeal/", {"text": "  "}).status_code == 200
    alice.post(page + "appeal/", {"text": "We have cleaned <b>our list</b>."})
    assert 'name="text"' not in _text(alice.get(page))

    assert "23.08" in _text(olivia.get("/operator/brakes/"))
    theirs = f"/operator/brakes/{brake.id}/"
    assert "We have cleaned &lt;b&gt;our list&lt;/b&gt;." in _text(olivia.get(theirs))
    assert olivia.get(theirs + "refuse/").status_code == 200
    olivia.post(theirs + "refuse/", {"answer": "Still too many."})
    assert "Still too many." in _text(alice.get(page)) and 'name="text"' in _text(alice.get(page))

    alice.post(page + "appeal/", {"text": "Now it is clean."})
    assert olivia.get(theirs + "release/").status_code == 200
    olivia.post(theirs + "release/", {"answer": "Thank you."})
    assert "Thank you." in _text(alice.get(page))
    assert Brake.objects.filter(ended_at=None).count() == 0
    assert list(Appeal.objects.order_by("id").values_list("is_granted", flat=True)) == [False, True]
    assert _text(olivia.get("/operator/brakes/?state=ended")).count(str(brake.id)) == 1
    assert alice.get("/t/acme/audit/").status_code == 200


def test_an_operator_pulls_by_hand_and_an_analyst_cannot_ask(cast: Cast, signed_in: SignedIn) -> None:
    olivia, bob = signed_in(cast.olivia), signed_in(cast.bob)
    assert olivia.get("/operator/tenants/acme/brake/").status_code == 200
    assert olivia.post("/operator/tenants/acme/brake/", {"step": "hold", "reason": ""}).status_code == 200
    olivia.post("/operator/tenants/acme/brake/", {"step": "hold", "reason": "A report from a carrier"})
    olivia.post("/operator/tenants/acme/brake-level/", {"level": "strict"})

    brake = Brake.objects.get()
    assert (brake.step, brake.rule, brake.reason) == (Step.HOLD, "operator", "A report from a carrier")
    assert "A report from a carrier" in _text(bob.get(f"/t/acme/brakes/{brake.id}/"))
    assert bob.post(f"/t/acme/brakes/{brake.id}/appeal/", {"text": "Please"}).status_code == 403
    assert "A report from a carrier" in _text(olivia.get("/operator/brakes/?tenant=acme"))
    cast.acme.refresh_from_db()
    assert cast.acme.brake_level == "strict"
    assert {"brake.pull", "brake.level"} <= set(AuditEntry.objects.values_list("action", flat=True))


def test_a_list_of_brakes_comes_in_pages_of_few_questions(
    cast: Cast, alice: Client, signed_in: SignedIn, django_assert_max_num_queries: object
) -> None:
    for number in range(60):
        Brake.objects.create(
            tenant=cast.acme, rule="bounces", step="slow", pulled_by="x", evidence={}, reason=f"r{number}",
            ended_at=timezone.now(),
        )  # fmt: skip
    with django_assert_max_num_queries(15):  # type: ignore[operator]
        text = _text(alice.get("/t/acme/brakes/"))
    assert "r59" in text and "r5<" not in text and "?before=" in text
    last = Brake.objects.order_by("id")[10]
    assert "r5<" in _text(alice.get(f"/t/acme/brakes/?before={last.id}"))
    assert _text(signed_in(cast.olivia).get("/operator/brakes/?state=ended")).count("Acme") >= 50
