"""The readers' page: one click from a mail program, a confirmed click from a person, and nothing from what only looks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import sealing
from accounts.identifiers import uuid7
from accounts.models import AuditEntry
from delivery import unsubscribes
from delivery.core.unsubscribing import make_token, url_for
from delivery.models import DeliveryEvent, Message, Recipient, Stream, Suppression, SuppressionKind, SuppressionReason
from delivery.suppressions import Cause, Owner, Target, add
from tests.support.journeys import Cast, Fate, write_message

ONE_CLICK = "List-Unsubscribe=One-Click"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def reader(cast: Cast) -> Recipient:
    """Taro, to whom a newsletter of Acme's went."""
    message = write_message(cast.acme, Fate(address="taro@far.test"), subject="News")
    bulk = Stream.objects.get(tenant=cast.acme, name="bulk")
    Message.objects.filter(pk=message.pk).update(stream_id=bulk.pk)
    return Recipient.objects.get(message_id=message.pk)


@pytest.fixture
def browser() -> Client:
    return Client(enforce_csrf_checks=True, headers={"accept-language": "en"})


def address_of(recipient_id: Any, *, key: bytes | None = None) -> str:
    return url_for(make_token(recipient_id, key=key or sealing.derived_keys("unsubscribe")[0]), public_url="")


def stopped() -> list[tuple[str, str, str]]:
    rows = Suppression.objects.filter(removed_at=None)
    return [(row.value, row.reason, row.stream.name if row.stream else "") for row in rows]


def test_one_click_unsubscribes_from_the_stream_without_cookies(browser: Client, reader: Recipient) -> None:
    answer = browser.post(address_of(reader.pk), ONE_CLICK, content_type=FORM)

    assert answer.status_code == 200
    assert not answer.cookies
    assert stopped() == [("taro@far.test", "unsubscribe", "bulk")]
    event = DeliveryEvent.objects.get(kind="unsubscribed")
    assert (event.recipient_id, event.data) == (reader.pk, {"how": "one_click", "stream": "bulk"})


def test_it_also_takes_a_form_in_parts(browser: Client, reader: Recipient) -> None:
    assert browser.post(address_of(reader.pk), {"List-Unsubscribe": "One-Click"}).status_code == 200

    assert DeliveryEvent.objects.get(kind="unsubscribed").data["how"] == "one_click"


