"""Charlie's key belongs to Globex: of Acme's things it finds as much as of what does not exist."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.urls import URLPattern, URLResolver, reverse

from accounts import invitations
from accounts.audit import Actor
from accounts.credentials import TENANT_SCOPES, issue_credential
from accounts.identifiers import uuid7
from accounts.memberships import KeyStanding
from accounts.models import AuditEntry, Credential, Invitation, Membership
from delivery import domains, suppressions
from delivery.models import Message, QueueEntry, Recipient, Route, SendingDomain, Suppression, SuppressionReason
from delivery.routing import own_routes
from delivery.statistics import counting
from delivery.suppressions import Cause, Owner, read_target
from relayweb.api import urls
from tests.integration.api.conftest import IssueKey, Program
from tests.integration.api.test_sending import MAIL, URL
from tests.support.engine_room import World

# Every route of the API stands here, or the inventory fails: its methods, and what of its address names a tenant's thing.
READS, ACTS, BOTH = ("GET",), ("POST",), ("GET", "POST")
COLLECTIONS: dict[str, tuple[str, ...]] = {
    "api-messages": BOTH,
    "api-messages-batch": ACTS,
    "api-recipients": READS,
    "api-rejections": READS,
    "api-domains": BOTH,
    "api-credentials": BOTH,
    "api-suppressions": BOTH,
    "api-suppressions-bulk": ACTS,
    "api-suppressions-bulk-remove": ACTS,
    "api-routes": READS,
    "api-tenant": READS,
    "api-members": READS,
    "api-invitations": BOTH,
    "api-usage": READS,
    "api-statistics": READS,
}
THINGS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "api-message": ("message_id", READS, None),
    "api-message-recipients": ("message_id", READS, None),
    "api-message-events": ("message_id", READS, None),
    "api-message-content": ("message_id", READS, None),
    **{f"api-message-{act}": ("message_id", ACTS, None) for act in ("cancel", "retry", "hold", "release")},
    "api-message-send-again": ("message_id", ACTS, {}),
    "api-message-reschedule": ("message_id", ACTS, {"send_at": "2026-01-01T00:00:00Z"}),
    "api-recipient": ("recipient_id", READS, None),
    **{f"api-recipient-{act}": ("recipient_id", ACTS, None) for act in ("cancel", "retry", "hold", "release")},
    "api-domain": ("domain", ("GET", "PATCH", "DELETE"), None),
    "api-domain-check": ("domain", ACTS, None),
    "api-domain-restore": ("domain_id", ACTS, None),
    "api-credential": ("credential_id", ("GET", "DELETE"), None),
    "api-credential-rotate": ("credential_id", ACTS, None),
    "api-suppression": ("suppression_id", ("GET", "DELETE"), None),
    "api-suppression-restore": ("suppression_id", ACTS, None),
    "api-member": ("member_id", ("GET", "PATCH", "DELETE"), {"role": "analyst"}),
    "api-invitation": ("invitation_id", ("DELETE",), None),
    "api-invitation-send": ("invitation_id", ACTS, None),
    "api-route": ("route_domain", ("GET", "DELETE"), None),
}
# Answered with 403 to every key of a tenant, whatever they name: see test_operating.
OPERATORS = "api-operator-"


def test_every_route_is_in_the_inventory() -> None:
    found = {str(route.name) for route in _routes(urls.v1) if not str(route.name).startswith(OPERATORS)}

    # Webhooks have their own.
    assert {name for name in found if not name.startswith("api-webhook")} == {*COLLECTIONS, *THINGS}


def _routes(patterns: list[URLPattern | URLResolver]) -> list[URLPattern]:
    return [pattern for pattern in patterns if isinstance(pattern, URLPattern)]


@pytest.fixture
def acme(issue_key: IssueKey) -> Program:
    return issue_key(scopes=TENANT_SCOPES, actor=Actor.command_line())


@pytest.fixture
def globex(issue_key: IssueKey, world: World) -> Program:
    return issue_key(world.cast.globex, scopes=TENANT_SCOPES, actor=Actor.command_line())


@pytest.fixture
def acmes(acme: Program, world: World) -> dict[str, Any]:
    """One of each of Acme's things, by the name an address has for it."""
    tenant, actor = world.cast.acme, Actor("alice@acme.example")
    message = UUID(acme.post(URL, MAIL).json()["id"])
    removed = domains.remove_domain(domains.add_domain(tenant, "confidential.test", actor=actor), actor=actor)
    owner = Owner(tenant)
    suppression, _ = suppressions.add(
        owner, read_target("confidential@far.test"), Cause(SuppressionReason.MANUAL), actor=actor
    )
    own_routes.set_route(tenant, domain="far.test", host="confidential.partner.example", port=25, actor=actor)
    return {
        "message_id": message,
        "recipient_id": Recipient.objects.get(message_id=message).id,
        "domain": "acme.example",
        "domain_id": removed.id,
        "credential_id": issue_credential(tenant, kind="smtp", name="confidential", actor=actor).credential.id,
        "suppression_id": suppression.id,
        "route_domain": "far.test",
        "member_id": Membership.objects.get(user=world.cast.bob, tenant=tenant).id,
        "invitation_id": invitations.invite(
            tenant, email="confidential@far.test", role="admin", by=KeyStanding(), actor=actor
        ).id,
    }


