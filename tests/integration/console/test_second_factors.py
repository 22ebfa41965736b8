"""Second factors, the person's own pages, and signed-in browsers: what attackers would try, and what owners need."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client
from django.utils import timezone

from accounts import browsers, factors, people
from accounts.audit import Actor
from accounts.models import AuditEntry, OneTimePassword, Passkey, RecoveryCode, SignedInBrowser, User
from relayweb.console import security, tries
from tests.support.journeys import PASSWORD, Cast

ENGLISH = {"accept-language": "en"}


def _enter(email: str = "alice@acme.example", *, code: str | None = None, **more: Any) -> Client:
    """Signed in with password, and with the code where one is given."""
    client = Client(headers=ENGLISH, **more)
    client.post("/accounts/login/", {"email": email, "password": PASSWORD})
    if code is not None:
        client.post("/accounts/second-factor/", {"code": code})
    return client


def _is_in(client: Client) -> bool:
    return client.get("/tenants/").status_code == 200


def _code(secret: str, steps: int = 0) -> str:
    return factors.code_at(secret, int(time.time()) // factors.STEP_SECONDS + steps)


@pytest.fixture
def secret(cast: Cast) -> str:
    """Alice's authenticator app: its next code is fresh."""
    made = factors.new_secret()
    factors.set_one_time_password(cast.alice, made, _code(made, -1), actor=Actor.person(cast.alice))
    return made


# ---------------------------------------------------------------- authenticator app


def test_codes_are_those_of_the_specification() -> None:
    # RFC 6238, appendix B (SHA-1), the last six of its eight digits.
    secret = base64.b32encode(b"12345678901234567890").decode()

    assert [factors.code_at(secret, second // 30) for second in (59, 1111111109, 2000000000)] == [
        "287082", "081804", "279037",
    ]  # fmt: skip
    assert factors.step_of(secret, "287 082", now=59 + 30) == 1
    assert factors.step_of(secret, "287082", now=59 + 61) is None


def test_an_app_is_set_up_with_its_code_and_recovery_codes_are_shown_once(cast: Cast, mailbox: Any) -> None:
    client = _enter()
    page = client.get("/me/security/app/").content.decode()
    key = re.search(r'id="key"[^>]*>([^<]+)<', page)
    assert key is not None
    secret = key.group(1).replace(" ", "")

    wrong = client.post("/me/security/app/", {"code": "000000"})
    done = client.post("/me/security/app/", {"code": _code(secret)})
    shown = client.get("/me/security/codes/").content.decode()

    assert b"does not fit" in wrong.content
    assert key.group(1) in wrong.content.decode()
    assert done["Location"] == "/me/security/codes/"
    codes = re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}\b", shown.partition('id="codes"')[2].partition("</pre>")[0])
    assert len(codes) == factors.RECOVERY_CODES
    assert codes[0] not in client.get("/me/security/codes/").content.decode()
    cast.alice.refresh_from_db()
    assert cast.alice.has_second_factor
    assert "authenticator app was set up" in mailbox("alice@acme.example")[0].body
    assert secret not in mailbox("alice@acme.example")[0].body
    assert secret.encode() not in bytes(OneTimePassword.objects.get().secret_sealed)
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["factor.add", "factor.codes"]


def test_the_password_alone_no_longer_signs_in(cast: Cast, secret: str) -> None:
    client = _enter()

    assert not _is_in(client)
    assert client.get("/t/acme/messages/").status_code == 302
    client.post("/accounts/second-factor/", {"code": _code(secret)})
    assert _is_in(client)


def test_a_code_works_once(cast: Cast, secret: str) -> None:
    code = _code(secret)

    assert _is_in(_enter(code=code))
    assert not _is_in(_enter(code=code))


def test_a_recovery_code_works_once_in_any_spelling(cast: Cast, secret: str) -> None:
    codes = factors.new_recovery_codes(cast.alice, actor=Actor.person(cast.alice))

    assert _is_in(_enter(code=codes[0].upper().replace("-", " ")))
    assert not _is_in(_enter(code=codes[0]))
    assert factors.recovery_codes_left(cast.alice) == 9
    assert codes[1].encode() not in b"".join(bytes(row.code_hmac) for row in RecoveryCode.objects.all())


def test_codes_are_not_guessed(cast: Cast, secret: str) -> None:
    """The account is bounded, wherever the guesses come from."""
    statuses = []
    for number in range(tries.CODE.per_account + 1):
        client = _enter(REMOTE_ADDR=f"192.0.2.{number}")
        statuses.append(client.post("/accounts/second-factor/", {"code": "000000"}).status_code)

    assert statuses == [200] * tries.CODE.per_account + [429]


