"""The pages of webhooks: added with events, shown once, tested, disabled, replayed, removed and taken back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry, Membership, Role
from delivery.models import Webhook, WebhookEvent
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import EXAMPLES, Cast, write_message
from tests.support.webhook_rows import write_call, write_dead, write_webhook

LIST = "/t/acme/webhooks/"
URL = "http://127.0.0.1:9/hooks"


def _add(client: Client, **fields: object) -> Client:
    given = {
        "url": URL,
        "name": "orders",
        "events": ["delivered", "bounced"],
        "format": "standard",
        "most_in_a_call": "1",
        **fields,
    }
    return client.post(f"{LIST}add/", given)  # type: ignore[return-value]


def test_the_empty_list_shows_a_signed_example(cast: Cast, alice: Client) -> None:
    page = alice.get(LIST).content.decode()

    assert "webhook-signature: v1," in page
    assert "bad_mailbox" in page


def test_a_webhook_is_added_and_its_secret_shown_once(cast: Cast, alice: Client) -> None:
    answer = _add(alice)
    address = answer["Location"]  # type: ignore[index]

    page = alice.get(address).content.decode()
    again = alice.get(address)

    webhook = Webhook.objects.of(cast.acme).get()
    assert (webhook.url, webhook.name, webhook.events) == (URL, "orders", ["delivered", "bounced"])
    secret = re.search(r'<code id="secret"[^>]*>(whsec_[^<]+)</code>', page)
    assert secret is not None
    assert again["Location"] == f"{LIST}{webhook.id}/"
    assert secret[1] not in alice.get(f"{LIST}{webhook.id}/").content.decode()
    entry = AuditEntry.objects.of(cast.acme).get(action="webhook.add")
    assert entry.actor == cast.alice
    assert secret[1] not in str(entry.after)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://acme.example/", "begins with https:// or http://"),
        ("https://user:pw@acme.example/", "no user name or password"),
        ("http://10.0.0.7/", "inside a private network"),
        ("http://169.254.169.254/latest/meta-data/", "inside a private network"),
        ("http://[::ffff:10.0.0.1]/", "inside a private network"),
        ("hello", "begins with https:// or http://"),
        ("https://", "This is no URL"),
    ],
)
def test_a_url_that_is_not_called_is_refused_at_its_field(cast: Cast, alice: Client, url: str, sentence: str) -> None:
    answer = _add(alice, url=url)

    page = answer.content.decode()  # type: ignore[attr-defined]
    assert sentence in page
    assert 'value="orders"' in page  # nothing is lost
    assert not Webhook.objects.exists()


def test_a_webhook_in_postals_format_shows_its_public_key(cast: Cast, alice: Client) -> None:
    refused = _add(alice, format="postal", events=["delivered", "credential.created"]).content.decode()  # type: ignore[attr-defined]
    answer = _add(alice, format="postal", events=["delivered", "bounced"])

    page = alice.get(answer["Location"]).content.decode()  # type: ignore[index]
    assert "has no event credential.created" in refused
    assert "ANYMAIL_POSTAL_WEBHOOK_KEY" in page and "MIIB" in page
    assert Webhook.objects.get().format == "postal"


def test_without_events_nothing_is_added(cast: Cast, alice: Client) -> None:
    page = _add(alice, events=[]).content.decode()  # type: ignore[attr-defined]

    assert "Choose at least one event." in page
    assert not Webhook.objects.exists()


def test_a_change_is_saved_and_audited(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)

    alice.post(
        f"{LIST}{webhook.id}/edit/",
        {"url": webhook.url, "name": "new", "events": ["complained"], "most_in_a_call": "50"},
    )

    webhook.refresh_from_db()
    assert (webhook.name, webhook.events, webhook.most_in_a_call) == ("new", ["complained"], 50)
    entry = AuditEntry.objects.of(cast.acme).get(action="webhook.update")
    assert "url" not in entry.after
    assert entry.after["most_in_a_call"] == 50


def test_a_test_is_asked_for_and_its_answer_shown(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)

    answer = alice.post(f"{LIST}{webhook.id}/test/")
    waiting = alice.get(answer["Location"]).content.decode()
    webhook.refresh_from_db()
    write_call(
        webhook,
        kind="webhook.test",
        event_ids=[webhook.test_id],
        outcome="status",
        status=418,
        response_body="<b>no</b>",
    )
    test_id, _ = webhook.test_id, Webhook.objects.update(test_id=None)
    page = alice.get(f"{LIST}{webhook.id}/live/?test={test_id}").content.decode()

    assert "The call is being made" in waiting
    assert "418" in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page


def test_an_unchanged_part_is_not_sent_again(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)
    seen = re.search(r"\?seen=([0-9a-f]+)", alice.get(f"{LIST}{webhook.id}/").content.decode())
    assert seen is not None

    assert alice.get(f"{LIST}{webhook.id}/live/?seen={seen[1]}").status_code == 204
    write_call(webhook)
    assert alice.get(f"{LIST}{webhook.id}/live/?seen={seen[1]}").status_code == 200


def test_disabling_and_enabling_leads_to_what_was_missed(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)

    alice.post(f"{LIST}{webhook.id}/switch/", {"to": "off"})
    disabled = alice.get(f"{LIST}{webhook.id}/").content.decode()
    answer = alice.post(f"{LIST}{webhook.id}/switch/", {"to": "on"})

    assert "Somebody of the tenant disabled it." in disabled
    assert answer["Location"].startswith(f"{LIST}{webhook.id}/replay/?since=20")
    assert "Tell events again" in alice.get(answer["Location"]).content.decode()
    assert Webhook.objects.get().state == "active"


def test_a_period_and_what_is_dead_are_replayed(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme, state="disabled")
    write_message(cast.acme, *EXAMPLES[:2])
    Webhook.objects.update(state="active")
    write_dead(webhook)
    now = timezone.localtime(timezone=None)
    page = alice.get(f"{LIST}{webhook.id}/replay/").content.decode()

    alice.post(f"{LIST}{webhook.id}/replay/", {"which": "dead"})
    alice.post(
        f"{LIST}{webhook.id}/replay/",
        {"since": f"{now - timedelta(days=30):%Y-%m-%dT%H:%M}", "until": f"{now + timedelta(days=1):%Y-%m-%dT%H:%M}"},
    )

    assert "Replay 1" in page
    assert WebhookEvent.objects.filter(died_at=None, kind="bounced").count() >= 1
    assert WebhookEvent.objects.filter(kind="accepted").exists()
    assert AuditEntry.objects.of(cast.acme).filter(action="webhook.replay").count() == 2


def test_a_period_the_wrong_way_round_is_refused(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)

    page = alice.post(f"{LIST}{webhook.id}/replay/", {"since": "2026-01-02T00:00", "until": "2026-01-01T00:00"})

    assert "The period ends before it begins." in page.content.decode()


def test_the_log_is_filtered_and_paged(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)
    now = datetime.now(tz=UTC)
    for number in range(60):
        write_call(webhook, called_at=now - timedelta(seconds=number), recipient=f"r{number}@far.test")
    write_call(webhook, outcome="timeout", status=None, kind="bounced", recipient="late@far.test")

    first = alice.get(f"{LIST}{webhook.id}/calls/").content.decode()
    older = re.search(r'\?before=([0-9a-f-]+)"', first)
    assert older is not None
    second = alice.get(f"{LIST}{webhook.id}/calls/?before={older[1]}").content.decode()
    failed = alice.get(f"{LIST}{webhook.id}/calls/?failed=1&event=bounced&hours=1").content.decode()

    assert "r0@far.test" in first and "r59@far.test" not in first
    assert "r59@far.test" in second and "r0@far.test" not in second
    assert "late@far.test" in failed and "r0@far.test" not in failed


def test_a_call_shows_request_and_answer_escaped(cast: Cast, alice: Client) -> None:
    call = write_call(
        write_webhook(cast.acme),
        response_body='"><svg onload=alert(1)>',
        response_headers={"X": "<script>"},
        request_body='{"subject":"<img src=x>"}',
    )

    page = alice.get(f"{LIST}{call.webhook_id}/calls/{call.id}/").content.decode()

    assert "<svg onload" not in page and "<script>" not in page and "<img src=x" not in page
    assert "&lt;svg onload" in page


def test_a_call_is_replayed(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme, state="disabled")
    message = write_message(cast.acme, EXAMPLES[0])
    Webhook.objects.update(state="active")
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM delivery_event WHERE message_id = %s LIMIT 1", [message.id])
        (event_id,) = cursor.fetchone()
    call = write_call(webhook, event_ids=[event_id], message_ids=[message.id])

    alice.post(f"{LIST}{webhook.id}/calls/{call.id}/replay/")

    assert WebhookEvent.objects.get().event_id == event_id


def test_a_removed_webhook_can_be_taken_back(cast: Cast, alice: Client) -> None:
    webhook = write_webhook(cast.acme)

    alice.post(f"{LIST}{webhook.id}/remove/")
    removed = alice.get(LIST).content.decode()
    alice.post(f"{LIST}removed/{webhook.id}/restore/")

    assert "can be restored until" in removed
    assert Webhook.objects.get().state == "active"
    assert set(AuditEntry.objects.of(cast.acme).values_list("action", flat=True)) >= {
        "webhook.remove",
        "webhook.restore",
    }


def test_an_analyst_reads_and_changes_nothing(cast: Cast, signed_in: SignedIn) -> None:
    webhook = write_webhook(cast.acme)
    call = write_call(webhook)
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    for path in ("", f"{webhook.id}/", f"{webhook.id}/calls/", f"{webhook.id}/calls/{call.id}/"):
        answer = bob.get(LIST + path)
        assert answer.status_code == 200
        assert b"btn-danger" not in answer.content and b"/edit/" not in answer.content
    for path in (
        "add/",
        f"{webhook.id}/edit/",
        f"{webhook.id}/rotate/",
        f"{webhook.id}/remove/",
        f"{webhook.id}/replay/",
    ):
        assert bob.get(LIST + path).status_code == 403
    for path in ("test/", "switch/", f"calls/{call.id}/replay/"):
        assert bob.post(f"{LIST}{webhook.id}/{path}").status_code == 403


def test_no_page_asks_too_many_questions(cast: Cast, alice: Client) -> None:
    webhooks = [write_webhook(cast.acme, name=f"w{number}") for number in range(20)]
    for _ in range(30):
        call = write_call(webhooks[0])

    for path in ("", f"{webhooks[0].id}/", f"{webhooks[0].id}/calls/", f"{webhooks[0].id}/calls/{call.id}/"):
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert alice.get(LIST + path).status_code == 200
        assert len(asked) <= 15, path


@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_page_is_there_in_both_languages(cast: Cast, signed_in: SignedIn, language: str) -> None:
    webhook = write_webhook(cast.acme, failing_since=timezone.now())
    call = write_call(webhook, outcome="dns", status=None, error="nowhere.example could not be looked up")
    write_dead(webhook)
    alice = signed_in(cast.alice, language=language)

    for path in (
        "",
        "add/",
        *(f"{webhook.id}/{part}" for part in ("", "edit/", "rotate/", "remove/", "replay/", "calls/")),
    ):
        page = alice.get(LIST + path).content.decode()
        assert ("Webhook" in page) and ("呼び出し" in page or "イベント" in page or language == "en")
    assert alice.get(f"{LIST}{webhook.id}/calls/{call.id}/").status_code == 200
