"""Members, roles and invitations of a tenant; and what keeps it from standing without an owner."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, Invitation, Membership, Role, User
from tests.support.journeys import PASSWORD, Cast

NEW = "dora@acme.example"


def _invite(client: Client, email: str = NEW, role: str = "developer") -> Any:
    return client.post("/t/acme/team/invite/", {"email": email, "role": role})


def _link(message: Any) -> str:
    found = re.search(r"https?://\S+/join/\S+/", message.body)
    assert found is not None
    return "/" + found.group().split("/", 3)[3]


def _member(person: User) -> Membership:
    return Membership.objects.get(user=person, tenant__slug="acme")


@pytest.fixture
def bob(cast: Cast, signed_in: Any) -> Client:
    return signed_in(cast.bob)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- invitations


def test_somebody_new_joins_by_invitation(cast: Cast, alice: Client, mailbox: Any) -> None:
    assert _invite(alice)["Location"] == "/t/acme/team/"
    (letter,) = mailbox(NEW)
    dora = Client(headers={"accept-language": "en"})
    link = _link(letter)
    assert b"Join" in dora.get(link).content
    assert not User.objects.filter(email=NEW).exists()

    joined = dora.post(link, {"password": PASSWORD}, follow=True)

    assert joined.redirect_chain[-1][0] == "/t/acme/start/"
    person = User.objects.get(email=NEW)
    assert person.email_confirmed_at is not None
    assert _member(person).role == Role.DEVELOPER
    assert [entry.action for entry in AuditEntry.objects.of(cast.acme).order_by("id")] == [
        "invitation.send", "invitation.accept",
    ]  # fmt: skip
    assert Client().get(link).status_code == 404


def test_somebody_with_an_account_signs_in_and_agrees(cast: Cast, alice: Client, charlie: Client, mailbox: Any) -> None:
    _invite(alice, "Charlie@globex.example", "analyst")
    link = _link(mailbox("Charlie@globex.example")[0])

    signed_out = Client(headers={"accept-language": "en"}).get(link)
    looked = charlie.get(link)
    before = Membership.objects.filter(user=cast.charlie).count()
    charlie.post(link)

    assert b'href="/accounts/login/?next=%2Fjoin%2F' in signed_out.content
    assert (looked.status_code, before) == (200, 1)
    assert _member(cast.charlie).role == Role.ANALYST
    assert charlie.get("/t/acme/messages/").status_code == 200


def test_an_invitation_is_for_nobody_else(cast: Cast, alice: Client, charlie: Client, mailbox: Any) -> None:
    _invite(alice, NEW, "admin")
    link = _link(mailbox(NEW)[0])

    page = charlie.post(link, {"password": PASSWORD})

    assert b"you are signed in as charlie@globex.example" in page.content
    assert not Membership.objects.filter(user=cast.charlie, tenant=cast.acme).exists()
    assert charlie.post(link, {"sign_out": "1"})["Location"] == link


@pytest.mark.parametrize("what", ["withdraw", "send again", "over", "closed"])
def test_links_of_invitations_end(what: str, cast: Cast, alice: Client, mailbox: Any) -> None:
    _invite(alice)
    link, made = _link(mailbox(NEW)[0]), Invitation.objects.get()
    match what:
        case "withdraw":
            alice.post(f"/t/acme/team/invitations/{made.id}/withdraw/")
        case "send again":
            Invitation.objects.update(mailed_at=timezone.now() - timedelta(minutes=2))
            alice.post(f"/t/acme/team/invitations/{made.id}/send/")
            assert Client().get(_link(mailbox(NEW)[1])).status_code == 200
        case "over":
            Invitation.objects.update(expires_at=timezone.now())
        case _:
            type(cast.acme).objects.filter(pk=cast.acme.pk).update(state="closed")

    assert Client().post(link, {"password": PASSWORD}).status_code == 404
    assert not User.objects.filter(email=NEW).exists()


def test_nobody_is_invited_twice_nor_again_as_a_member(cast: Cast, alice: Client, mailbox: Any) -> None:
    _invite(alice)

    twice, member = _invite(alice, NEW.upper()), _invite(alice, "bob@acme.example")

    assert b"is invited already" in twice.content
    assert b"is a member already" in member.content
    assert len(mailbox(NEW)) == 1


def test_one_that_is_over_stands_in_nobodys_way(cast: Cast, alice: Client, mailbox: Any) -> None:
    _invite(alice)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(days=1))

    assert _invite(alice).status_code == 302
    assert len(mailbox(NEW)) == 2


def test_a_name_cannot_write_header_fields_nor_markup(cast: Cast, alice: Client, mailbox: Any) -> None:
    User.objects.filter(pk=cast.alice.pk).update(name="<b>Alice</b>\r\nBcc: all@globex.example")
    _invite(alice)

    message = mailbox(NEW)[0]

    assert "\n" not in message.subject
    assert "<b>" not in message.alternatives[0][0]
    assert message.message()["Bcc"] is None


# ---------------------------------------------------------------- roles


def test_a_developer_reads_the_team_and_changes_nothing(cast: Cast, bob: Client) -> None:
    member = _member(cast.alice)

    page = bob.get("/t/acme/team/")

    assert page.status_code == 200
    assert b"/team/invite/" not in page.content
    for path in ("invite/", f"{member.id}/role/", "two-factors/", "transfer/"):
        assert bob.post(f"/t/acme/team/{path}").status_code == 403
    assert bob.post(f"/t/acme/team/{member.id}/remove/").status_code == 404
    assert Membership.objects.of(cast.acme).count() == 2


def test_an_admin_neither_makes_nor_touches_an_owner(cast: Cast, bob: Client, mailbox: Any) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ADMIN)
    owner, own = _member(cast.alice), _member(cast.bob)

    _invite(bob, NEW, "owner")
    bob.post(f"/t/acme/team/{own.id}/role/", {"role": "owner"})
    bob.post(f"/t/acme/team/{owner.id}/role/", {"role": "analyst"})
    bob.post(f"/t/acme/team/{owner.id}/remove/")

    assert mailbox(NEW) == []
    assert (_member(cast.alice).role, _member(cast.bob).role) == (Role.OWNER, Role.ADMIN)


def test_a_role_counts_from_the_next_page_on(cast: Cast, alice: Client, bob: Client) -> None:
    assert bob.get("/t/acme/domains/add/").status_code == 200

    alice.post(f"/t/acme/team/{_member(cast.bob).id}/role/", {"role": "analyst"})

    assert bob.get("/t/acme/domains/add/").status_code == 403
    entry = AuditEntry.objects.of(cast.acme).get()
    assert (entry.action, entry.before, entry.after) == ("member.role", {"role": "developer"}, {"role": "analyst"})
    assert entry.peer_address == "127.0.0.1"


def test_whoever_is_removed_finds_nothing_any_more(cast: Cast, alice: Client, bob: Client) -> None:
    alice.post(f"/t/acme/team/{_member(cast.bob).id}/remove/")

    assert bob.get("/t/acme/messages/").status_code == 404


def test_a_member_leaves_and_the_last_owner_cannot(cast: Cast, alice: Client, bob: Client) -> None:
    own = _member(cast.alice)

    left = bob.post(f"/t/acme/team/{_member(cast.bob).id}/remove/")
    stays = alice.post(f"/t/acme/team/{own.id}/remove/", follow=True)
    demoted = alice.post(f"/t/acme/team/{own.id}/role/", {"role": "admin"})

    assert left["Location"] == "/tenants/"
    assert b"needs an owner" in stays.content
    assert b"needs an owner" in demoted.content
    assert [one.role for one in Membership.objects.of(cast.acme)] == ["owner"]


def test_an_owner_hands_the_tenant_over_after_proving_who_it_is(cast: Cast, alice: Client) -> None:
    path, heir = "/t/acme/team/transfer/", _member(cast.bob)
    assert alice.post(path, {"member": str(heir.id)})["Location"].startswith("/accounts/prove/")
    assert alice.post("/accounts/prove/", {"password": PASSWORD, "next": path})["Location"] == path

    foreign = alice.post(path, {"member": str(Membership.objects.get(user=cast.charlie).id)})
    alice.post(path, {"member": str(heir.id)})

    assert foreign.status_code == 200
    assert (_member(cast.alice).role, _member(cast.bob).role) == (Role.ADMIN, Role.OWNER)
    assert AuditEntry.objects.of(cast.acme).get().action == "tenant.transfer"


# ---------------------------------------------------------------- a second factor for everybody


def test_a_tenant_that_demands_two_factors_is_closed_to_members_without(cast: Cast, alice: Client, bob: Client) -> None:
    User.objects.filter(pk=cast.alice.pk).update(has_second_factor=True)

    alice.post("/t/acme/team/two-factors/", {"required": "on"})

    for path in ("messages/", "team/", "credentials/issue/"):
        assert bob.get(f"/t/acme/{path}")["Location"] == "/me/security/"
    assert bob.get("/t/acme/messages/live/", headers={"hx-request": "true"}).status_code == 401
    assert b"Acme asks every member for a second factor" in bob.get("/me/security/").content
    assert alice.get("/t/acme/messages/").status_code == 200
    alice.post("/t/acme/team/two-factors/")
    assert bob.get("/t/acme/messages/").status_code == 200


def test_nobody_demands_what_they_have_not(cast: Cast, alice: Client) -> None:
    page = alice.post("/t/acme/team/two-factors/", {"required": "on"}, follow=True)

    assert b"Set up a second factor for yourself first" in page.content
    assert alice.get("/t/acme/messages/").status_code == 200
