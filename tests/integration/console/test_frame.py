"""Security headers, error pages, the operator's page: what every page has around it."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client, RequestFactory, override_settings
from django.urls import get_resolver

from delivery import history
from delivery.models import SavedFilter
from relayweb.console import errors
from relayweb.middleware import ClientAddress
from tests.support.journeys import EXAMPLES, Cast, write_message

TEST_PROFILE_ONLY = {
    "RELAY_WEBHOOK_DESTINATIONS",
    *("RELAY_TEST_PROFILE", "RELAY_OUTBOUND_PORT", "RELAY_ALLOW_DESTINATIONS", "RELAY_CA_FILE"),
    *("RELAY_MTA_STS_PORT", "RELAY_DNS_TRUST_AD"),
}


def test_every_page_carries_a_strict_policy(cast: Cast, alice: Client) -> None:
    for answer in (Client().get("/accounts/login/"), alice.get("/t/acme/messages/"), alice.get("/nowhere/")):
        policy = answer["Content-Security-Policy"]
        assert "unsafe" not in policy
        for directive in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert directive in policy
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"


def test_pages_of_a_tenant_are_never_cached(cast: Cast, alice: Client) -> None:
    assert "no-store" in alice.get("/t/acme/messages/")["Cache-Control"]


def test_cookies_are_kept_from_scripts_and_other_sites(cast: Cast) -> None:
    client = Client()
    client.get("/accounts/login/")
    client.post("/accounts/login/", {"email": "alice@acme.example", "password": "correct horse battery staple"})

    for name in ("relay_session", "relay_csrf"):
        assert client.cookies[name]["httponly"]
        assert client.cookies[name]["samesite"] == "Lax"


def test_production_settings_pass_djangos_deployment_checks(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import os
    import subprocess
    import sys

    environment = {
        **{name: value for name, value in os.environ.items() if name not in TEST_PROFILE_ONLY},
        "RELAY_PROFILE": "production",
        "RELAY_PART": "web",
        "RELAY_VAR": str(tmp_path),
        "RELAY_SECRET_KEY": "k" * 30 + "abcdefghijklmnopqrstuvwxyz0123456789",
        "RELAY_PUBLIC_URL": "https://relay.example",
    }
    program = (
        "import django; django.setup()\n"
        "from django.core.checks import run_checks\n"
        "from django.conf import settings\n"
        "found = run_checks(include_deployment_checks=True, tags=['security'])\n"
        "print([check for check in found if check.id.startswith('security.') and not check.is_silenced()])\n"
        "print(settings.SESSION_COOKIE_NAME, settings.SESSION_COOKIE_SECURE, settings.SECURE_HSTS_SECONDS)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "__Host-relay_session True 31536000"]


def test_the_checks_of_the_pages_are_silent(db: None) -> None:
    call_command("check", "--fail-level", "WARNING")


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(
    ("view", "status"),
    [(errors.bad_request, 400), (errors.forbidden, 403), (errors.not_found, 404), (errors.fault, 500),
     (errors.database_away, 503)],
)  # fmt: skip
def test_error_pages_need_neither_database_nor_person(view, status: int, language: str) -> None:  # type: ignore[no-untyped-def]
    from django.utils.translation import override

    request = RequestFactory().get("/")
    request.reference = "0123456789"

    with override(language):
        answer = view(request)

    assert answer.status_code == status
    assert f'lang="{language}"'.encode() in answer.content
    assert (b"0123456789" in answer.content) == (status >= 500)


def test_a_database_that_is_away_gives_503_and_says_that_mail_is_safe(
    cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(history, "page_of_recipients", away)

    answer = alice.get("/t/acme/messages/")

    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert b"Mail already taken is safe" in answer.content
    assert b"connection refused" not in answer.content


def test_a_fault_shows_a_reference_and_no_internals(cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(history, "page_of_recipients", broken)
    alice.raise_request_exception = False

    answer = alice.get("/t/acme/messages/")

    assert answer.status_code == 500
    assert b"secret detail" not in answer.content
    assert b"A fault of ours" in answer.content


def test_an_unknown_host_is_refused(db: None) -> None:
    assert Client().get("/accounts/login/", headers={"host": "evil.example"}).status_code == 400


# ---------------------------------------------------------------- who really asks


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.9", "203.0.113.5", "198.51.100.9"),  # nobody we know: not believed
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.5, 10.0.0.2", "203.0.113.5"),  # the client's own claim is not believed
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_only_proxies_of_ours_are_believed(peer: str, forwarded: str, expected: str) -> None:
    import ipaddress

    seen = []
    with override_settings(TRUSTED_PROXIES=[ipaddress.ip_network("10.0.0.0/8")]):
        request = RequestFactory().get(
            "/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded, HTTP_X_FORWARDED_PROTO="https"
        )
        ClientAddress(lambda asked: seen.append((asked.META["REMOTE_ADDR"], asked.is_secure())))(request)  # type: ignore[arg-type,return-value]

    assert seen == [(expected, peer.startswith("10."))]


# ---------------------------------------------------------------- the operator


@pytest.mark.django_db(transaction=True)
def test_the_operator_sees_figures_and_tenants_and_no_mail(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    write_message(cast.acme, *EXAMPLES, subject="confidential")

    page = signed_in(cast.olivia).get("/operator/").content.decode()

    for text in ("Operations", "docomo", "Not looked up yet", "acme", "globex", "Test profile"):
        assert text in page
    for secret in ("confidential", "@acme.example", "hana@", "Computer says no"):
        assert secret not in page.replace("olivia@relay.example", "")


@pytest.mark.django_db(transaction=True)
def test_the_operators_figures_refresh_by_themselves(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    part = signed_in(cast.olivia).get("/operator/live/")

    assert part.status_code == 200
    assert b"<html" not in part.content


@pytest.mark.django_db(transaction=True)
def test_connections_of_the_web_are_bounded_in_time() -> None:
    Client().get("/accounts/login/")
    connection.close()

    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone()[0] == f"{settings.WEB_STATEMENT_SECONDS // 60}min"


def test_no_form_can_be_sent_from_another_site() -> None:
    """By name: a new route that does without the token has to be put here on purpose."""

    def routes(resolver, before: str = ""):  # type: ignore[no-untyped-def]
        for one in resolver.url_patterns:
            path = before + str(one.pattern)
            yield from routes(one, path) if hasattr(one, "url_patterns") else [(path, one)]

    exempt = {
        one.name
        for path, one in routes(get_resolver())
        if getattr(one.callback, "csrf_exempt", False) and "api/v1" not in path
    }

    assert exempt == {
        "unsubscribe",
        "sendgrid-mail-send",
        "sendgrid-nothing",
        "api-nothing",
    }  # bearer of a key or a token


def test_a_form_with_a_nul_is_refused_and_breaks_nothing(cast: Cast, alice: Client) -> None:
    saved = SavedFilter.objects.create(tenant=cast.acme, person=cast.alice, name="mine", query="state=queued")

    answer = alice.post(f"/t/acme/messages/filters/{saved.pk}/rename/", {"name": "a\0b"})

    assert answer.status_code == 400
    saved.refresh_from_db()
    assert saved.name == "mine"


def test_the_operators_logo_and_links_stand_on_pages_and_in_letters(cast: Cast, tmp_path, mailbox) -> None:  # type: ignore[no-untyped-def]
    from relayweb import letters
    from relayweb.checks import logo_is_a_picture

    picture = tmp_path / "logo.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    scripted = tmp_path / "logo-named.png"
    scripted.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    links = {"SUPPORT_URL": "mailto:help@operator.example", "TERMS_URL": "https://operator.example/terms"}

    with override_settings(LOGO_FILE=str(picture), **links):
        page = Client().get("/accounts/login/").content.decode()
        address = page.partition('class="rw-logo" src="')[2].partition('"')[0]
        answer = Client().get(address)
        letters.deliver("dora@acme.example", lambda: letters.Letter("Hello", ("Hello.",)), language="en")
        assert logo_is_a_picture(None) == []
    with override_settings(LOGO_FILE=str(scripted)):
        refused = logo_is_a_picture(None)
        without = Client().get("/accounts/login/").content.decode()
        assert Client().get(address).status_code == 404

    assert all(link in page for link in links.values())
    assert (answer["Content-Type"], answer.content[:4]) == ("image/png", b"\x89PNG")
    assert answer["X-Content-Type-Options"] == "nosniff"
    (letter,) = mailbox("dora@acme.example")
    assert letter.body.rstrip().endswith("Support: help@operator.example\nTerms: https://operator.example/terms")
    assert 'href="https://operator.example/terms"' in letter.alternatives[0][0]
    assert ["no PNG, JPEG or WebP" in error.msg for error in refused] == [True]
    assert 'class="rw-logo" src=' not in without


def test_the_switcher_leads_to_the_same_page_where_the_other_tenant_has_it(cast: Cast, alice: Client) -> None:
    from accounts.models import Membership, Role

    Membership.objects.create(tenant=cast.globex, user=cast.alice, role=Role.ANALYST)
    message = write_message(cast.acme, EXAMPLES[0])

    for path, leads_to in (
        ("suppressions/", "suppressions/"),
        ("statistics/?days=30", "statistics/"),
        ("settings/", ""),  # for admins
        (f"messages/{message.pk}/", ""),
    ):
        page = alice.get(f"/t/acme/{path}").content.decode()
        assert f'<a href="/t/globex/{leads_to}">Globex' in page, path
