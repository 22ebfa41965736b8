"""An operator acts for a member: with a reason and a proof, for a while, in the open, and without what is nobody else's."""

from __future__ import annotations

import time

import pytest
from django.test import Client

from accounts import acting
from accounts.audit import Actor
from accounts.models import AuditEntry, Membership, User
from accounts.refusals import Refused
from delivery.models import Message, Suppression
from relayweb.console.acting import CHANGES, CONTENT, SECRETS
from tests.integration.console.conftest import SignedIn
from tests.integration.console.test_tenancy import ROUTES, _key_of, _path, acmes  # noqa: F401 - a fixture
from tests.support.journeys import Cast

BEGIN = "/operator/tenants/acme/act/"
BANNER = "You act for <bdi>"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    client = signed_in(cast.olivia)
    _set(client, proved_at=int(time.time()))
    return client


def _set(client: Client, **values: object) -> None:
    session = client.session
    session.update(values)
    session.save()


def _begin(client: Client, cast: Cast, *, person: User | None = None, reason: str = "ticket <42>") -> str:
    member = Membership.objects.get(user=person or cast.alice)
    return client.post(BEGIN, {"member": member.pk, "reason": reason}, follow=True).content.decode()


def test_it_takes_a_fresh_proof_a_reason_and_a_member(cast: Cast, olivia: Client) -> None:
    assert BANNER not in olivia.get(BEGIN).content.decode()
    assert olivia.get("/t/acme/").status_code == 404
    assert "id_reason_error" in _begin(olivia, cast, reason=" ")
    assert "id_member_error" in _begin(olivia, cast, person=cast.charlie)
    _set(olivia, proved_at=int(time.time()) - 301)
    for answer in (olivia.get(BEGIN), olivia.post(BEGIN, {"reason": "x"})):
        assert answer.status_code == 302 and answer["Location"].startswith("/accounts/prove/?next=")
    assert not AuditEntry.objects.filter(action="tenant.act_as").exists()
    assert olivia.get("/t/acme/").status_code == 404


def test_everybody_sees_it_and_it_ends(cast: Cast, olivia: Client, alice: Client) -> None:
    page = _begin(olivia, cast)

    assert BANNER in page and "alice@acme.example" in page
    for path in (
        "/t/acme/messages/",
        "/t/acme/credentials/",
        "/me/",
        "/tenants/",
        "/operator/tenants/",
        "/t/acme/none/",
    ):
        assert BANNER in olivia.get(path).content.decode(), path
    assert olivia.get("/t/globex/").status_code == 404
    olivia.post("/t/acme/suppressions/add/", {"address": "x@far.test", "ends": "", "note": ""})
    assert Suppression.objects.of(cast.acme).get().value == "x@far.test"
    for entry in AuditEntry.objects.filter(tenant=cast.acme).order_by("-id")[:2]:
        assert (entry.actor_name, entry.on_behalf_of) == ("olivia@relay.example", "alice@acme.example")
    log = alice.get("/t/acme/audit/").content.decode()
    assert "An operator acted for alice@acme.example" in log and "ticket &lt;42&gt;" in log
    assert "as alice@acme.example" in log and "olivia@relay.example" in log

    assert olivia.get("/operator/acting/end/").status_code == 405
    assert BANNER not in olivia.post("/operator/acting/end/", follow=True).content.decode()
    assert olivia.get("/t/acme/").status_code == 404
    assert AuditEntry.objects.filter(tenant=cast.acme, action="tenant.act_as_end").count() == 1


def test_its_time_and_the_operators_office_end_it(cast: Cast, olivia: Client) -> None:
    _begin(olivia, cast)
    kept = olivia.session["acts_as"]
    assert 29 * 60 < kept["until"] - time.time() <= 30 * 60
    assert olivia.get("/t/acme/").status_code == 200
    User.objects.filter(pk=cast.olivia.pk).update(is_operator=False)
    assert olivia.get("/t/acme/").status_code == 404
    User.objects.filter(pk=cast.olivia.pk).update(is_operator=True)
    _set(olivia, acts_as={**kept, "until": int(time.time()) - 1})
    assert olivia.get("/t/acme/").status_code == 404
    assert BANNER not in olivia.get("/me/").content.decode()
    _set(olivia, acts_as=kept)
    Membership.objects.get(user=cast.alice).delete()
    assert olivia.get("/t/acme/").status_code == 404


def test_no_route_of_a_tenant_changes_anything_but_a_few(cast: Cast, acmes: Message, olivia: Client) -> None:  # noqa: F811
    """Over every route there is: what is new is refused by itself."""
    _begin(olivia, cast)
    before = AuditEntry.objects.count()

    refused = {
        route for route in ROUTES if olivia.post(_path(route, "acme", _key_of(route, cast))).status_code in (403, 405)
    }

    assert set(ROUTES) - refused == CHANGES
    assert AuditEntry.objects.exclude(action__startswith="message.").count() <= before + len(CHANGES)


def test_secrets_and_contents_are_closed(cast: Cast, acmes: Message, olivia: Client, alice: Client) -> None:  # noqa: F811
    Message.objects.filter(pk=acmes.pk).update(subject="quarterly figures")
    acmes.refresh_from_db()
    _begin(olivia, cast)

    for route in ROUTES:
        if route.startswith(SECRETS) or route in CONTENT:
            assert olivia.get(_path(route, "acme", _key_of(route, cast))).status_code == 403, route
    message = f"/t/acme/messages/{acmes.id}/"
    for path in (f"{message}?view=headers", f"{message}?view=preview", "/t/acme/messages/?subject=figures"):
        assert olivia.get(path).status_code == 403, path
    for path in (message, "/t/acme/messages/", "/t/acme/suppressions/", "/t/acme/unsubscribes/"):
        answer = olivia.get(path)
        assert answer.status_code == 200 and acmes.subject not in answer.content.decode(), path
    olivia.post("/t/acme/settings/", {"card": "operators", "lets": "on"})
    cast.acme.refresh_from_db()
    assert not cast.acme.lets_operators_read

    alice.post("/t/acme/settings/", {"card": "operators", "lets": "on"})
    assert acmes.subject in olivia.get(message).content.decode()
    assert olivia.get(f"{message}?view=headers").status_code == 200
    assert olivia.get("/t/acme/webhooks/").status_code == 403
    alice.post("/t/acme/settings/", {"card": "operators", "lets": ""})
    assert olivia.get(f"{message}eml/").status_code == 403
    entries = AuditEntry.objects.filter(action="tenant.operators_read", actor=cast.alice)
    assert [entry.after["lets_operators_read"] for entry in entries.order_by("id")] == [True, False]


def test_it_gives_no_more_than_the_members_role_and_no_operators_rights(cast: Cast, olivia: Client) -> None:
    _begin(olivia, cast, person=cast.bob)

    Membership.objects.filter(user=cast.bob).update(role="analyst")
    olivia.post("/t/acme/suppressions/add/", {"address": "x@far.test", "ends": "", "note": ""})

    assert not Suppression.objects.exists()
    with pytest.raises(Refused):
        acting.let_operators_read(cast.acme, True, actor=Actor.person(cast.olivia))
    with pytest.raises(Refused):
        acting.begin(cast.acme, Membership.objects.get(user=cast.alice).pk, reason="x", actor=Actor.person(cast.bob))
