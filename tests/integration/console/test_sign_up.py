"""Signing up and choosing a new password: by mail, told to nobody else, and each link once."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import signups, tenants
from accounts.audit import Actor
from accounts.models import AuditEntry, SignUp, Tenant, User
from accounts.refusals import Refused
from delivery import domains
from relayweb.console import tries
from tests.support.journeys import PASSWORD, Cast

NEW = "dora@initech.example"


@pytest.fixture(autouse=True)
def _open(settings: Any) -> None:
    settings.SIGNUP = "open"


def _sign_up(client: Client, email: str = NEW, password: str = PASSWORD, **more: str) -> Any:
    return client.post("/accounts/signup/", {"email": email, "password": password, **more})


def _link(message: Any) -> str:
    found = re.search(r"https?://\S+/(?:accounts/confirm|welcome)/\S+/", message.body)
    assert found is not None, message.body
    return "/" + found.group().split("/", 3)[3]


def _english(**more: Any) -> Client:
    return Client(headers={"accept-language": "en"}, **more)


# ---------------------------------------------------------------- signing up


def test_from_sign_up_to_a_tenant_of_ones_own(db: None, mailbox: Any) -> None:
    client = _english()
    assert _sign_up(client, time_zone="Asia/Tokyo")["Location"] == "/accounts/verify/"
    waiting = client.get("/accounts/verify/").content.decode()
    assert NEW in waiting
    assert not User.objects.filter(email=NEW).exists()
    assert client.get("/accounts/verify/live/").status_code == 204

    (letter,) = mailbox(NEW)
    confirmed = client.post(_link(letter))
    signed_in = client.get(confirmed["Location"])
    made = client.post("/tenants/new/", {"name": "Initech", "slug": ""}, follow=True)

    assert (confirmed["Location"], signed_in["Location"]) == ("/accounts/verify/", "/")
    person = User.objects.get(email=NEW)
    assert person.email_confirmed_at is not None
    assert (person.time_zone, person.check_password(PASSWORD)) == ("Asia/Tokyo", True)
    assert made.redirect_chain[-1][0] == "/t/initech/start/"
    assert [owner.email for owner in tenants.owners_of(Tenant.objects.get(slug="initech"))] == [NEW]
    assert AuditEntry.objects.filter(action="person.sign_up", actor=person).exists()


@pytest.mark.parametrize(("language", "subject"), [("en", "Confirm your e-mail"), ("ja", "メールアドレスの確認")])
def test_the_letter_speaks_the_readers_language(language: str, subject: str, db: None, mailbox: Any) -> None:
    _sign_up(Client(headers={"accept-language": language}))

    (letter,) = mailbox(NEW)

    assert letter.subject.startswith(f"[relayweb] {subject}")
    assert letter.extra_headers["Auto-Submitted"] == "auto-generated"
    assert letter.alternatives[0][1] == "text/html"


def test_looking_at_the_link_confirms_nothing(db: None, mailbox: Any) -> None:
    client = _english()
    _sign_up(client)

    page = Client().get(_link(mailbox(NEW)[0]))

    assert page.status_code == 200
    assert not User.objects.filter(email=NEW).exists()


def test_another_browser_confirms_and_is_not_signed_in_while_the_first_goes_on(db: None, mailbox: Any) -> None:
    first, other = _english(), _english()
    _sign_up(first)

    page = other.post(_link(mailbox(NEW)[0]))

    assert b"can sign in now" in page.content
    assert other.get("/tenants/").status_code == 302
    assert first.get("/accounts/verify/live/").status_code == 200
    assert first.get("/accounts/verify/")["Location"] == "/"
    assert first.get("/tenants/").status_code == 200


def test_a_known_address_gets_the_same_answer_and_another_letter(cast: Cast, mailbox: Any) -> None:
    known, unknown = _english(), _english()

    answers = [_sign_up(known, "Alice@acme.example"), _sign_up(unknown, NEW)]
    pages = [
        re.sub(r"value=\"[^\"]*\"", "", client.get("/accounts/verify/").content.decode()).replace(email, "")
        for client, email in ((known, "Alice@acme.example"), (unknown, NEW))
    ]

    assert [(answer.status_code, answer["Location"]) for answer in answers] == [(302, "/accounts/verify/")] * 2
    assert pages[0] == pages[1]
    (letter,) = mailbox("Alice@acme.example")
    assert "already have an account" in letter.subject
    assert "/accounts/confirm/" not in letter.body
    assert User.objects.get(email="alice@acme.example").check_password(PASSWORD)


def test_no_time_tells_whether_an_address_is_known(cast: Cast, mailbox: Any) -> None:
    """The same work is done: the password is hashed, a row is written, a letter is worded."""

    def took(path: str, fields: dict[str, str]) -> float:
        times = []
        for _ in range(4):
            tries.forget(fields["email"], "127.0.0.1", bounds=tries.MAIL)
            client, begun = Client(), time.thread_time()
            client.post(path, fields)
            times.append(time.thread_time() - begun)
        return min(times)

    for path, more in (("/accounts/signup/", {"password": PASSWORD}), ("/accounts/reset/", {})):
        known = took(path, {"email": "alice@acme.example", **more})
        unknown = took(path, {"email": "nobody@acme.example", **more})
        # Hashing a password is nearly all of it, or some 50 ms; how busy the machine is changes a tenth.
        assert abs(known - unknown) < max(0.025, 0.2 * known), path


def test_a_link_is_dead_once_a_newer_mail_left(db: None, mailbox: Any) -> None:
    client = _english()
    _sign_up(client)
    SignUp.objects.update(mailed_at=timezone.now() - timedelta(minutes=2))

    client.post("/accounts/verify/")

    old, new = mailbox(NEW)
    assert Client().post(_link(old)).status_code == 404
    assert Client().post(_link(new)).status_code == 200


def test_a_second_mail_within_a_minute_is_refused(db: None, mailbox: Any) -> None:
    client = _english()
    _sign_up(client)

    page = client.post("/accounts/verify/", follow=True)

    assert b"within the last minute" in page.content
    assert len(mailbox(NEW)) == 1


def test_nobody_fills_a_strangers_mailbox(db: None, mailbox: Any) -> None:
    answers = [
        _sign_up(_english(REMOTE_ADDR=f"192.0.2.{number}")).status_code for number in range(tries.MAIL.per_account + 1)
    ]

    assert answers == [302] * tries.MAIL.per_account + [429]
    assert len(mailbox(NEW)) == tries.MAIL.per_account


@pytest.mark.parametrize(("email", "password"), [("no address", PASSWORD), (NEW, "short"), (NEW, "password1234")])
def test_what_cannot_be_is_refused_at_its_field(email: str, password: str, db: None, mailbox: Any) -> None:
    answer = _sign_up(_english(), email, password)

    assert answer.status_code == 200
    assert b"rw-error" in answer.content
    assert not SignUp.objects.exists()


@pytest.mark.parametrize("change", ["expire", "confirm twice", "address taken"])
def test_links_work_once_and_in_time(change: str, cast: Cast, mailbox: Any) -> None:
    _sign_up(_english())
    link = _link(mailbox(NEW)[0])
    match change:
        case "expire":
            SignUp.objects.update(expires_at=timezone.now())
            expected = 404
        case "confirm twice":
            Client().post(link)
            expected = 200
        case _:
            User.objects.create_user(NEW)
            expected = 404

    answer = Client().post(link)

    assert answer.status_code == expected
    assert User.objects.filter(email=NEW).count() == (0 if change == "expire" else 1)


def test_sign_ups_that_are_over_are_forgotten(db: None) -> None:
    kept = signups.begin(NEW, PASSWORD)
    over = signups.begin("old@initech.example", PASSWORD)
    SignUp.objects.filter(pk=over.pk).update(expires_at=timezone.now() - timedelta(days=2))

    assert signups.forget_old() == 1
    assert SignUp.objects.get() == kept


# ---------------------------------------------------------------- how one may sign up


def test_by_invitation_there_is_no_form(db: None, settings: Any, signed_in: Any) -> None:
    settings.SIGNUP = "invitation"
    client = _english()

    assert b"by invitation" in client.get("/accounts/signup/").content
    assert _sign_up(client).status_code == 403
    assert not SignUp.objects.exists()
    assert b"/accounts/signup/" not in client.get("/accounts/login/").content
    assert signed_in(User.objects.create_user(NEW, PASSWORD)).get("/tenants/new/").status_code == 404


def test_by_approval_a_tenant_adds_no_domain_before_an_operator_agreed(
    cast: Cast, settings: Any, signed_in: Any
) -> None:
    settings.SIGNUP = "approval"
    owner = signed_in(User.objects.create_user(NEW, PASSWORD))
    owner.post("/tenants/new/", {"name": "Initech"})
    tenant = Tenant.objects.get(slug="initech")

    refused = owner.post("/t/initech/domains/add/", {"name": "initech.example"})
    with pytest.raises(Refused):
        tenants.approve_tenant(tenant, actor=Actor.person(cast.alice))
    tenants.approve_tenant(tenant, actor=Actor("olivia", is_operator=True))

    assert b"An operator has to agree first" in refused.content
    assert domains.add_domain(tenant, "initech.example", actor=Actor.person(cast.alice)).name == "initech.example"


def test_one_person_opens_a_few_tenants_only(db: None, signed_in: Any) -> None:
    owner = signed_in(User.objects.create_user(NEW, PASSWORD))

    answers = [owner.post("/tenants/new/", {"name": f"Initech {number}"}).status_code for number in range(6)]

    assert answers == [302] * 5 + [200]
    assert Tenant.objects.filter(slug__startswith="initech").count() == 5


# ---------------------------------------------------------------- a new password


def test_a_forgotten_password_is_replaced_by_mail(cast: Cast, signed_in: Any, mailbox: Any) -> None:
    elsewhere, client = signed_in(cast.alice), _english()

    sent = client.post("/accounts/reset/", {"email": "ALICE@acme.example"})
    link = _link(mailbox("alice@acme.example")[0])
    entered = client.post(link, {"password": "a fresh long password"})

    assert b"If the address is registered" in sent.content
    assert entered["Location"] == "/"
    assert client.get("/t/acme/messages/").status_code == 200
    assert elsewhere.get("/t/acme/messages/").status_code == 302
    assert _english().post(link, {"password": "another long password"}).status_code == 404
    assert "password was changed" in mailbox("alice@acme.example")[1].body


@pytest.mark.parametrize(
    "asked", ["alice@acme.exampl\u00e9", "al\u0131ce@acme.example", "alice@acme.exa\uff4dple", "kim@\u212ap.example"]
)
def test_a_link_goes_to_the_registered_spelling_alone(asked: str, cast: Cast, mailbox: Any) -> None:
    """What looks or folds alike belongs to somebody else (CVE-2019-19844)."""
    User.objects.create_user(email="kim@kp.example", password=PASSWORD)

    answer = _english().post("/accounts/reset/", {"email": asked})

    assert answer.status_code == 200
    assert mailbox(asked) == []
    assert {recipient for letter in mail.outbox for recipient in letter.to} <= {"alice@acme.example", "kim@kp.example"}


def test_asking_for_an_unknown_address_reads_the_same_and_sends_nothing(cast: Cast, mailbox: Any) -> None:
    known, unknown = (
        _english().post("/accounts/reset/", {"email": f"{name}@acme.example"}).content.replace(name.encode(), b"")
        for name in ("alice", "nobody")
    )
    strip = lambda page: re.sub(rb'value="[^"]*"', b"", page)  # noqa: E731

    assert strip(known) == strip(unknown)
    assert mailbox("nobody@acme.example") == []


def test_a_reset_link_ends_after_half_an_hour(cast: Cast, mailbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _english().post("/accounts/reset/", {"email": "alice@acme.example"})
    link = _link(mailbox("alice@acme.example")[0])
    now = timezone.now()

    monkeypatch.setattr("accounts.people.timezone.now", lambda: now + timedelta(minutes=31))

    assert Client().get(link).status_code == 404
