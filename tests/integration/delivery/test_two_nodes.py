"""Two machines, each with addresses that the other has not: one dies, and its mail leaves from the other where it may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from django.utils import timezone

from accounts.audit import Actor
from delivery import operations, pools
from delivery.alerts import rules
from delivery.models import Node, SourceAddress, SourcePool
from tests.support import namespaces
from tests.support.dns_server import FakeDns
from tests.support.engine_process import EngineProcess
from tests.support.engine_room import Room, World, in_thread
from tests.support.namespaces import OUR_NETWORK, Namespace
from tests.support.smtp_peer import SmtpPeer, Wait

pytestmark = pytest.mark.skipif(bool(namespaces.why_not()), reason=namespaces.why_not() or "-")

ACTOR = Actor.command_line()


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    first, second = Namespace(1), Namespace(2)
    try:
        first.make(addresses=2)
        second.make()
        yield first, second
    finally:
        first.remove()
        second.remove()


def _give_addresses(world: World, first: Namespace, second: Namespace) -> SourcePool:
    """Each node has an address of the shared pool, the first also Acme's own."""
    shared = world.source.pool
    SourceAddress.objects.all().delete()
    for node, machine in (("node1", first), ("node2", second)):
        SourceAddress.objects.create(
            node=Node.objects.get_or_create(name=node)[0],
            address=machine.address(),
            ehlo_name=f"{node}.relay.test",
            pool=shared,
        )
    acmes = pools.add_pool("acme", actor=ACTOR, kind="dedicated", tenant=world.cast.acme)
    SourceAddress.objects.create(node_id="node1", address=first.address(3), ehlo_name="acme.relay.test", pool=acmes)
    return acmes


async def test_a_node_that_died_is_replaced_by_addresses_that_may_and_the_rest_waits_and_says_so(
    world: World, environment: dict[str, str], machines: tuple[Namespace, Namespace]
) -> None:
    first, second = machines
    acmes = await in_thread(_give_addresses, world, first, second)
    records = {"far.test": {"MX": ["10 mx.far.test."]}, "mx.far.test": {"A": [first.outside]}}
    held_up = asyncio.Event()
    script = {"data": [[Wait(held_up), "354 go ahead"], [Wait(held_up), "354 go ahead"], "354 go ahead"]}
    dns = FakeDns(records, ttl=1, negative_ttl=1, host=first.outside)
    async with Room(world, dns=dns) as room, SmtpPeer(host=first.outside, at_port=room.port, **script) as peer:
        theirs = {
            **environment,
            "RELAY_DNS": ":".join(map(str, dns.address)),
            "RELAY_OUTBOUND_PORT": str(room.port),
            "RELAY_ALLOW_DESTINATIONS": OUR_NETWORK,
        }
        async with EngineProcess("node1/worker-1", theirs, within=first.command) as dying:
            shared = await room.send_as_globex("one@far.test")
            own = await room.send("two@far.test", principal=world.principal(pool_id=acmes.id))
            await peer.until(lambda: sum(one.verbs.count("DATA") for one in peer.connections) == 2)
            before = {one.peer_address for one in peer.connections}
            await dying.kill()
        async with EngineProcess("node2/worker-1", theirs, within=second.command):
            await room.until_state(shared, "delivered", seconds=10)
            others = [await room.send_as_globex(f"r{number}@far.test") for number in range(5)]
            for other in others:
                await room.until_state(other, "delivered", seconds=10)
            await room.rows(
                "UPDATE delivery_worker SET heartbeat_at = now() - interval '1 hour' WHERE node_id = 'node1' RETURNING 1"
            )
            waiting = await room.recipient(own)
            pools = {line.pool.name: line for line in (await in_thread(operations.pools_page))[0]}
            nodes = {line.node.name: line.is_silent for line in (await in_thread(operations.nodes_page))[0]}
            alerted = await in_thread(_silent_nodes)
        async with EngineProcess("node1/worker-1", theirs, within=first.command):
            held_up.set()
            await room.until_state(own, "delivered", seconds=10)

    assert before == {first.address(2), first.address(3)}
    assert {one.peer_address for one in peer.connections if one.contents} == {second.address(), first.address(3)}
    assert waiting.state == "queued"
    assert (pools["acme"].usable, pools["acme"].waiting.open) == (0, 1) and pools["default"].usable == 1
    assert nodes == {"node1": True, "node2": False} and alerted == {"node1"}


def _silent_nodes() -> set[str]:
    return set(rules.look(now=timezone.now())["node_silent"].by_subject)
