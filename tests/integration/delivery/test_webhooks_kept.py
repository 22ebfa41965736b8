"""What stays bounded, what stays sealed, and who is told when a webhook is disabled."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from accounts import sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import User
from accounts.notices import open_notices
from delivery import keys, partitions
from delivery.models import TenantEvent, Webhook, WebhookCall, WebhookEvent
from delivery.webhooks import endpoints, forgetting, notices
from relayweb.tasks import mail_notices
from tests.support.journeys import Cast, make_cast
from tests.support.webhook_rows import SECRET, write_call, write_dead, write_webhook

OLD = timedelta(days=40)


@pytest.fixture
def cast(db: None, settings: Any) -> Cast:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    return make_cast()


# ---------------------------------------------------------------- notices


def test_the_people_of_a_tenant_are_told_once_in_their_language(cast: Cast) -> None:
    now = timezone.now()
    webhook = write_webhook(
        cast.acme,
        name="orders",
        state="disabled",
        disabled_at=now,
        disabled_reason="failing",
        failing_since=now - timedelta(days=5),
        last_status=502,
        is_notice_due=True,
    )
    User.objects.update(email_confirmed_at=now)
    User.objects.filter(pk=cast.alice.pk).update(language="en")
    User.objects.filter(pk=cast.bob.pk).update(language="ja")

    assert [notices.raise_due(), notices.raise_due()] == [1, 0]
    mail_notices()
    mail_notices()

    by_person = {message.to[0]: message for message in mail.outbox}
    assert len(mail.outbox) == 2
    assert set(by_person) == {"alice@acme.example", "bob@acme.example"}
    english, japanese = by_person["alice@acme.example"], by_person["bob@acme.example"]
    assert "Webhook “orders” is switched off" in english.subject
    assert "502" in english.body and f"/t/acme/webhooks/{webhook.id}/" in english.body
    assert "Webhook「orders」" in japanese.subject
    assert all(SECRET not in message.body for message in mail.outbox)


def test_a_letter_that_could_not_be_handed_over_waits(cast: Cast, settings: Any) -> None:
    write_webhook(cast.acme, state="disabled", disabled_at=timezone.now(), disabled_reason="gone", is_notice_due=True)
    User.objects.update(email_confirmed_at=timezone.now())
    notices.raise_due()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    mail_notices()

    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    mail_notices()
    mail_notices()

    assert sorted(message.to[0] for message in mail.outbox) == ["alice@acme.example", "bob@acme.example"]


@pytest.mark.parametrize("ending", [endpoints.enable_webhook, endpoints.remove_webhook], ids=["enabled", "removed"])
def test_the_notice_ends_with_what_it_is_about(cast: Cast, ending: Callable[..., Webhook]) -> None:
    webhook = write_webhook(
        cast.acme, state="disabled", disabled_at=timezone.now(), disabled_reason="gone", is_notice_due=True
    )
    notices.raise_due()
    assert open_notices(cast.acme)

    ending(webhook, actor=Actor.system("test"))

    assert open_notices(cast.acme) == []


# ---------------------------------------------------------------- bounds


def test_old_days_of_the_log_are_dropped_and_recent_ones_stay(cast: Cast) -> None:
    webhook = write_webhook(cast.acme)
    long_ago = datetime.now(tz=UTC) - OLD
    partitions.ensure_ahead(now=long_ago, ahead=timedelta(0))
    write_call(webhook, called_at=long_ago)
    recent = write_call(webhook)

    gone = forgetting.forget_old()

    assert gone["days"] == 2
    assert [call.id for call in WebhookCall.objects.all()] == [recent.id]
    assert forgetting.forget_old() == {}


def test_what_nobody_can_be_told_any_more_is_forgotten(cast: Cast) -> None:
    now = timezone.now()
    active = write_webhook(cast.acme)
    disabled = write_webhook(cast.acme, state="disabled", disabled_at=now - OLD)
    removed = write_webhook(cast.acme, state="removed", removed_at=now - OLD)
    write_dead(active, died_at=now - OLD, occurred_at=now - OLD)
    kept = [write_dead(active), write_dead(active, died_at=None, next_call_at=now, occurred_at=now - OLD)]
    write_dead(disabled, died_at=None, next_call_at=now, occurred_at=now - OLD)
    kept.append(write_dead(disabled, died_at=None, next_call_at=now))
    write_dead(removed, died_at=None, next_call_at=now)
    TenantEvent.objects.create(
        tenant=cast.globex, kind="tenant.paused", subject_id=uuid7(), occurred_at=now - timedelta(days=100)
    )

    forgetting.forget_old()

    assert set(WebhookEvent.objects.values_list("id", flat=True)) == {event.id for event in kept}
    assert set(Webhook.objects.values_list("id", flat=True)) == {active.id, disabled.id}
    assert not TenantEvent.objects.exists()


def test_a_tenant_has_so_many_webhooks_and_no_more(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST_OF_A_TENANT", 2)
    for _ in range(2):
        write_webhook(cast.acme)

    with pytest.raises(endpoints.Refused) as refused:
        endpoints.add_webhook(cast.acme, url="http://127.0.0.1:9/", events=["bounced"], actor=Actor("alice"))

    assert refused.value.reason == "too_many_webhooks"


# ---------------------------------------------------------------- secrets


def test_secrets_are_sealed_in_the_database_and_kept_out_of_the_audit_log(cast: Cast) -> None:
    made = endpoints.add_webhook(cast.acme, url="http://127.0.0.1:9/", events=["bounced"], actor=Actor("alice"))
    endpoints.rotate_secret(made.webhook, actor=Actor("alice"))

    octets = base64.b64decode(made.secret.removeprefix("whsec_"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT sealed_secret, sealed_former_secret FROM delivery_webhook")
        found = b"".join(bytes(part) for part in cursor.fetchone())
        cursor.execute("SELECT string_agg(after::text || before::text, '') FROM accounts_auditentry")
        audit = cursor.fetchone()[0]
    assert octets not in found and made.secret.encode() not in found
    assert made.secret not in audit


def test_secrets_move_to_the_current_key(cast: Cast, settings: Any) -> None:
    webhook = write_webhook(cast.acme)
    settings.ENCRYPTION_KEYS = {"new": bytes(32), **settings.ENCRYPTION_KEYS}

    resealed = keys.reseal_all(actor=Actor.system("test"))

    webhook.refresh_from_db()
    assert resealed.webhook_secrets == 1
    assert bytes(webhook.sealed_secret).startswith(b"new\0")
    context = Webhook.sealing_context(webhook.id)
    assert sealing.unseal(bytes(webhook.sealed_secret), context=context).decode() == SECRET
