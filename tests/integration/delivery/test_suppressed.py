"""What is suppressed is kept back: at RCPT where the tenant wants it, at acceptance, and before every attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accounts.audit import Actor
from delivery import strikes, suppressions
from delivery.acceptance.accept import check_recipient
from delivery.core.envelope import parse_rcpt
from delivery.core.replies import Rejection
from delivery.models import Stream, Strike, Suppression, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer

ALICE = Actor("alice@acme.example")


def suppress(owner: Owner, text: str, reason: SuppressionReason = SuppressionReason.MANUAL) -> Suppression:
    return suppressions.add(owner, read_target(text), Cause(reason), actor=ALICE)[0]


async def suppressed(room: Room, owner: Owner, text: str) -> Suppression:
    return await in_thread(suppress, owner, text)


@pytest.mark.parametrize("entry", ["bob@far.test", "far.test", "b*@far.test"])
async def test_a_suppressed_recipient_is_accepted_and_ends_there(world: World, entry: str) -> None:
    async with Room(world) as room:
        row = await suppressed(room, Owner(world.cast.acme), entry)

        message_id = await room.send("Bob@far.test", "alice@farther.test")

        assert {r.address: r.state for r in await room.recipients(message_id)} == {
            "Bob@far.test": "suppressed",
            "alice@farther.test": "queued",
        }
        assert await room.value("SELECT count(*) FROM delivery_queue_entry") == 1
        assert sorted(await room.events(message_id)) == ["accepted", "accepted", "suppressed"]
        assert await room.value("SELECT hits FROM delivery_suppression WHERE id = %s", row.id) == 1


async def test_it_binds_its_owner_alone(world: World) -> None:
    async with Room(world) as room:
        await suppressed(room, Owner(world.cast.acme), "bob@far.test")

        assert (await room.recipient(await room.send_as_globex("bob@far.test"))).state == "queued"
        assert (await room.recipient(await room.send("bob@far.test"))).state == "suppressed"


async def test_the_operators_binds_everybody_and_a_streams_only_the_stream(world: World) -> None:
    async with Room(world) as room:
        bulk = await in_thread(lambda: Stream.objects.get(tenant=world.cast.acme, name="bulk"))
        await suppressed(room, Owner(), "trap@far.test")
        await suppressed(room, Owner(world.cast.acme, bulk), "bob@far.test")

        assert (await room.recipient(await room.send_as_globex("trap@far.test"))).state == "suppressed"
        assert (await room.recipient(await room.send("bob@far.test"))).state == "queued"
        in_bulk = await room.send("bob@far.test", principal=world.principal(stream_id=bulk.id))
        assert (await room.recipient(in_bulk)).state == "suppressed"


async def test_a_removed_or_expired_one_binds_nobody(world: World) -> None:
    async with Room(world) as room:
        row = await suppressed(room, Owner(world.cast.acme), "bob@far.test")
        await in_thread(suppressions.remove, row, actor=ALICE)
        await suppressed(room, Owner(world.cast.acme), "dave@far.test")
        await room.rows("UPDATE delivery_suppression SET expires_at = now() - interval '1 s' WHERE value LIKE 'dave%%'")

        assert (await room.recipient(await room.send("bob@far.test"))).state == "queued"
        assert (await room.recipient(await room.send("dave@far.test"))).state == "queued"


async def test_rcpt_refuses_where_the_tenant_wants_it(world: World) -> None:
    async with Room(world) as room:
        await suppressed(room, Owner(world.cast.acme), "bob@far.test")
        rcpt = parse_rcpt(b"TO:<bob@far.test>")

        await check_recipient(rcpt, principal=world.principal(), store=room.store)
        await in_thread(suppressions.set_refusing, world.cast.acme, True, actor=ALICE)
        room.store.directory._remembered.clear()
        with pytest.raises(Rejection) as refused:
            await check_recipient(rcpt, principal=world.principal(), store=room.store)

        assert refused.value.reply.line.startswith("550 5.7.1")


async def test_one_suppressed_while_it_waited_is_not_attempted(world: World) -> None:
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        message_id = await room.send("bob@far.test")
        await suppressed(room, Owner(world.cast.acme), "bob@far.test")

        async with room.engine():
            recipient = await room.until_state(message_id, "suppressed")

        assert (recipient.reason, recipient.attempts) == ("manual", 0)
        assert await room.events(message_id) == ["accepted", "suppressed"]
        assert await room.rows("SELECT * FROM delivery_queue_entry") == []
        assert not peer.connections


async def test_a_hard_bounce_suppresses_within_a_sweep_and_the_next_mail_is_kept_back(world: World) -> None:
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=["550 5.1.1 User unknown"]):
        message_id = await room.send("bob@far.test")
        async with room.engine():
            recipient = await room.until_state(message_id, "bounced")
            await room.until("SELECT count(*) FROM delivery_suppression WHERE value = 'bob@far.test'")
        row = (await room.rows("SELECT * FROM delivery_suppression"))[0]

        assert (row.scope, row.reason, row.reply_class) == ("tenant", "bounce", "bad_mailbox")
        assert (row.message_id, row.recipient_id) == (message_id, recipient.id)
        assert row.expires_at is not None
        assert (await room.recipient(await room.send("bob@far.test"))).state == "suppressed"
        assert (await room.recipient(await room.send_as_globex("bob@far.test"))).state == "queued"


async def test_a_strike_is_judged_once(world: World) -> None:
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=["550 5.1.1 User unknown"]):
        message_id = await room.send("bob@far.test")
        async with room.engine():
            await room.until_state(message_id, "bounced")
            await room.until("SELECT count(*) FROM delivery_strike WHERE judged_at IS NOT NULL")

        assert await in_thread(strikes.judge_due) == 0
        assert await room.value("SELECT count(*) FROM delivery_strike") == 1


async def test_a_carriers_first_550_suppresses_nobody(world: World) -> None:
    async with Room(world) as room:
        message_id = await room.send("taro@docomo.ne.jp")
        recipient = await room.recipient(message_id)
        await in_thread(_strike, world, recipient)

        await in_thread(strikes.judge_due)
        assert await room.value("SELECT count(*) FROM delivery_suppression") == 0

        await room.rows("UPDATE delivery_strike SET happened_at = happened_at - interval '3 days'")
        await in_thread(_strike, world, recipient)
        await in_thread(strikes.judge_due)
        assert await room.value("SELECT value FROM delivery_suppression") == "taro@docomo.ne.jp"


async def test_a_domain_that_does_not_exist_is_looked_up_again_before_it_suppresses(world: World) -> None:
    async with Room(world) as room:
        gone = await room.recipient(await room.send("bob@gone.test"))
        back = await room.recipient(await room.send("bob@far.test"))
        for recipient in (gone, back):
            await in_thread(_strike, world, recipient, reply_class="bad_domain", due=timedelta(hours=1))

        await in_thread(strikes.judge_due)
        await in_thread(strikes.look_again)
        assert await room.value("SELECT count(*) FROM delivery_strike WHERE judged_at IS NOT NULL") == 0

        await room.rows("UPDATE delivery_strike SET due_at = now() - interval '1 s'")
        await in_thread(strikes.look_again)
        assert await room.value("SELECT array_agg(value::text) FROM delivery_suppression") == ["bob@gone.test"]
        assert {row.verdict for row in await room.rows("SELECT verdict FROM delivery_strike")} == {
            "suppress",
            "recovered",
        }


def _strike(world: World, recipient: Any, *, reply_class: str = "bad_mailbox", due: timedelta = timedelta(0)) -> None:
    from django.utils import timezone

    Strike.objects.create(
        tenant=world.cast.acme,
        message_id=recipient.message_id,
        recipient_id=recipient.id,
        reply_class=reply_class,
        action="fail_and_suppress",
        detail="550 5.1.1 unknown",
        happened_at=timezone.now(),
        due_at=timezone.now() + due,
    )
