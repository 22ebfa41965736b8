"""A tenant that keeps no content after delivery: what goes, when, and what stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry
from delivery import retention
from delivery.core.states import RecipientState
from delivery.models import Content, Message, OwedDsn, QueueEntry, Recipient
from delivery.tenants import principal_of
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, in_thread
from tests.support.journeys import PASSWORD
from tests.support.smtp_peer import SmtpPeer

pytestmark = pytest.mark.usefixtures("safe_database")

PATH = "/t/acme"


@pytest.fixture
def alice(world: World) -> Client:
    client = Client()
    assert client.login(username=world.cast.alice.email, password=PASSWORD)
    return client


async def test_content_goes_with_the_end_of_the_last_recipient(world: World, alice: Client) -> None:
    saved = await in_thread(alice.post, f"{PATH}/settings/", {"card": "privacy", "keeps": ""})
    await in_thread(world.cast.acme.refresh_from_db)
    principal = await in_thread(principal_of, world.cast.acme)

    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port),
        SmtpPeer(host=OTHER_HOST, at_port=room.port, rcpt=["451 4.3.0 later"]),
        room.engine(),
    ):
        before = await room.send("bob@far.test")  # accepted before it was chosen
        both = await room.send("bob@far.test", "eve@farther.test", principal=principal)
        await room.until_state(before, "delivered")
        await room.until_state(both, "delivered", "deferred")
        while_open = await in_thread(retention.drop_delivered)
        shown = await in_thread(_shown, alice, both)
        await in_thread(alice.post, f"{PATH}/messages/{both}/change/cancel/", {})
        await room.until_state(both, "delivered", "cancelled")
        after = await in_thread(retention.drop_delivered)
        gone = await in_thread(_shown, alice, both)
        kept = await in_thread(lambda: list(Content.objects.values_list("message_id", flat=True)))
        original = await in_thread(alice.get, f"{PATH}/messages/{both}/eml/")

    assert saved.status_code == 302
    assert (while_open, after) == (0, 1)
    assert "Good morning." in shown["preview"] and "deleted once the last recipient" in shown["recipients"]
    assert "no content is kept once" in gone["preview"] and "Good morning." not in gone["preview"]
    assert "not kept after delivery" in gone["recipients"] and "/eml/" not in gone["recipients"]
    assert kept == [before]
    assert original.status_code == 404
    assert [entry.after for entry in await in_thread(_changes)] == [{"keeps_content_after_delivery": False}]


def _shown(alice: Client, message_id: UUID) -> dict[str, str]:
    page = f"{PATH}/messages/{message_id}/?view="
    return {view: alice.get(page + view).content.decode() for view in ("recipients", "preview")}


def _changes() -> list[Any]:
    return list(AuditEntry.objects.filter(action="tenant.update"))


async def test_a_report_that_is_owed_is_waited_for_but_not_for_long(world: World) -> None:
    principal = world.principal(retention_days=0)
    async with Room(world) as room:
        message_id = await room.send("bob@far.test", principal=principal)

    def owe() -> list[int]:
        QueueEntry.objects.all().delete()
        recipient = Recipient.objects.get(message_id=message_id)
        Recipient.objects.update(state=RecipientState.BOUNCED)
        now = timezone.now()
        OwedDsn.objects.create(
            tenant=world.cast.acme,
            message_id=message_id,
            recipient_id=recipient.pk,
            action="failed",
            happened_at=now,
            due_at=now,
        )
        return [retention.drop_delivered(), retention.drop_delivered(now=now + timedelta(minutes=11))]

    assert await in_thread(owe) == [0, 1]
    assert await in_thread(Message.objects.count) == 1
