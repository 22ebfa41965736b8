"""The pages of credentials: issued by kind, shown once, rotated, revoked."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from django.test import Client

from accounts import credentials
from accounts.audit import Actor
from accounts.models import AuditEntry, Credential, Membership, Role
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

LIST = "/t/acme/credentials/"


def _stream(cast: Cast) -> str:
    from delivery.models import Stream

    return str(Stream.objects.of(cast.acme).get(is_default=True).id)


def _issue(client: Client, cast: Cast, kind: str = "smtp", **fields: object) -> Client:
    given = {"name": "shop", "use": "application", "stream": _stream(cast), "scopes": ["send"], **fields}
    return client.post(f"{LIST}issue/?kind={kind}", given)  # type: ignore[return-value]


def _secret_of(page: str) -> str:
    found = re.search(r'<code id="secret"[^>]*>([^<]+)</code>', page)
    assert found is not None
    return found[1]


def test_the_kind_is_asked_first_and_brings_only_its_fields(cast: Cast, alice: Client) -> None:
    kinds = alice.get(f"{LIST}issue/").content.decode()
    smtp = alice.get(f"{LIST}issue/?kind=smtp").content.decode()
    network = alice.get(f"{LIST}issue/?kind=network").content.decode()

    assert all(f"?kind={kind}" in kinds for kind in ("smtp", "api", "network"))
    assert ('name="network"' in smtp, 'name="only_networks"' in smtp) == (False, True)
    assert ('name="network"' in network, 'name="only_networks"' in network) == (True, False)


def test_a_secret_is_shown_once_with_finished_settings(cast: Cast, alice: Client) -> None:
    answer = _issue(alice, cast)
    address = answer["Location"]  # type: ignore[index]

    page = alice.get(address).content.decode()
    again = alice.get(address)

    secret = _secret_of(page)
    credential = Credential.objects.of(cast.acme).get()
    for expected in (
        credential.username,
        "EMAIL_HOST_PASSWORD",
        "nodemailer",
        "relayhost",
        "MAIL_PASSWORD",
        "phpmailer_init",
    ):
        assert str(expected) in page
    assert page.count(secret) >= 9
    assert again["Location"] == f"{LIST}{credential.id}/"
    assert secret not in alice.get(f"{LIST}{credential.id}/").content.decode()
    assert secret not in str(AuditEntry.objects.get(action="credential.issue").after)


def test_what_waits_to_be_shown_is_sealed(cast: Cast, alice: Client) -> None:
    _issue(alice, cast)

    held = alice.session["shown_once"]
    page = alice.get(f"{LIST}{UUID(*held)}/secret/").content.decode()

    assert _secret_of(page) not in str(held)
    assert "shown_once" not in alice.session


def test_restrictions_are_kept(cast: Cast, alice: Client) -> None:
    _issue(
        alice,
        cast,
        only_networks="192.0.2.0/28\n198.51.100.7",
        daily_limit="500",
        rate_per_second="2.5",
        expires="30",
        is_test="on",
    )

    credential = Credential.objects.of(cast.acme).get()
    assert [str(network) for network in credential.only_networks] == ["192.0.2.0/28", "198.51.100.7/32"]
    assert (credential.daily_limit, credential.rate_per_second, credential.is_test) == (500, 2.5, True)
    assert credential.expires_at is not None


def test_a_refusal_stands_at_its_field(cast: Cast, alice: Client) -> None:
    page = _issue(alice, cast, only_networks="everywhere").content.decode()  # type: ignore[attr-defined]

    assert "everywhere is no network" in page
    assert 'id="id_only_networks_error"' in page
    assert '<details class="rw-more" open>' in page
    assert not Credential.objects.of(cast.acme).exists()


def test_another_tenants_stream_and_domain_cannot_be_named(cast: Cast, alice: Client) -> None:
    from delivery.models import Stream

    foreign = str(Stream.objects.of(cast.globex).get(is_default=True).id)

    _issue(alice, cast, stream=foreign)
    _issue(alice, cast, only_domain="globex.example")

    assert not Credential.objects.of(cast.acme).exists()


def test_a_network_waits_for_an_operator_even_when_an_operator_is_a_member(cast: Cast, alice: Client) -> None:
    cast.alice.is_operator = True
    cast.alice.save()

    answer = _issue(alice, cast, "network", network="192.0.2.0/28")

    credential = Credential.objects.of(cast.acme).get()
    assert credential.approved_at is None
    assert b"An operator has to agree" in alice.get(answer["Location"]).content  # type: ignore[index]


def test_an_api_key_is_shown_whole(cast: Cast, alice: Client) -> None:
    page = alice.get(_issue(alice, cast, "api")["Location"]).content.decode()  # type: ignore[index]

    credential = Credential.objects.of(cast.acme).get()
    assert _secret_of(page).startswith(f"{credential.username}.")
    assert credential.scopes == ["send"]


def test_a_developer_cannot_give_a_key_the_members(cast: Cast, alice: Client, signed_in: SignedIn) -> None:
    bob = signed_in(cast.bob)

    assert 'value="members"' not in bob.get(f"{LIST}issue/?kind=api").content.decode()
    _issue(bob, cast, "api", scopes=["send", "members"])
    assert not Credential.objects.of(cast.acme).exists()
    _issue(alice, cast, "api", scopes=["members"])
    credential = Credential.objects.of(cast.acme).get()
    assert credential.scopes == ["members"]
    refused = bob.post(f"{LIST}{credential.id}/rotate/", {"overlap": "24"})
    assert "Only an admin or an owner" in refused.content.decode()


@pytest.fixture
def login(cast: Cast) -> Credential:
    return credentials.issue_credential(cast.acme, kind="smtp", name="shop", actor=Actor.system("test")).credential


def test_rotating_leaves_the_former_secret_for_a_while(cast: Cast, alice: Client, login: Credential) -> None:
    answer = alice.post(f"{LIST}{login.id}/rotate/", {"overlap": "24"})

    page = alice.get(answer["Location"]).content.decode()
    login.refresh_from_db()
    assert len(_secret_of(page)) > 20
    assert login.former_secret_until is not None
    assert b"The former secret works until" in alice.get(f"{LIST}{login.id}/").content


def test_revoking_asks_first_and_is_final(cast: Cast, alice: Client, login: Credential) -> None:
    question = alice.get(f"{LIST}{login.id}/revoke/").content.decode()
    login.refresh_from_db()
    assert "stop within 5 seconds" in question
    assert login.revoked_at is None

    page = alice.post(f"{LIST}{login.id}/revoke/", follow=True).content.decode()

    login.refresh_from_db()
    assert login.revoked_at is not None
    assert "“shop” is revoked." in page
    assert alice.post(f"{LIST}{login.id}/rotate/", {"overlap": "24"}).status_code == 404


def test_an_analyst_sees_the_list_and_issues_nothing(cast: Cast, login: Credential, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    assert b"shop" in bob.get(LIST).content
    assert [
        bob.get(f"{LIST}{path}").status_code for path in ("issue/", f"{login.id}/revoke/", f"{login.id}/rotate/")
    ] == [403] * 3
