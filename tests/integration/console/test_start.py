"""First steps: what is done, what is next, and a test mail through the door that every mail takes."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from accounts import credentials
from accounts.audit import Actor
from accounts.models import Membership, Role, User
from delivery import domains
from delivery.models import Message, Recipient
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import EXAMPLES, Cast, write_message

PAGE = "/t/acme/start/"


def test_nothing_done_yet_says_what_comes_first(cast: Cast, alice: Client) -> None:
    page = alice.get(PAGE).content.decode()

    assert "0 of 4 done." in page
    assert "nobody to send to" in page


def test_steps_tick_themselves(cast: Cast, alice: Client) -> None:
    User.objects.filter(pk=cast.alice.pk).update(email_confirmed_at=timezone.now())
    before = alice.get(PAGE)
    seen = before.context["seen"]
    assert alice.get(f"{PAGE}live/?seen={seen}").status_code == 204

    actor = Actor("olivia@relay.example", is_operator=True)
    credentials.issue_credential(cast.acme, kind="smtp", name="shop", actor=actor)
    domains.add_domain(cast.acme, "acme.example", actor=actor, assume_verified=True)
    write_message(cast.acme, EXAMPLES[0])

    part = alice.get(f"{PAGE}live/?seen={seen}").content.decode()
    assert "Everything is set up" in part
    assert "Accepted by the receiving server" in part
    assert "hx-get" not in part


def test_the_test_mail_goes_to_members_only(cast: Cast, alice: Client) -> None:
    User.objects.filter(pk=cast.alice.pk).update(email_confirmed_at=timezone.now())

    page = alice.post(f"{PAGE}send/", {"recipient": "charlie@globex.example", "subject": "x"}).content.decode()

    assert "is not one of the available choices" in page
    assert not Message.objects.exists()


def test_an_analyst_sees_the_progress_and_sends_nothing(cast: Cast, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    assert b"Send test mail" not in bob.get(PAGE).content
    assert bob.post(f"{PAGE}send/").status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("safe_database", "own_door")
def test_a_test_mail_is_accepted_before_any_dns_is_set(cast: Cast, alice: Client, settings) -> None:  # type: ignore[no-untyped-def]
    from delivery.foundation import lay

    lay()
    domains.ensure_own_domains(actor=Actor.system("test"))
    User.objects.filter(pk=cast.alice.pk).update(email_confirmed_at=timezone.now())

    answer = alice.post(f"{PAGE}send/", {"recipient": cast.alice.email, "subject": "最初のメール"})

    message = Message.objects.of(cast.acme).get()
    assert answer["Location"] == f"{PAGE}#step-mail"
    assert (message.subject, message.author) == ("最初のメール", f"hello@{settings.ONBOARDING_DOMAIN}")
    assert Recipient.objects.of(cast.acme).get().address == cast.alice.email
    assert "1 of 4" not in alice.get(PAGE).content.decode()
