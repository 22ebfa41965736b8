"""When an address or a whole node fails: others do its work, and never with what belongs to another tenant."""

from __future__ import annotations

import asyncio

import pytest

from accounts.audit import Actor
from accounts.refusals import Refused
from delivery import pools, sources
from delivery.models import Node, SourceAddress, SourcePool
from delivery.queue import claim
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, delivered, doomed, heard, in_thread
from tests.support.smtp_peer import SmtpPeer, Wait

ACTOR = Actor.command_line()


def _pool(name: str, world: World, *, address: str | None = None, tenant=None, state: str = "active") -> SourcePool:
    pool = pools.add_pool(name, actor=ACTOR, kind="dedicated" if tenant else "shared", tenant=tenant)
    if address:
        SourceAddress.objects.create(
            address=address, ehlo_name=f"{name}.relay.test", pool=pool, node=world.source.node, state=state
        )
    return pool


async def test_a_dedicated_pools_mail_leaves_from_its_addresses_and_nobody_elses_does(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        pool = await in_thread(_pool, "acme", world, address="127.0.0.1", tenant=world.cast.acme)
        acme = world.principal(pool_id=pool.id)
        async with room.engine():
            for message_id in (
                await room.send("one@far.test", principal=acme),
                await room.send_as_globex("two@far.test"),
            ):
                await room.until_state(message_id, "delivered")

        greeted = {
            command.split()[-1].decode(): connection.contents[0]
            for connection in peer.connections
            for command in connection.commands
            if command.startswith(b"EHLO")
        }
        assert b"shop@acme.example" in greeted["acme.relay.test"]
        assert b"info@globex.example" in greeted["out.relay.test"]


async def test_a_pool_without_a_usable_address_waits_unless_it_has_a_stand_by(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        acmes = await in_thread(_pool, "acme", world, address="127.0.0.1", tenant=world.cast.acme, state="paused")
        acme = world.principal(pool_id=acmes.id)
        async with room.engine():
            message_id = await room.send("one@far.test", principal=acme)
            await room.until_state(await room.send_as_globex("two@far.test"), "delivered")
            waiting = (await room.recipient(message_id)).state

            await in_thread(pools.set_standby, acmes, world.source.pool, actor=ACTOR)
            await room.until_state(message_id, "delivered")

            await in_thread(sources.resume_source, await in_thread(acmes.sources.get), actor=ACTOR)
            back = await room.send("three@far.test", principal=acme)
            await room.until_state(back, "delivered")

        assert waiting == "queued"
        (attempt,) = await room.attempts(message_id)
        assert attempt.source_id == world.source.id
        assert peer.connections[-1].commands[0] == b"EHLO acme.relay.test"


async def test_what_is_pinned_to_a_stand_by_does_not_stay_behind_with_it(world: World):
    script = {"rcpt": ["451 4.7.1 greylisted, try again later", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        acmes = await in_thread(_pool, "acme", world, address="127.0.0.1", tenant=world.cast.acme, state="paused")
        acme = world.principal(pool_id=acmes.id)
        await in_thread(pools.set_standby, acmes, world.source.pool, actor=ACTOR)
        async with room.engine():
            message_id = await room.send("one@far.test", principal=acme)
            await room.until_state(message_id, "deferred")
            await in_thread(sources.resume_source, await in_thread(acmes.sources.get), actor=ACTOR)
            await room.until_state(message_id, "delivered")

        assert peer.connections[-1].commands[0] == b"EHLO acme.relay.test"


async def test_a_drained_address_finishes_what_is_greylisted_and_begins_nothing_else(world: World):
    script = {"rcpt": ["451 4.7.1 greylisted, try again later", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        greylisted = await room.send("one@far.test")
        await room.until_state(greylisted, "deferred")
        await room.rows("UPDATE delivery_queue_entry SET next_attempt_at = now() + interval '1 hour'")
        await in_thread(
            lambda: SourceAddress.objects.create(
                address=OTHER_HOST, ehlo_name="other.relay.test", pool=world.source.pool, node=world.source.node
            )
        )
        await in_thread(lambda: sources.drain_source(world.source, actor=ACTOR, reason="moving house"))

        fresh = await room.send("two@far.test")
        await room.until_state(fresh, "delivered")
        assert (await room.recipient(greylisted)).state == "deferred"
        await room.rows("UPDATE delivery_queue_entry SET next_attempt_at = now()")
        await room.rows("UPDATE delivery_lane SET next_due_at = now()")
        await room.until_state(greylisted, "delivered")

        assert [one.source_id for one in await room.attempts(greylisted)] == [world.source.id] * 2
        (attempt,) = await room.attempts(fresh)
        assert attempt.source_id != world.source.id
        assert peer.connections
        await in_thread(lambda: sources.resume_source(world.source, actor=ACTOR))


@pytest.mark.parametrize("case", ["itself", "another tenant's", "a chain"])
async def test_a_stand_by_is_never_what_it_must_not_be(world: World, case: str):
    acmes = await in_thread(_pool, "acme", world, tenant=world.cast.acme)
    match case:
        case "itself":
            other = acmes
        case "another tenant's":
            other = await in_thread(_pool, "globex", world, tenant=world.cast.globex)
        case _:
            other = await in_thread(_pool, "spare", world)
            await in_thread(pools.set_standby, other, world.source.pool, actor=ACTOR)

    with pytest.raises(Refused):
        await in_thread(pools.set_standby, acmes, other, actor=ACTOR)

    assert (await in_thread(SourcePool.objects.get, pk=acmes.pk)).standby_id is None


async def test_a_second_node_takes_over_from_one_that_was_killed(world: World, environment: dict[str, str]):
    """Its addresses are gone with it: what it had in hand leaves from the other node's, once."""
    go_on = asyncio.Event()
    script = {"data": [[Wait(go_on), "354 go ahead"], "354 go ahead"]}

    def add_node() -> SourceAddress:
        second = Node.objects.create(name="node2")
        return SourceAddress.objects.create(
            address="127.0.0.1", ehlo_name="second.relay.test", pool=world.source.pool, node=second
        )

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        async with doomed(room, environment, "worker-2") as process:
            message_id = await room.send("someone@far.test")
            await peer.until(lambda: heard(peer, "DATA"))
            await process.kill()
        source = await in_thread(add_node)

        async with room.engine("worker-1", node="node2"):
            recipient = await room.until_state(message_id, "delivered", seconds=10)
            others = [await room.send(f"r{number}@far.test") for number in range(5)]
            for other in others:
                await room.until_state(other, "delivered")

        assert recipient.attempts == 2
        assert delivered(peer) == 6
        assert {attempt.source_id for attempt in await room.attempts(message_id)} == {source.id}


async def test_mail_pinned_to_an_address_of_a_dead_node_leaves_by_another(
    world: World, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    script = {"rcpt": ["451 4.7.1 greylisted, try again later", "250 ok"]}

    def add_node() -> None:
        second = Node.objects.create(name="node2")
        SourceAddress.objects.create(
            address="127.0.0.1", ehlo_name="second.relay.test", pool=world.source.pool, node=second
        )

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        async with doomed(room, environment, "worker-2") as process:
            message_id = await room.send("someone@far.test")
            await room.until_state(message_id, "deferred")
            await process.kill()
        await in_thread(add_node)
        await room.rows(
            "UPDATE delivery_worker SET heartbeat_at = now() - %s WHERE node_id = 'node1'", claim.NODE_IS_DEAD_AFTER
        )

        async with room.engine("worker-1", node="node2"):
            await room.until_state(message_id, "delivered", seconds=10)

        assert peer.connections[-1].commands[0] == b"EHLO second.relay.test"