def test_doing_it_again_changes_nothing(browser: Client, reader: Recipient) -> None:
    first, second = (browser.post(address_of(reader.pk), ONE_CLICK, content_type=FORM) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert DeliveryEvent.objects.filter(kind="unsubscribed").count() == 1
    assert Suppression.objects.count() == 1


@pytest.mark.parametrize("method", ["get", "head", "options", "put", "delete"])
def test_looking_changes_nothing(browser: Client, reader: Recipient, method: str) -> None:
    answer = getattr(browser, method)(address_of(reader.pk))

    assert answer.status_code == (200 if method in {"get", "head"} else 405)
    assert stopped() == []
    assert not answer.cookies


@pytest.mark.parametrize(
    ("language", "heading", "button", "done"),
    [
        ("ja,en;q=0.5", "このメールの配信を停止しますか", "配信を停止する", "配信を停止しました"),
        ("en", "Unsubscribe from this mail?", ">Unsubscribe<", "You are unsubscribed"),
        ("fr", "Unsubscribe from this mail?", ">Unsubscribe<", "You are unsubscribed"),
    ],
)
def test_a_person_confirms_in_their_language(
    reader: Recipient, language: str, heading: str, button: str, done: str
) -> None:
    browser = Client(enforce_csrf_checks=True, headers={"accept-language": language})

    asked = browser.get(address_of(reader.pk)).content.decode()
    told = browser.post(address_of(reader.pk), {"answer": "stop"}).content.decode()

    assert heading in asked and button in asked
    assert "taro@far.test" in asked and "shop@acme.example" in asked
    assert done in told
    assert DeliveryEvent.objects.get(kind="unsubscribed").data["how"] == "page"


def test_a_mistake_is_undone_and_shows_in_the_audit_log(browser: Client, reader: Recipient) -> None:
    browser.post(address_of(reader.pk), {"answer": "stop"})

    told = browser.post(address_of(reader.pk), {"answer": "again"})

    assert "You are subscribed again" in told.content.decode()
    assert stopped() == []
    actions = list(
        AuditEntry.objects.filter(action__startswith="suppression").order_by("id").values_list("action", flat=True)
    )
    assert actions == ["suppression.add", "suppression.remove"]
    browser.post(address_of(reader.pk), {"answer": "stop"})
    assert len(stopped()) == 1


def test_a_complaint_is_not_taken_back_with_it(browser: Client, reader: Recipient, cast: Cast) -> None:
    stream = Stream.objects.get(tenant=cast.acme, name="bulk")
    owner, target = Owner(cast.acme, stream), Target(SuppressionKind.ADDRESS, "taro@far.test")
    add(owner, target, Cause(SuppressionReason.COMPLAINT), actor=unsubscribes._READER)

    told = browser.post(address_of(reader.pk), {"answer": "again"}).content.decode()

    assert stopped() == [("taro@far.test", "complaint", "bulk")]
    assert "subscribe again" not in told


def test_only_the_one_it_was_made_for_is_unsubscribed(browser: Client, reader: Recipient, cast: Cast) -> None:
    write_message(cast.globex, Fate(address="taro@far.test"), author="info@globex.example")

    browser.post(address_of(reader.pk), ONE_CLICK, content_type=FORM)

    assert {row.tenant_id for row in Suppression.objects.all()} == {cast.acme.pk}


@pytest.mark.parametrize("spoil", ["flip", "cut", "foreign key", "guess", "padded", "upper case path"])
def test_a_forged_token_changes_nothing(browser: Client, reader: Recipient, spoil: str) -> None:
    path = address_of(reader.pk)
    token = path.strip("/").split("/")[-1]
    other = {
        "flip": token[:20] + ("a" if token[20] != "a" else "b") + token[21:],
        "cut": token[:-1],
        "foreign key": address_of(reader.pk, key=b"x" * 32).strip("/").split("/")[-1],
        "guess": "a" * len(token),
        "padded": token[:-1] + "=",
        "upper case path": "%00" + token,
    }[spoil]

    for answer in (
        browser.get(path.replace(token, other)),
        browser.post(path.replace(token, other), ONE_CLICK, content_type=FORM),
    ):
        assert answer.status_code == 404
        assert "This link does not work" in answer.content.decode()
    assert stopped() == []


def test_a_mail_whose_history_is_gone_says_so(browser: Client, db: None) -> None:
    answer = browser.post(address_of(uuid7(timezone.now() - timedelta(days=400))), ONE_CLICK, content_type=FORM)

    assert answer.status_code == 410
    assert "too old" in answer.content.decode()


def test_guessing_and_repeating_are_bounded(browser: Client, reader: Recipient) -> None:
    with time_machine.travel(timezone.now(), tick=False):  # within one minute of what is counted
        guesses = [browser.get("/unsubscribe/nothing/").status_code for _ in range(62)]
        assert guesses[:60] == [404] * 60
        assert guesses[60:] == [429, 429]

        # Readers behind the same address are not in the way of each other.
        uses = [browser.get(address_of(reader.pk)) for _ in range(31)]
        assert [answer.status_code for answer in uses] == [200] * 30 + [429]
        assert 1 <= int(uses[-1]["Retry-After"]) <= 60


def test_the_page_needs_no_script_and_stays_out_of_search_engines(browser: Client, reader: Recipient) -> None:
    answer = browser.get(address_of(reader.pk))

    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "unsafe-inline" not in answer["Content-Security-Policy"]
    assert answer["X-Robots-Tag"] == "noindex"
    assert "no-store" in answer["Cache-Control"]
    assert " style=" not in answer.content.decode() and "onclick" not in answer.content.decode()
