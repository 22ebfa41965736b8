"""Alerts open once, stay, close by themselves, are told and not lost, and can be taken and muted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from accounts.refusals import Refused
from delivery import pools
from delivery.alerts import episodes, outbox, rules
from delivery.alerts.episodes import Watched
from delivery.alerts.rules import Found
from delivery.brakes import pulling
from delivery.core import webhooks
from delivery.models import Alert, AlertTelling, Node, SourceAddress, SourceCheck, SourceState
from relayweb import alerting
from relayweb.console import alert_words
from tests.support.journeys import Cast, make_cast
from tests.support.loop_thread import LoopThread
from tests.support.webhook_receiver import OK, Receiver, in_turn, status

NOW = timezone.now()
MINUTE = timedelta(minutes=1)
ACTOR = Actor.system("test")
FULL = {"disk": Found({"a": {"percent": 5.0, "free_bytes": 1_000_000}})}
ROOM = {"disk": Found()}

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture(autouse=True)
def _locmem(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.ALERT_MAIL_TO = ["ops@operator.example"]


def watch(found: dict[str, Found], *, after: timedelta) -> Watched:
    return episodes.watch(found, now=NOW + after)


def occasions() -> list[str]:
    return list(AlertTelling.objects.order_by("created_at", "id").values_list("occasion", flat=True))


def test_it_opens_once_after_a_while_stays_and_closes_by_itself() -> None:
    assert watch(FULL, after=0 * MINUTE).opened == 0, "a disk must be full for a minute"
    assert watch(FULL, after=1 * MINUTE).opened == 1
    assert watch(FULL, after=2 * MINUTE).opened == 0
    assert watch(ROOM, after=3 * MINUTE).closed == 0, "and have room for ten"
    assert watch({}, after=20 * MINUTE).closed == 0, "a rule that could not look says nothing"
    assert watch(ROOM, after=21 * MINUTE).closed == 1

    assert occasions() == ["opened", "closed"]


def test_what_is_seen_too_briefly_is_told_to_nobody() -> None:
    watch(FULL, after=0 * MINUTE)
    watch(ROOM, after=MINUTE / 2)

    assert not Alert.objects.exists()


def test_what_comes_and_goes_is_one_episode_and_takes_longer_each_time() -> None:
    watch(FULL, after=0 * MINUTE)
    for minute in range(1, 60):
        watch(FULL if minute % 5 else ROOM, after=minute * MINUTE)
    assert occasions() == ["opened"]
    watch(ROOM, after=60 * MINUTE)
    watch(ROOM, after=71 * MINUTE)
    watch(FULL, after=72 * MINUTE)
    watch(FULL, after=73 * MINUTE)

    watch(ROOM, after=74 * MINUTE)

    assert watch(ROOM, after=85 * MINUTE).closed == 0 and watch(ROOM, after=95 * MINUTE).closed == 1


def test_there_is_a_reminder_a_day_until_somebody_has_taken_it() -> None:
    watch(FULL, after=0 * MINUTE)
    watch(FULL, after=1 * MINUTE)
    watch(FULL, after=timedelta(hours=23))
    watch(FULL, after=timedelta(hours=25))
    assert occasions() == ["opened", "reminder"]
    alert = Alert.objects.get()

    episodes.acknowledge(alert, actor=ACTOR, note="on my way")
    watch(FULL, after=timedelta(hours=60))
    assert len(occasions()) == 2

    episodes.take_back(alert, actor=ACTOR)
    watch(FULL, after=timedelta(hours=61))
    assert occasions() == ["opened", "reminder", "reminder"]
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"alert.acknowledge", "alert.take_back"}


def test_a_mute_holds_for_later_episodes_and_ends_by_itself() -> None:
    watch(FULL, after=0 * MINUTE)
    watch(FULL, after=1 * MINUTE)
    with pytest.raises(Refused):
        episodes.mute(Alert.objects.get(), until=NOW + timedelta(days=1), reason=" ", actor=ACTOR)
    with pytest.raises(Refused):
        episodes.mute(Alert.objects.get(), until=NOW - MINUTE, reason="known", actor=ACTOR)
    episodes.mute(Alert.objects.get(), until=NOW + timedelta(days=1), reason="known", actor=ACTOR)

    watch(ROOM, after=2 * MINUTE)
    watch(ROOM, after=13 * MINUTE)
    watch(FULL, after=14 * MINUTE)
    watch(FULL, after=20 * MINUTE)

    assert occasions() == ["opened"]
    assert [(one.kind, one.firing, one.muted) for one in episodes.open_by_kind(now=NOW + 20 * MINUTE)] == [
        ("disk", 0, 1)
    ]
    watch(FULL, after=timedelta(days=1, minutes=1))
    assert occasions() == ["opened", "opened"]


def test_a_letter_is_tried_again_and_a_kill_between_costs_one_more_at_the_most() -> None:
    watch(FULL, after=0 * MINUTE)
    watch(FULL, after=1 * MINUTE)

    class Killed(BaseException):
        pass

    def dies(telling: AlertTelling) -> None:
        alerting.send(telling)
        raise Killed

    with pytest.raises(Killed):
        outbox.send_due(dies, now=NOW + 1 * MINUTE)
    assert outbox.send_due(alerting.send, now=NOW + 2 * MINUTE) == 0, "the lease of whoever died still holds"
    assert outbox.send_due(alerting.send, now=NOW + 4 * MINUTE) == 1
    assert outbox.send_due(alerting.send, now=NOW + 60 * MINUTE) == 0
    assert [one.to for one in mail.outbox] == [["ops@operator.example"]] * 2
    assert "a" in mail.outbox[0].subject and "/operator/alerts/" in mail.outbox[0].body
    assert "Step by step: docs/runbooks.md#disk-or-database-full" in mail.outbox[0].body

    def fails(_telling: AlertTelling) -> None:
        raise OSError("refused")

    watch(ROOM, after=61 * MINUTE)
    watch(ROOM, after=72 * MINUTE)
    outbox.send_due(fails, now=NOW + 72 * MINUTE)
    assert [one.error for one in outbox.failing()] == ["OSError: refused"]
    outbox.send_due(fails, now=NOW + timedelta(days=2))
    assert not AlertTelling.objects.filter(next_at__isnull=False).exists(), "given up after a day"


def test_the_rules_see_what_is_wrong_and_what_could_not_be_looked_at_opens_and_closes_nothing(settings: Any) -> None:
    node, _is_new = Node.objects.get_or_create(name="a")
    source = SourceAddress.objects.create(
        address="192.0.2.10", ehlo_name="mx.relay.example", node=node, pool=pools.find_pool("default")
    )

    def checked(verdict: str) -> None:
        results = [
            {"check": "reverse_dns", "verdict": verdict, "detail": "there is no PTR record", "found": [],
             "severity": None, "look_up": ""},
            {"check": "blocklist:spamcop", "verdict": verdict, "detail": "listed", "found": [], "severity": "bad",
             "look_up": ""},
        ]  # fmt: skip
        SourceCheck.objects.create(source=source, state="bad", results=results)

    checked("bad")
    settings.TLS_CERT = ""
    found = rules.look(now=timezone.now())
    episodes.watch(found)
    assert set(found) == set(rules.rules()), "every rule could look"
    assert set(Alert.objects.filter(closed_at=None, opened_at__isnull=False).values_list("kind", "subject")) >= {
        ("blocklisted", "192.0.2.10 spamcop"),
        ("reverse_dns", "192.0.2.10"),
        ("node_silent", "a"),
    }
    checked("failed")
    assert episodes.watch(rules.look(now=timezone.now())).closed == 0
    checked("ok")
    assert episodes.watch(rules.look(now=timezone.now())).closed == 2
    SourceAddress.objects.filter(pk=source.pk).update(state=SourceState.UNUSABLE, state_reason="not on this machine")
    assert "192.0.2.10" in rules.look(now=timezone.now())["source_unusable"].by_subject


@pytest.fixture
def thresholds(settings: Any) -> Iterator[Any]:
    rules.rules.cache_clear()
    yield settings
    rules.rules.cache_clear()


def test_thresholds_are_chosen_and_a_misread_one_is_said(thresholds: Any) -> None:
    thresholds.ALERT_THRESHOLDS = ["disk=100", "queue_age=60"]
    assert rules.rules()["disk"].threshold == 100
    assert rules.look(now=timezone.now())["disk"].by_subject, "no disk is quite empty"

    for wrong in ("brightness=1", "disk=much", "disk=-1"):
        rules.rules.cache_clear()
        thresholds.ALERT_THRESHOLDS = [wrong]
        with pytest.raises(ValueError):
            rules.rules()


def test_a_url_is_called_with_a_signature(settings: Any) -> None:
    settings.ALERT_MAIL_TO = ["off"]
    settings.ALERT_WEBHOOK_SECRET = webhooks.secret_from(b"k" * 32)
    settings.WEBHOOK_DESTINATIONS = [ip_network("127.0.0.0/8")]
    receiver = Receiver(answers={"/": in_turn(status(500), OK)})
    with LoopThread() as loop:
        loop.run(receiver.__aenter__())
        settings.ALERT_WEBHOOK_URL = receiver.url()
        episodes.send_test(actor=ACTOR)

        assert alerting.tell_due() == 0, "it answered 500"
        AlertTelling.objects.update(next_at=timezone.now())
        assert alerting.tell_due() == 1

        loop.run(receiver.__aexit__())
    first, call = receiver.calls
    assert first.id == call.id, "a receiver knows what comes again"
    assert call.document["type"] == "alert.opened" and call.document["alert"]["kind"] == "test"
    timestamp = int(call.headers["webhook-timestamp"])
    secrets = [settings.ALERT_WEBHOOK_SECRET]
    signed = webhooks.signatures(secrets, webhook_id=call.id, timestamp=timestamp, body=call.body)
    assert call.headers["webhook-signature"] == signed


def test_operators_take_mute_and_test_on_the_pages(cast: Cast, django_assert_max_num_queries: Any) -> None:
    olivia = Client()
    olivia.force_login(cast.olivia)
    assert "Nothing is wrong" in olivia.get("/operator/alerts/").content.decode()
    found = {"worker_silent": Found({f"a/worker-{n}": {"part": "worker", "since": NOW.isoformat()} for n in range(60)})}
    episodes.watch(found, now=NOW)
    alert = Alert.objects.order_by("-id")[0]
    place = f"/operator/alerts/{alert.pk}/"

    with django_assert_max_num_queries(15):
        page = olivia.get("/operator/alerts/").content.decode()
    assert "60 alerts wait for somebody." in page and "ops@operator.example" in page
    assert olivia.get("/operator/alerts/?before=" + page.split("before=")[1].split('"')[0]).status_code == 200

    assert "It is yours." in olivia.post(f"{place}acknowledge/", {"note": "mine"}, follow=True).content.decode()
    shown = olivia.get(place).content.decode()
    assert "mine" in shown and "docs/runbooks.md#worker-silent" in shown
    assert "reminders every day" in olivia.post(f"{place}take-back/", follow=True).content.decode()
    muted = olivia.post(f"{place}mute/", {"hours": "2", "reason": "moving house"}, follow=True).content.decode()
    assert "moving house" in muted
    assert "It is told again." in olivia.post(f"{place}unmute/", follow=True).content.decode()
    assert "This field" in olivia.post(f"{place}mute/", {"hours": "2", "reason": ""}).content.decode()
    assert "A test alert" in olivia.post("/operator/alerts/test/", follow=True).content.decode()
    assert "A test alert" in olivia.get("/operator/alerts/?show=past").content.decode()
    assert AuditEntry.objects.filter(actor=cast.olivia, action__startswith="alert.").count() == 5


def test_a_brake_is_told_with_its_rule_and_the_alert_ends_with_it(cast: Cast) -> None:
    brake = pulling.pull_by_hand(cast.acme, step="slow", reason="a list that was bought", actor=ACTOR)

    episodes.watch(rules.look(now=NOW), now=NOW)
    alert = Alert.objects.get(kind="brake")
    assert "Acme" in alert_words.title(alert) and "Pulled by the operator" in alert_words.sentence(alert)

    pulling.release(brake, actor=ACTOR, answer="mended")
    episodes.watch(rules.look(now=NOW), now=NOW)
    alert.refresh_from_db()
    assert alert.closed_at is not None


def test_the_page_asks_for_news_and_hears_nothing_while_all_is_as_it_was(cast: Cast) -> None:
    client = Client(headers={"accept-language": "en"})
    client.force_login(cast.olivia)
    page = client.get("/operator/alerts/").content.decode()
    (news,) = re.findall(r'hx-get="([^"]+)"', page)
    assert client.get(news).status_code == 204

    watch(FULL, after=0 * MINUTE)
    watch(FULL, after=MINUTE)
    answer = client.get(news)

    assert answer.status_code == 200 and "1 alert waits for somebody." in answer.content.decode()
    assert "hx-get" not in client.get("/operator/alerts/?show=past").content.decode()
    client.force_login(cast.alice)
    assert client.get(news).status_code == 404