def _address(route: str, key: Any) -> str:
    name, _methods, _body = THINGS[route]
    return reverse(route, kwargs={name.removeprefix("route_"): key})


def _state(world: World) -> list[Any]:
    """Whatever of Acme's could have been changed."""
    tenant = world.cast.acme
    return [
        list(Recipient.objects.of(tenant).values_list("state", "next_attempt_at")),
        list(QueueEntry.objects.values_list("held_reason", "next_attempt_at")),
        list(SendingDomain.objects.of(tenant).order_by("name").values_list("state", "signs", "checked_at")),
        sorted(map(str, Credential.objects.of(tenant).values_list("revoked_at", "secret_sha256"))),
        list(Suppression.objects.of(tenant).values_list("removed_at")),
        Route.objects.count(),
        list(Membership.objects.of(tenant).order_by("id").values_list("role")),
        list(Invitation.objects.of(tenant).values_list("nonce", "withdrawn_at")),
        AuditEntry.objects.filter(tenant=tenant).count(),
        Message.objects.of(tenant).count(),
    ]


def test_a_foreign_thing_is_as_unknown_as_one_that_is_not(world: World, acmes: dict[str, Any], globex: Program) -> None:
    before = _state(world)

    for route, (name, methods, body) in THINGS.items():
        unknown = "nowhere.example" if name in {"domain", "route_domain"} else uuid7()
        for method in methods:
            given = (body if method in {"POST", "PATCH"} else None) or ({} if method in {"POST", "PATCH"} else None)
            foreign, nothing = (globex.call(method, _address(route, key), given) for key in (acmes[name], unknown))
            assert (route, method, foreign.status_code, nothing.status_code) == (route, method, 404, 404)
            assert _told(foreign) == _told(nothing), (route, method)
        assert _state(world) == before, route


def _told(answer: Any) -> str:
    return re.sub(r'"reference":"[^"]*"', "", answer.content.decode())


def test_a_list_holds_nothing_of_anybody_else(acmes: dict[str, Any], acme: Program, globex: Program) -> None:
    acme.post(URL, {**MAIL, "from": "a@globex.example"})
    counting.count_waiting()
    named = {"confidential", "acme", *(str(key) for key in acmes.values())}

    for route in (route for route, methods in COLLECTIONS.items() if "GET" in methods):
        own, foreign = acme.get(reverse(route)), globex.get(reverse(route))

        assert (own.status_code, foreign.status_code) == (200, 200), route
        assert [word for word in named if word in foreign.content.decode().lower()] == [], route
        assert own.content != foreign.content, route


def test_a_filter_or_a_field_that_names_a_foreign_thing_finds_nothing(
    acmes: dict[str, Any], globex: Program, world: World
) -> None:
    from delivery.models import Stream

    Stream.objects.create(tenant=world.cast.acme, name="confidential", kind="bulk")
    before = _state(world)

    assert globex.get(f"{URL}?credential={acmes['credential_id']}").status_code == 404
    assert globex.get(f"{URL}?stream=confidential").status_code == 404
    assert globex.get(f"/api/v1/recipients?recipient={MAIL['to']}").json()["data"] == []
    for path, body in (
        ("credentials", {"kind": "smtp", "stream": "confidential"}),
        ("suppressions", {"address": "a@b.test", "stream": "confidential"}),
        ("suppressions/bulk/remove", {"addresses": ["confidential@far.test"], "stream": "confidential"}),
    ):
        assert globex.post(f"/api/v1/{path}", body).status_code == 422
    removed = globex.post("/api/v1/suppressions/bulk/remove", {"addresses": ["confidential@far.test"]}).json()
    assert removed["changed"] == 0
    assert _state(world) == before


def test_without_a_key_or_the_scope_nothing_is_told(world: World, stranger: Program, issue_key: Any) -> None:
    idle, reader = issue_key(scopes=["manage"]), issue_key(scopes=["send", "read"])

    for route in (*COLLECTIONS, *THINGS):
        name, methods, _body = THINGS.get(route, ("", COLLECTIONS.get(route, ()), None))
        key = "x.test" if name in {"domain", "route_domain"} else uuid7()
        address = _address(route, key) if name else reverse(route)
        for method in methods:
            given = {} if method in {"POST", "PATCH"} else None
            assert stranger.call(method, address, given).status_code == 401, (method, route)
            if method == "GET":
                assert idle.call(method, address).status_code == 403, (method, route)
            elif route not in {"api-messages", "api-messages-batch", "api-message-send-again"}:
                assert reader.call(method, address, given).status_code == 403, (method, route)