def test_half_a_sign_in_ends(cast: Cast, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = _enter()
    assert client.get("/accounts/second-factor/").status_code == 200

    people.set_password(cast.alice, "another good long password")

    assert client.get("/accounts/second-factor/")["Location"] == "/accounts/login/"
    assert Client().get("/accounts/second-factor/")["Location"] == "/accounts/login/"


def test_a_reset_by_mail_does_not_pass_the_second_factor_by(cast: Cast, secret: str) -> None:
    client = Client()
    link = "/" + people.one_time_link(cast.alice).split("/", 3)[3]

    entered = client.post(link, {"password": "a fresh long password"})

    assert entered["Location"] == "/accounts/second-factor/"
    assert not _is_in(client)


def test_the_second_factor_leads_only_to_pages_of_ours(cast: Cast, secret: str) -> None:
    client = Client()
    client.post("/accounts/login/", {"email": "alice@acme.example", "password": PASSWORD, "next": "//evil.example/"})

    assert client.post("/accounts/second-factor/", {"code": _code(secret)})["Location"] == "/"


@pytest.mark.parametrize("has_factor", [False, True])
def test_no_session_survives_into_the_next_stage(has_factor: bool, cast: Cast, request: pytest.FixtureRequest) -> None:
    secret = request.getfixturevalue("secret") if has_factor else ""
    client = Client()
    client.get("/accounts/login/")
    planted = client.session
    planted["planted"] = True
    planted.save()
    keys = [planted.session_key]

    client.post("/accounts/login/", {"email": "alice@acme.example", "password": PASSWORD})
    keys.append(client.session.session_key)
    if has_factor:
        client.post("/accounts/second-factor/", {"code": _code(secret)})
        keys.append(client.session.session_key)

    assert len(set(keys)) == len(keys)
    assert _is_in(client)


def test_removing_the_last_factor_says_what_becomes_weaker(cast: Cast, secret: str) -> None:
    client = _enter(code=_code(secret))
    type(cast.acme).objects.filter(pk=cast.acme.pk).update(requires_two_factors=True)

    page = client.get("/me/security/app/remove/").content
    client.post("/me/security/app/remove/")

    assert b"your last second factor" in page
    assert b"Acme asks every member" in page
    cast.alice.refresh_from_db()
    assert not cast.alice.has_second_factor
    assert not RecoveryCode.objects.filter(user=cast.alice).exists()
    assert client.get("/t/acme/messages/")["Location"] == "/me/security/"


# ---------------------------------------------------------------- passkeys


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{" * 30_000, b'{"id": "x", "rawId": 5, "response": {}}'])
def test_nonsense_is_no_passkey(body: bytes, cast: Cast) -> None:
    client = Client(headers=ENGLISH, HTTP_HOST="localhost")
    options = client.post("/accounts/passkey/options/").json()
    assert options["userVerification"] == "required"
    assert "allowCredentials" not in options or options["allowCredentials"] == []

    answer = client.post("/accounts/passkey/", body, content_type="application/json")

    assert (answer.status_code, "was not accepted" in answer.json()["sentence"]) == (400, True)
    assert not _is_in(client)


def test_an_answer_without_options_is_refused(cast: Cast) -> None:
    answer = Client(headers=ENGLISH).post(
        "/accounts/passkey/", json.dumps({"id": "x"}), content_type="application/json"
    )

    assert answer.status_code == 400


def test_one_address_asks_for_passkeys_so_often_and_stops_nobody_else(cast: Cast) -> None:
    def ask(address: str) -> int:
        client = Client(HTTP_HOST="localhost", REMOTE_ADDR=address)
        return int(client.post("/accounts/passkey/options/").status_code)

    assert {ask("192.0.2.1") for _ in range(tries.PASSKEY.per_network)} == {200}

    assert ask("192.0.2.1") == 429
    assert ask("192.0.2.2") == 200


def test_by_address_there_are_no_passkeys(cast: Cast) -> None:
    client = Client(HTTP_HOST="127.0.0.1")

    assert b"data-passkey" not in client.get("/accounts/login/").content
    assert client.post("/accounts/passkey/options/").status_code == 429


def test_factors_and_sessions_of_others_are_not_there(cast: Cast) -> None:
    passkey = Passkey.objects.create(user=cast.alice, name="phone", credential_id=b"1", credential_data=b"")
    _enter()
    alices, bob = SignedInBrowser.objects.get(user=cast.alice), _enter("bob@acme.example")

    assert bob.get(f"/me/security/passkeys/{passkey.id}/remove/").status_code == 404
    assert bob.post(f"/me/security/passkeys/{passkey.id}/remove/").status_code == 404
    bob.post(f"/me/security/sessions/{alices.id}/end/")
    bob.post("/me/security/sessions/end-others/")

    assert Passkey.objects.filter(pk=passkey.pk).exists()
    assert SignedInBrowser.objects.filter(pk=alices.pk).exists()


# ---------------------------------------------------------------- what a browser left open must not do


@pytest.mark.parametrize(
    "path", ["app/", "app/remove/", "codes/", "passkeys/add/", "passkeys/new/", "passkeys/new/options/"]
)
def test_factors_are_changed_only_by_somebody_who_proved_a_moment_ago(path: str, cast: Cast, secret: str) -> None:
    client = _enter(code=_code(secret))
    session = client.session
    session["proved_at"] = int(time.time()) - 3600
    session.save()

    for method in (client.get, client.post):
        answer = method(f"/me/security/{path}")
        assert answer.status_code == 405 or answer["Location"].startswith("/accounts/prove/?next=")
    assert b"is not right" in client.post("/accounts/prove/", {"password": "guess"}).content
    assert OneTimePassword.objects.filter(user=cast.alice).exists()


def test_proving_is_bounded_and_leads_to_pages_of_ours(cast: Cast) -> None:
    client = _enter()
    for _ in range(tries.SIGN_IN.per_account_and_network):
        client.post("/accounts/prove/", {"password": "guess"})

    assert client.post("/accounts/prove/", {"password": PASSWORD}).status_code == 429
    for cache in caches.all():  # a quarter of an hour later
        cache.clear()
    assert client.post("/accounts/prove/", {"password": PASSWORD, "next": "https://evil.example/"})["Location"] == "/"


# ---------------------------------------------------------------- signed-in browsers


def test_a_browser_is_listed_and_signed_out_from_another(cast: Cast) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
    lost, here = _enter(HTTP_USER_AGENT=agent, REMOTE_ADDR="192.0.2.4"), _enter()
    row = SignedInBrowser.objects.get(peer_address="192.0.2.4")

    page = here.get("/me/security/").content.decode()
    here.post(f"/me/security/sessions/{row.id}/end/")

    assert "Chrome · Linux" in page
    assert "192.0.2.4" in page
    assert not _is_in(lost)
    assert _is_in(here)
    assert AuditEntry.objects.get(action="session.end").before == {"from": "192.0.2.4"}


def test_everywhere_else_is_signed_out_at_once(cast: Cast) -> None:
    others, here = [_enter() for _ in range(3)], _enter()

    here.post("/me/security/sessions/end-others/")

    assert [_is_in(one) for one in [*others, here]] == [False, False, False, True]


def test_a_visit_is_noted_every_few_minutes(cast: Cast) -> None:
    client = _enter()
    long_ago = timezone.now() - timedelta(hours=1)
    SignedInBrowser.objects.update(last_seen_at=long_ago)

    browsers.note_visit(client.session.session_key, peer_address="192.0.2.5")

    row = SignedInBrowser.objects.get()
    assert row.last_seen_at > long_ago
    assert row.peer_address == "192.0.2.5"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile Safari/604.1", "Safari · iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit Chrome/131 Safari/537.36 Edg/131.0", "Edge · Windows"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", "?"),
    ],
)
def test_browsers_are_called_as_people_call_them(agent: str, name: str) -> None:
    assert security.browser_name(agent) == name


