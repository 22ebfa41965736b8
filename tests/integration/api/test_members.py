"""Members by API: the console's rules for an admin, a scope of its own that only admins give away, an audit line for each."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail

from accounts.audit import Actor
from accounts.credentials import TENANT_SCOPES, issue_credential, rotate_credential
from accounts.models import AuditEntry, Invitation, Membership
from accounts.refusals import Refused
from relayweb import letters
from tests.integration.api.conftest import IssueKey, Program
from tests.integration.api.test_managing import _ok, _refused
from tests.support.engine_room import World

MEMBERS = "/api/v1/members"


@pytest.fixture
def managing(issue_key: IssueKey) -> Program:
    return issue_key(scopes=TENANT_SCOPES, actor=Actor.command_line())


def _letters(address: str) -> list[str]:
    letters.wait_until_sent()
    return [str(message.body) for message in mail.outbox if address in message.to]


def test_somebody_is_invited_again_and_the_invitation_withdrawn(managing: Program, world: World) -> None:
    made = _ok(managing.post(f"{MEMBERS}/invitations", {"email": "Dora@acme.example", "role": "admin"}), 201)

    (letter,) = _letters(made["email"])
    assert re.search(r"https?://\S+/join/\S+/", letter)
    assert [one["id"] for one in _ok(managing.get(f"{MEMBERS}/invitations"))["data"]] == [made["id"]]
    _refused(managing.post(f"{MEMBERS}/invitations", {"email": "dora@acme.example"}), 422, "is_invited", "email")
    _refused(managing.post(f"{MEMBERS}/invitations", {"email": "bob@acme.example"}), 422, "is_member", "email")
    _refused(managing.post(f"{MEMBERS}/invitations/{made['id']}/send"), 422, "too_soon")
    Invitation.objects.update(mailed_at="2026-01-01T00:00:00Z")
    assert _ok(managing.post(f"{MEMBERS}/invitations/{made['id']}/send"))["id"] == made["id"]
    assert len(set(_letters(made["email"]))) == 2
    assert _ok(managing.call("DELETE", f"{MEMBERS}/invitations/{made['id']}"))["role"] == "admin"
    assert _ok(managing.get(f"{MEMBERS}/invitations"))["data"] == []
    actions = AuditEntry.objects.of(world.cast.acme).filter(action__startswith="invitation").order_by("id")
    assert [(one.action, one.actor_name) for one in actions] == [
        (f"invitation.{done}", f"API key {managing.key.rpartition('.')[0]}") for done in ("send", "resend", "withdraw")
    ]


def test_a_role_is_changed_and_a_member_removed_but_no_owner(managing: Program, world: World) -> None:
    listed = {one["email"]: one["id"] for one in _ok(managing.get(MEMBERS))["data"]}
    alice, bob = (f"{MEMBERS}/{listed[f'{name}@acme.example']}" for name in ("alice", "bob"))

    assert _ok(managing.call("PATCH", bob, {"role": "admin"}))["role"] == "admin"
    assert _ok(managing.get(bob))["role"] == "admin"
    _refused(managing.call("PATCH", bob, {"role": "owner"}), 422, "role_too_high", "role")
    _refused(managing.call("PATCH", bob, {"role": "king"}), 400, "invalid_request", "role")
    _refused(
        managing.post(f"{MEMBERS}/invitations", {"email": "e@acme.example", "role": "owner"}), 422, "role_too_high"
    )
    _refused(managing.call("PATCH", alice, {"role": "analyst"}), 422, "role_too_high")
    _refused(managing.call("DELETE", alice), 422, "role_too_high")
    assert _ok(managing.call("DELETE", bob))["email"] == "bob@acme.example"
    assert managing.get(bob).status_code == 404
    assert [one.user for one in Membership.objects.of(world.cast.acme)] == [world.cast.alice]
    assert {"member.role", "member.remove"} <= set(
        AuditEntry.objects.of(world.cast.acme).values_list("action", flat=True)
    )


def test_only_admins_can_have_a_key_that_manages_members(
    acme: Program, managing: Program, world: World, issue_key: IssueKey
) -> None:
    alice, bob = Actor.person(world.cast.alice), Actor.person(world.cast.bob)
    options: dict[str, Any] = {"kind": "api", "scopes": ["members"]}
    given = issue_credential(world.cast.acme, actor=alice, **options).credential

    _refused(acme.post("/api/v1/credentials", options), 403, "beyond_own_powers", "scopes")
    _refused(acme.post(f"/api/v1/credentials/{given.id}/rotate", {}), 403, "beyond_own_powers", "scopes")
    _refused(acme.call("DELETE", f"{MEMBERS}/{Membership.objects.get(user=world.cast.bob).id}"), 403, "scope_missing")
    for refused in (
        lambda: issue_credential(world.cast.acme, actor=bob, **options),
        lambda: issue_credential(world.cast.globex, actor=alice, **options),
        lambda: rotate_credential(given, actor=bob),
    ):
        with pytest.raises(Refused) as refusal:
            refused()
        assert refusal.value.reason == "admins_only"
    assert _ok(managing.post("/api/v1/credentials", options), 201)["scopes"] == ["members"]
    rotate_credential(given, actor=alice)
