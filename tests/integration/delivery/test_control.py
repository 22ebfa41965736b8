"""What people do to waiting mail: hold, release, cancel, retry; and a suspended tenant."""

from __future__ import annotations

import asyncio

from accounts.models import Tenant
from delivery.models import SourceAddress
from delivery.queue import control
from delivery.queue.control import Changed, Which
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer, Wait


async def test_held_mail_waits_and_is_delivered_when_released(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        message_id = await room.send("someone@far.test")
        assert await in_thread(control.hold, Which(message_id=message_id), reason="policy") == Changed(1, 0)
        async with room.engine():
            other = await room.send("other@far.test")
            await room.until_state(other, "delivered")
            held = await room.recipient(message_id)

            assert await in_thread(control.release, Which(message_id=message_id)) == Changed(1, 0)
            await room.until_state(message_id, "delivered")

        assert (held.state, held.reason, held.attempts) == ("held", "policy", 0)
        assert await room.events(message_id) == ["accepted", "held", "delivered"]


async def test_releasing_for_one_reason_leaves_what_is_held_for_another(world: World):
    async with Room(world) as room:
        message_id = await room.send("someone@far.test")
        await in_thread(control.hold, Which(message_id=message_id), reason="policy")

        changed = await in_thread(control.release, Which(tenant_id=world.cast.acme.id), reason="domain_lapsed")

        assert changed.changed == 0
        assert (await room.recipient(message_id)).state == "held"


async def test_cancelled_mail_is_never_sent(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        message_id = await room.send("someone@far.test")
        assert await in_thread(control.cancel, Which(message_id=message_id)) == Changed(1, 0)

        async with room.engine():
            await room.until_state(await room.send("other@far.test"), "delivered")

        assert (await room.recipient(message_id)).state == "cancelled"
        assert await room.events(message_id) == ["accepted", "cancelled"]
        assert sum(len(connection.contents) for connection in peer.connections) == 1


async def test_what_is_in_hand_is_not_touched(world: World):
    finish = asyncio.Event()
    script = {"rcpt": [[Wait(finish), "250 ok"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: bool(peer.connections) and "RCPT" in peer.connections[0].verbs)

        assert await in_thread(control.cancel, Which(message_id=message_id)) == Changed(0, 1)
        finish.set()

        await room.until_state(message_id, "delivered")


async def test_a_retry_does_not_wait_for_the_next_step(world: World, settings: object):
    settings.RETRY_SCHEDULE = "3600"  # type: ignore[attr-defined]
    script = {"rcpt": ["451 4.3.0 not now", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message_id = await room.send("someone@far.test")
        await room.until_state(message_id, "deferred")

        assert await in_thread(control.retry, Which(message_id=message_id)) == Changed(1, 0)

        await room.until_state(message_id, "delivered", seconds=5)


async def test_a_suspended_tenants_mail_waits_and_goes_on_when_it_resumes(world: World):
    acme = Tenant.objects.filter(pk=world.cast.acme.pk)
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        message_id = await room.send("someone@far.test")
        await in_thread(acme.update, state="suspended")
        async with room.engine():
            await room.until_state(await room.send_as_globex("other@far.test"), "delivered")
            assert (await room.recipient(message_id)).state == "queued"
            assert sum(len(connection.contents) for connection in peer.connections) == 1

            await in_thread(acme.update, state="active")
            await room.until_state(message_id, "delivered", seconds=5)


async def test_a_greylisted_recipient_stays_with_its_source_address(world: World):
    script = {"rcpt": ["451 4.7.1 greylisted, try again later", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        message_id = await room.send("someone@far.test")
        recipient = await room.until_state(message_id, "deferred")
        pinned = await room.value(
            """SELECT pinned_source_id FROM delivery_queue_entry AS e JOIN delivery_lane AS l ON l.id = e.lane_id
               WHERE e.message_id = %s""",
            message_id,
        )
        await room.until_state(message_id, "delivered")

        assert recipient.reply_class == "greylist"
        assert pinned == world.source.id


async def test_mail_pinned_to_an_address_that_is_paused_leaves_by_another(world: World):
    script = {"rcpt": ["451 4.7.1 greylisted, try again later", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        message_id = await room.send("someone@far.test")
        await room.until_state(message_id, "deferred")

        def replace_source() -> None:
            source = world.source
            SourceAddress.objects.filter(pk=source.pk).update(state="paused")
            SourceAddress.objects.create(
                node=source.node, pool=source.pool, address="127.0.0.1", ehlo_name="other.relay.test"
            )

        await in_thread(replace_source)
        await room.rows("SELECT pg_notify('relay_paths', '')")
        await room.until_state(message_id, "delivered")

        assert peer.connections[-1].commands[0] == b"EHLO other.relay.test"
