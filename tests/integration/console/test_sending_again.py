"""A message sent again from its page and over the API: a new message, under the rules that hold now."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from accounts.audit import Actor
from accounts.credentials import api_key, issue_credential
from accounts.models import AuditEntry, Credential, Membership, Role, Tenant
from delivery import domains, history, suppressions
from delivery.models import Content, Message, Recipient, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target
from tests.support.journeys import Cast, Fate, Try, write_message

SYSTEM = Actor.system("test")
TAKEN, REFUSED, OPEN = (
    Fate(address="taken@far.example"),
    Fate(
        address="refused@far.example",
        state="bounced",
        tries=(Try(reply="550 5.1.1 no such user", reply_class="bad_mailbox", action="fail"),),
    ),
    Fate(address="open@far.example", state="deferred", tries=(Try(reply="451 4.3.2 busy", reply_class="transient"),)),
)
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("safe_database", "own_door"),
]


@pytest.fixture
def message(cast: Cast) -> Message:
    from delivery.foundation import lay

    lay()
    domains.add_domain(cast.acme, "acme.example", actor=SYSTEM, assume_verified=True)
    return write_message(cast.acme, TAKEN, REFUSED, OPEN)


def _copies(message: Message) -> list[Message]:
    return list(Message.objects.of(message.tenant).exclude(pk=message.pk).order_by("id"))


def _sent_to(copy: Message) -> list[str]:
    return sorted(Recipient.objects.filter(message_id=copy.pk).values_list("address", flat=True))


def _post(client: Client, path: str, **given: str) -> Any:
    once = re.search(r'name="once" value="(\w+)"', client.get(path).content.decode())
    assert once is not None
    return client.post(path, {"once": once[1], **given})


def test_who_did_not_get_it_gets_a_copy_once(cast: Cast, message: Message, alice: Client) -> None:
    path = f"/t/acme/messages/{message.pk}/again/"
    page = alice.get(path).content.decode()
    assert "1 of 2 recipients with a result was not accepted" in page
    once = re.search(r'name="once" value="(\w+)"', page)
    assert once is not None

    answers = [alice.post(path, {"once": once[1], "to": "not_accepted"}) for _press in range(2)]

    (copy,) = _copies(message)
    assert {answer["Location"] for answer in answers} == {f"/t/acme/messages/{copy.pk}/"}
    assert _sent_to(copy) == ["refused@far.example"]
    assert copy.subject == message.subject
    assert copy.header_message_id != message.header_message_id
    before, after = history.content_of(message), history.content_of(copy)
    assert before is not None and after is not None
    assert after.partition(b"\r\n\r\n")[2] == before.partition(b"\r\n\r\n")[2]
    assert after.count(b"\nDate:") == before.count(b"\nDate:") == 1
    assert AuditEntry.objects.filter(action="message.send_again", object_id=str(message.pk)).exists()
    assert Recipient.objects.get(address="refused@far.example", message_id=message.pk).state == "bounced"


def test_a_copy_of_a_copy_is_no_loop_and_one_recipient_can_be_chosen(message: Message, alice: Client) -> None:
    chosen = Recipient.objects.get(message_id=message.pk, address="taken@far.example")
    path = f"/t/acme/messages/{message.pk}/again/"
    _post(alice, f"{path}?recipient={chosen.pk}", to="all")
    (first,) = _copies(message)
    Recipient.objects.filter(message_id=first.pk).update(state="delivered")

    _post(alice, f"/t/acme/messages/{first.pk}/again/", to="all")

    second = _copies(message)[1]
    assert _sent_to(first) == _sent_to(second) == ["taken@far.example"]
    content = history.content_of(second)
    assert content is not None and content.count(b"Received:") == 1
    assert alice.get(f"{path}?recipient={UUID(int=1)}").status_code == 404


def test_the_rules_of_now_hold(cast: Cast, message: Message, alice: Client) -> None:
    target = read_target("refused@far.example")
    suppressions.add(Owner(cast.acme), target, Cause(SuppressionReason.MANUAL), actor=SYSTEM)
    path = f"/t/acme/messages/{message.pk}/again/"

    _post(alice, path, to="not_accepted")
    (copy,) = _copies(message)
    assert Recipient.objects.get(message_id=copy.pk).state in {"suppressed", "queued"}

    Tenant.objects.filter(pk=cast.acme.pk).update(daily_limit=1)
    refused = _post(alice, path, to="all")
    assert refused.status_code == 200
    assert "limit" in str(next(iter(refused.context["messages"])))
    assert len(_copies(message)) == 1


def test_without_its_content_it_says_so(cast: Cast, message: Message, alice: Client, signed_in: Any) -> None:
    Content.objects.all().delete()
    path = f"/t/acme/messages/{message.pk}/again/"

    assert "Its content is not kept any more" in alice.get(path).content.decode()
    assert "cannot be sent again" in alice.post(path, {"to": "all"}).content.decode()
    assert _copies(message) == []
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    assert signed_in(cast.bob).get(path).status_code == 403


def test_a_program_sends_again_with_a_key_that_makes_it_once(cast: Cast, message: Message) -> None:
    issued = issue_credential(cast.acme, kind="api", name="again", scopes=["send"], actor=SYSTEM)
    key = api_key(issued.credential, issued.secret or "")
    path = f"/api/v1/messages/{message.pk}/send-again"
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "k1"}

    answers = [
        Client().post(path, {"to": "all"}, content_type="application/json", headers=headers) for _twice in range(2)
    ]

    assert [answer.status_code for answer in answers] == [202, 202]
    (copy,) = _copies(message)
    assert {answer.json()["id"] for answer in answers} == {str(copy.pk)}
    assert _sent_to(copy) == ["refused@far.example", "taken@far.example"]
    assert Credential.objects.get(pk=copy.credential_id).name == "again"
    Content.objects.all().delete()
    gone = Client().post(
        path, {"to": "all"}, content_type="application/json", headers=headers | {"idempotency-key": "k2"}
    )
    assert (gone.status_code, gone.json()["type"].rpartition(":")[2]) == (422, "content_gone")
