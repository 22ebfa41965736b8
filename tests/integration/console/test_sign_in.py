"""Signing in and out, one-time links, and what a browser remembers."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import connection
from django.test import Client

from accounts import people
from accounts.models import SignedInBrowser, User
from relayweb.console import tries
from tests.support.journeys import PASSWORD, Cast


def _sign_in(client: Client, email: str, password: str, **more: str):  # type: ignore[no-untyped-def]
    return client.post("/accounts/login/", {"email": email, "password": password, **more})


def test_a_member_signs_in_and_lands_in_the_only_tenant(cast: Cast) -> None:
    client = Client()

    answer = client.post("/accounts/login/", {"email": "Alice@acme.example", "password": PASSWORD}, follow=True)

    assert [step[0] for step in answer.redirect_chain] == ["/", "/t/acme/"]


def test_the_session_gets_a_new_id_at_sign_in(cast: Cast) -> None:
    client = Client()
    client.get("/accounts/login/")
    session = client.session
    session["seen"] = True
    session.save()
    before = session.session_key

    _sign_in(client, "alice@acme.example", PASSWORD)

    assert client.session.session_key != before


def test_what_the_database_holds_of_a_session_signs_nobody_in(cast: Cast) -> None:
    client = Client()
    _sign_in(client, "alice@acme.example", PASSWORD)
    cookie = client.cookies["relay_session"].value

    stored = {*Session.objects.values_list("session_key", flat=True)} | {
        *SignedInBrowser.objects.values_list("session_key", flat=True)
    }

    assert stored and cookie not in stored
    for key in stored:
        thief = Client()
        thief.cookies["relay_session"] = key
        assert thief.get("/t/acme/").status_code == 302
    assert client.get("/t/acme/").status_code == 200


def test_sessions_from_before_go_on(cast: Cast) -> None:
    client = Client()
    _sign_in(client, "alice@acme.example", PASSWORD)
    cookie = client.cookies["relay_session"].value
    Session.objects.update(session_key=cookie)
    SignedInBrowser.objects.update(session_key=cookie)
    assert client.get("/t/acme/").status_code == 302

    migration = import_module("accounts.migrations.0011_session_keys_hashed")
    with connection.cursor() as cursor:
        cursor.execute(migration._HASH)
        cursor.execute(migration._HASH)

    client.cookies["relay_session"] = cookie
    assert "this browser" in client.get("/me/security/").content.decode()


def test_a_wrong_password_and_an_unknown_address_read_the_same(cast: Cast) -> None:
    client = Client(headers={"accept-language": "en"})

    wrong = _sign_in(client, "alice@acme.example", "not the password")
    unknown = _sign_in(client, "nobody@acme.example", "not the password")

    assert wrong.status_code == unknown.status_code == 200
    strip = lambda answer, email: answer.content.replace(email, b"").split(b"csrfmiddlewaretoken")[0]  # noqa: E731
    assert strip(wrong, b"alice@acme.example") == strip(unknown, b"nobody@acme.example")
    assert b"is not right" in wrong.content


def test_too_many_tries_are_put_off_while_the_owner_goes_on_elsewhere(cast: Cast) -> None:
    guesser, owner = Client(REMOTE_ADDR="192.0.2.66"), Client(REMOTE_ADDR="192.0.2.7")
    for _ in range(tries.PER_ACCOUNT_AND_NETWORK):
        assert _sign_in(guesser, "alice@acme.example", "guess").status_code == 200

    refused = _sign_in(guesser, "alice@acme.example", PASSWORD)

    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert _sign_in(owner, "alice@acme.example", PASSWORD).status_code == 302


def test_guesses_from_everywhere_do_not_keep_the_owner_out(cast: Cast) -> None:
    owner, other = Client(), Client()
    _sign_in(owner, "alice@acme.example", PASSWORD)
    _sign_in(other, "bob@acme.example", PASSWORD)
    owner.post("/accounts/logout/")
    other.post("/accounts/logout/")
    for number in range(tries.PER_ACCOUNT + 1):  # a /64 each, of which one machine may have many
        tries.may_try("alice@acme.example", f"2001:db8:0:{number:x}::1")

    assert _sign_in(other, "alice@acme.example", PASSWORD).status_code == 429  # known, and for bob alone
    for _ in range(tries.PER_ACCOUNT_AND_NETWORK - 1):
        assert _sign_in(owner, "alice@acme.example", "mistyped").status_code == 200
    assert _sign_in(owner, "Alice@acme.example", PASSWORD).status_code == 302


def test_a_known_browser_may_not_guess_for_ever_either(cast: Cast) -> None:
    client = Client()
    _sign_in(client, "alice@acme.example", PASSWORD)
    client.post("/accounts/logout/")
    for _ in range(tries.PER_ACCOUNT_AND_NETWORK):
        _sign_in(client, "alice@acme.example", "guess")

    assert _sign_in(client, "alice@acme.example", PASSWORD).status_code == 429


def test_somebody_inactive_cannot_sign_in(cast: Cast) -> None:
    User.objects.filter(pk=cast.bob.pk).update(is_active=False)

    assert _sign_in(Client(), "bob@acme.example", PASSWORD).status_code == 200


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example", "messages", "../", "a:b"],
)
def test_sign_in_never_leads_to_another_site(target: str, cast: Cast) -> None:
    assert _sign_in(Client(), "alice@acme.example", PASSWORD, next=target)["Location"] == "/"
    assert Client().post("/me/theme/", {"theme": "dark", "next": target})["Location"] == "/"


def test_sign_in_leads_back_to_the_page_asked_for(cast: Cast) -> None:
    answer = _sign_in(Client(), "alice@acme.example", PASSWORD, next="/t/acme/rejections/")

    assert answer["Location"] == "/t/acme/rejections/"


def test_signing_out_is_a_post_and_ends_the_session(cast: Cast, alice: Client) -> None:
    assert alice.get("/accounts/logout/").status_code == 405

    alice.post("/accounts/logout/")

    assert alice.get("/t/acme/messages/").status_code == 302


def test_a_new_password_ends_the_other_sessions(cast: Cast, alice: Client) -> None:
    people.set_password(cast.alice, "another good long password")

    assert alice.get("/t/acme/messages/").status_code == 302


def test_forms_without_a_token_are_refused_with_a_page_that_helps(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True, headers={"accept-language": "en"})

    answer = _sign_in(client, "alice@acme.example", PASSWORD)

    assert answer.status_code == 403
    assert b"brings back what you typed" in answer.content


# ---------------------------------------------------------------- one-time links


def _path_of(link: str) -> str:
    return "/" + link.split("/", 3)[3]


def test_a_one_time_link_sets_the_password_and_signs_in_once(cast: Cast) -> None:
    newcomer, _ = people.find_or_create_user("new@acme.example")
    path = _path_of(people.one_time_link(newcomer))
    client = Client()
    assert b"new@acme.example" in client.get(path).content

    entered = client.post(path, {"password": "a fresh long password"})

    assert entered["Location"] == "/"
    assert client.get("/tenants/").status_code == 200
    assert Client().get(path).status_code == 404
    assert _sign_in(Client(), "new@acme.example", "a fresh long password").status_code == 302


def test_a_weak_password_is_refused_with_the_reason_and_the_link_goes_on_working(cast: Cast) -> None:
    newcomer, _ = people.find_or_create_user("new@acme.example")
    client, path = Client(headers={"accept-language": "en"}), _path_of(people.one_time_link(newcomer))

    refused = client.post(path, {"password": "password"})

    assert refused.status_code == 200
    assert b"too short" in refused.content
    assert client.post(path, {"password": "a fresh long password"}).status_code == 302


@pytest.mark.parametrize("token", ["nonsense", signing.dumps(["00" * 16, "x"], salt="accounts.people.one_time_link")])
def test_a_link_that_was_never_given_out_is_dead(token: str, db: None) -> None:
    assert Client().get(f"/welcome/{token}/").status_code == 404


# ---------------------------------------------------------------- where to go, and what is remembered


def test_somebody_without_a_tenant_is_told_whom_to_ask(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    nobody = signed_in(User.objects.create_user("nobody@acme.example", PASSWORD))

    answer = nobody.get("/", follow=True)

    assert answer.redirect_chain[-1][0] == "/tenants/"
    assert b"No tenant yet" in answer.content


def test_an_operator_without_a_tenant_lands_on_the_health_page(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    assert signed_in(cast.olivia).get("/")["Location"] == "/operator/"


def test_language_is_chosen_by_browser_then_by_person(cast: Cast, alice: Client) -> None:
    assert b"Send log" in alice.get("/t/acme/messages/").content

    back = alice.post("/me/language/", {"language": "ja", "next": "/t/acme/messages/?state=bounced"})

    assert back["Location"] == "/t/acme/messages/?state=bounced"
    page = alice.get("/t/acme/messages/")
    assert "送信ログ".encode() in page.content
    assert b'lang="ja"' in page.content
    cast.alice.refresh_from_db()
    assert cast.alice.language == "ja"


def test_another_browser_takes_over_language_and_theme_at_sign_in(cast: Cast) -> None:
    User.objects.filter(pk=cast.alice.pk).update(language="ja", theme="dark")
    client = Client(headers={"accept-language": "en"})

    _sign_in(client, "alice@acme.example", PASSWORD)

    page = client.get("/t/acme/messages/").content
    assert b'lang="ja" data-bs-theme="dark"' in page


def test_theme_and_clock_are_kept_in_the_browser(cast: Cast, alice: Client) -> None:
    alice.post("/me/theme/", {"theme": "dark", "next": "/t/acme/messages/"})
    alice.post("/me/clock/", {"clock": "utc", "next": "https://evil.example/"})

    page = alice.get("/t/acme/messages/").content

    assert b'data-bs-theme="dark"' in page
    assert b"theme.js" not in page
    assert alice.cookies["relay_clock"].value == "utc"
