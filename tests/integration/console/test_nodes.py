"""The operator's pages of the queue and of nodes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import AuditEntry
from delivery.models import Message, Node, QueueEntry, Recipient, SourceAddress, Worker
from delivery.pools import find_pool
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast, Fate, write_message

QUEUE, NODES = "/operator/queue/", "/operator/nodes/"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


@pytest.fixture
def node(db: None) -> Node:
    node, _is_new = Node.objects.get_or_create(name="a")
    SourceAddress.objects.create(
        address="192.0.2.10", ehlo_name="mx.relay.example", node=node, pool=find_pool("default")
    )
    return node


def beat(node: Node, *, slot: str = "a/worker-1", ago: timedelta = timedelta(), version: str = "1.0") -> None:
    Worker.objects.create(
        slot=slot, incarnation=uuid7(), node=node, part="worker", pid=1, version=version,
        heartbeat_at=timezone.now() - ago, figures={"paths": 3},
    )  # fmt: skip


def parked(cast: Cast) -> Message:
    message = write_message(cast.acme, Fate(address="secret@far.test", state="held", reason="poison"))
    QueueEntry.objects.filter(message_id=message.id).update(held_reason="poison", losses=3)
    return message


def test_what_is_parked_is_shown_without_the_recipient_and_released(
    cast: Cast, olivia: Client, django_assert_max_num_queries: Any
) -> None:
    message = parked(cast)
    recipient = Recipient.objects.get(message_id=message.id)

    with django_assert_max_num_queries(15):
        page = olivia.get(QUEUE).content.decode()
    assert "1 recipient is parked and waits for you." in page and "3 workers stopped" in page
    assert str(message.id) in page and "secret" not in page

    olivia.post(f"{QUEUE}{recipient.id}/release/")
    entry = QueueEntry.objects.get(message_id=message.id)
    assert (entry.held_reason, entry.losses) == (None, 0)
    assert "Nothing is parked." in olivia.get(QUEUE).content.decode()
    line = AuditEntry.objects.get(action="message.release")
    assert (line.actor, line.tenant) == (cast.olivia, cast.acme)
    assert olivia.post(f"{QUEUE}{recipient.id}/release/").status_code == 404


def test_what_a_tenant_holds_itself_is_not_released_here(cast: Cast, olivia: Client) -> None:
    message = write_message(cast.acme, Fate(address="a@far.test", state="held", reason="member"))
    QueueEntry.objects.filter(message_id=message.id).update(held_reason="member")
    recipient = Recipient.objects.get(message_id=message.id)

    assert olivia.post(f"{QUEUE}{recipient.id}/release/").status_code == 404
    assert QueueEntry.objects.get(message_id=message.id).held_reason == "member"


def test_an_empty_queue_says_so(olivia: Client) -> None:
    assert "Nothing waits." in olivia.get(QUEUE).content.decode()


def test_nodes_show_their_processes_and_who_is_silent(
    olivia: Client, node: Node, django_assert_max_num_queries: Any
) -> None:
    beat(node, ago=timedelta(minutes=5))
    page = olivia.get(NODES).content.decode()
    assert "No worker of these nodes gives a sign of life" in page and "paths 3" in page

    beat(node, slot="a/worker-2")
    with django_assert_max_num_queries(15):
        page = olivia.get(NODES).content.decode()
    assert "Every node with addresses gives signs of life." in page and "1 source address" in page
    beat(node, slot="a/worker-3", version="2.0")
    assert "Different versions run:" in olivia.get(NODES).content.decode()


def test_a_node_is_drained_and_used_again(cast: Cast, olivia: Client, node: Node) -> None:
    assert "from its 1 address;" in olivia.get(f"{NODES}a/drain/").content.decode()

    olivia.post(f"{NODES}a/drain/", {"reason": "new kernel"})
    node.refresh_from_db()
    assert node.is_draining
    assert AuditEntry.objects.get(action="node.drain").reason == "new kernel"
    assert "is drained already" in olivia.post(f"{NODES}a/drain/", {"reason": ""}, follow=True).content.decode()

    olivia.post(f"{NODES}a/resume/")
    node.refresh_from_db()
    assert not node.is_draining
    assert olivia.get(f"{NODES}nowhere/drain/").status_code == 404