# ---------------------------------------------------------------- oneself


def test_a_new_password_keeps_this_browser_and_ends_the_others(cast: Cast, mailbox: Any) -> None:
    other, here = _enter(), _enter()

    weak = here.post("/me/password/", {"password": "short"})
    here.post("/me/password/", {"password": "another good long password"})

    assert b"too short" in weak.content
    assert (_is_in(here), _is_in(other)) == (True, False)
    assert here.get("/me/security/").content.count(b"this browser") == 1
    assert "password was changed" in mailbox("alice@acme.example")[0].body


def test_another_address_counts_once_its_mailbox_has_agreed(cast: Cast, mailbox: Any) -> None:
    client = _enter()
    client.post("/me/email/", {"email": "alice@new.example"})
    found = re.search(r"/me/email/\S+/", mailbox("alice@new.example")[0].body)
    assert found is not None

    page, strangers = client.get(found.group()), _enter("bob@acme.example").post(found.group())
    assert User.objects.filter(email="alice@acme.example").exists()
    client.post(found.group())

    assert b"alice@new.example" in page.content
    assert strangers.status_code == 404
    cast.alice.refresh_from_db()
    assert cast.alice.email == "alice@new.example"
    assert "alice@new.example" in mailbox("alice@acme.example")[0].body
    assert client.post(found.group()).status_code == 404
    assert _is_in(client)


def test_an_address_that_somebody_has_gets_no_letter_and_no_other_answer(cast: Cast, mailbox: Any) -> None:
    answers = [_enter().post("/me/email/", {"email": email}) for email in ("bob@acme.example", "free@acme.example")]

    assert [answer["Location"] for answer in answers] == ["/me/", "/me/"]
    assert (len(mailbox("bob@acme.example")), len(mailbox("free@acme.example"))) == (0, 1)


def test_name_and_zone_are_kept(cast: Cast) -> None:
    client = _enter()

    wrong = client.post("/me/", {"name": "Alice", "time_zone": "Mars/Olympus"})
    client.post("/me/", {"name": "  Alice\tLiddell ", "time_zone": "Europe/Berlin"})

    assert b"rw-error" in wrong.content
    cast.alice.refresh_from_db()
    assert (cast.alice.name, cast.alice.time_zone) == ("Alice Liddell", "Europe/Berlin")
