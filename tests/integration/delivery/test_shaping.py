"""How a path approaches its receivers: within its limits, at the pace they ask for, and never at others' expense."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.audit import Actor
from delivery import nodes, sources, throttles
from delivery.models import ProviderGroup, SourceAddress, SourcePool
from delivery.queue import wake
from delivery.shaping import changes, overrides
from delivery.shaping.changes import Change
from tests.support.engine_room import HOST, OTHER_HOST, Room, World, in_thread
from tests.support.smtp_peer import Call, SmtpPeer, Wait

GROUP = "site:mx.far.test"


async def _set_limits(room: Room, **limits: Any) -> None:
    """As an operator would before the first mail: the group's row is made with the limits."""
    await in_thread(
        ProviderGroup.objects.update_or_create, key=GROUP, defaults={"kind": "site", "title": "far", "limits": limits}
    )


async def _send(room: Room, count: int, domain: str = "far.test") -> list[Any]:
    return [await room.send(f"r{number}@{domain}") for number in range(count)]


async def _until_delivered(room: Room, count: int, seconds: float = 10) -> None:
    await room.until("SELECT count(*) >= %s FROM delivery_recipient WHERE state = 'delivered'", count, seconds=seconds)


async def test_no_window_holds_more_messages_than_the_rate_with_two_engines(world: World):
    arrivals: list[float] = []
    script = {"mail": [[Call(lambda: arrivals.append(time.monotonic())), "250 ok"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script):
        await _set_limits(room, messages=["4/s"])
        async with room.engine("worker-1"), room.engine("worker-2"):
            await _send(room, 12)
            await _until_delivered(room, 12)

        for begin in arrivals:
            # The turn is taken a moment before the command is read on the other side.
            assert sum(begin <= arrival < begin + 0.95 for arrival in arrivals) <= 4


async def test_there_are_never_more_connections_or_messages_on_one_than_allowed(world: World):
    most = 0

    async with Room(world) as room:

        def count() -> None:
            nonlocal most
            most = max(most, peer.open_connections)

        async with SmtpPeer(host=HOST, at_port=room.port, mail=[[Call(count), "250 ok"]]) as peer:
            await _set_limits(room, connections=2, messages_per_connection=3, messages=[], new_connections=[])
            async with room.engine():
                await _send(room, 20)
                await _until_delivered(room, 20)

        assert most <= 2
        assert max(len(connection.contents) for connection in peer.connections) <= 3


async def test_a_limit_that_is_changed_counts_without_a_restart(world: World):
    opened = asyncio.Event()
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=[[Wait(opened), "250 ok"]]) as peer:
        await _set_limits(room, connections=1, messages=[], new_connections=[])
        async with room.engine():
            await _send(room, 6)
            await peer.until(lambda: peer.open_connections == 1)

            await in_thread(overrides.set_limits, GROUP, {"connections": 4})
            await peer.until(lambda: peer.open_connections == 4)

            opened.set()
            await _until_delivered(room, 6)


async def test_an_address_gets_its_weights_share_of_the_limits_and_another_weight_counts_at_once(world: World):
    def weigh(address: str, weight: int) -> None:
        source = SourceAddress.objects.select_related("pool").get(address=address)
        kept = {"ehlo_name": source.ehlo_name, "pool": source.pool.name, "note": source.note}
        sources.update_source(source, actor=Actor.system("test"), weight=weight, **kept)

    await in_thread(lambda: sources.add_source("127.0.0.2", actor=Actor.system("test"), weight=4))
    await in_thread(lambda: sources.add_source("127.0.0.3", actor=Actor.system("test"), weight=1))
    opened = asyncio.Event()
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=[[Wait(opened), "250 ok"]]) as peer:
        await _set_limits(room, connections=4, messages=[], new_connections=[])

        def waiting_from(address: str) -> int:
            return sum(
                connection.peer_address == address and not connection.is_closed.is_set()
                for connection in peer.connections
            )

        async with room.engine():
            await _send(room, 12)
            await peer.until(lambda: waiting_from("127.0.0.2") == 4 and waiting_from("127.0.0.3") == 1)
            await in_thread(weigh, "127.0.0.3", 2)
            opened.set()
            await _until_delivered(room, 12)
            opened.clear()

            await _send(room, 12)
            await peer.until(lambda: waiting_from("127.0.0.2") == 4 and waiting_from("127.0.0.3") == 2)
            opened.set()
            await _until_delivered(room, 24)


async def test_throttling_slows_the_path_and_is_remembered_by_the_next_owner(world: World):
    script = {"rcpt": ["421 4.7.0 too many connections from <you@far.test>, slow down", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script):
        async with room.engine():
            await room.until_state(await room.send("someone@far.test"), "delivered")

        path = await room.path()
        assert path.pace_share == 0.5
        assert path.pace_reason
        ((*shares, reason, reply),) = await room.rows(
            "SELECT share_before, share_after, reason, reply FROM delivery_path_change"
        )
        assert (shares, reason) == ([1.0, 0.5], path.pace_reason)
        assert "slow down" in reply and "you@" not in reply, "people read why, and nobody's address"
        async with room.engine() as running:
            await room.until_state(await room.send("another@far.test"), "delivered")
            (owned,) = running.engine._paths.values()
            assert owned.governor.connections == 5


async def test_a_suspended_path_rests_while_others_go_on_and_an_operator_may_end_it(world: World):
    script = {
        "rcpt": ["421 4.7.0 your IP is blocked because of its very low reputation, listed by a blocklist", "250 ok"]
    }
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, **script) as peer,
        SmtpPeer(host=OTHER_HOST, at_port=room.port),
        room.engine(),
    ):
        refused = await room.send("someone@far.test")
        await room.until_state(refused, "deferred")
        await room.until("SELECT count(*) FROM delivery_path WHERE suspended_until > now() + interval '5 min'")

        waiting = await room.send("another@far.test")
        elsewhere = await room.send("someone@farther.test")
        await room.until_state(elsewhere, "delivered")
        assert (await room.recipient(waiting)).state == "queued"
        assert len(peer.connections) == 1

        assert await in_thread(overrides.release_paths, GROUP) == 1
        await room.until_state(waiting, "delivered")
        await room.until_state(refused, "delivered")


async def test_a_receiver_that_refuses_one_tenant_still_gets_the_others_mail(world: World):
    script = {"dot": ["550 5.7.26 mail from this domain is unauthenticated: SPF and DKIM did not pass", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        await room.until_state(await room.send("someone@far.test"), "deferred")
        await room.until("SELECT count(*) FROM delivery_lane WHERE suspended_until > now()")

        again = await room.send("another@far.test")
        others = await room.send_as_globex("someone@far.test")

        await room.until_state(others, "delivered")
        assert (await room.recipient(again)).state == "queued"


async def test_the_days_volume_is_not_overspent_by_a_new_owner(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        await _set_limits(room, daily=3, messages=[], new_connections=[])
        await _send(room, 5)
        async with room.engine("worker-1"):
            await _until_delivered(room, 3)
        async with room.engine("worker-2"):
            elsewhere = await room.send("someone@farther.test")
            await room.until_state(elsewhere, "deferred", "delivered")

            assert (
                await room.value(
                    "SELECT count(*) FROM delivery_recipient WHERE domain = 'far.test' AND state = 'delivered'"
                )
                == 3
            )


async def test_a_new_owner_goes_on_at_once_where_the_former_one_kept_its_connections(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        await _set_limits(room, connections=1, messages=[], new_connections=["5/min"])
        async with room.engine("worker-1"):
            await _send(room, 12)
            await _until_delivered(room, 12)
        async with room.engine("worker-2"):
            await _send(room, 3)
            await _until_delivered(room, 15)

        assert len(peer.connections) == 2


async def test_a_new_owner_opens_no_more_connections_than_the_former_one_left_over(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        await _set_limits(room, connections=1, messages_per_connection=1, messages=[], new_connections=["4/min"])
        async with room.engine("worker-1"):
            await _send(room, 3)
            await _until_delivered(room, 3)
        async with room.engine("worker-2"):
            await _send(room, 3)
            elsewhere = await room.send("someone@farther.test")
            await room.until_state(elsewhere, "deferred", "delivered")
            await room.until(
                "SELECT count(*) > 0 FROM delivery_queue_entry WHERE path_id IS NULL AND next_attempt_at > now()"
            )

        assert len(peer.connections) in {3, 4}


async def test_a_tenants_rate_holds_over_two_engines_and_slows_nobody_else(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        tenant = world.cast.acme
        tenant.rate_per_second = 4
        await in_thread(tenant.save)
        await _set_limits(room, messages=[], new_connections=[])
        async with room.engine("worker-1"), room.engine("worker-2"):
            await _send(room, 12)
            others = [await room.send_as_globex(f"g{number}@far.test") for number in range(12)]
            for message_id in others:
                await room.until_state(message_id, "delivered", seconds=2)
            at_once = await room.value(
                "SELECT count(*) FROM delivery_recipient WHERE state = 'delivered' AND tenant_id = %s", tenant.id
            )
            assert at_once <= 8
            await _until_delivered(room, 24)

        sql = "SELECT started_at FROM delivery_attempt WHERE tenant_id = %s ORDER BY started_at"
        begun = [row.started_at.timestamp() for row in await room.rows(sql, tenant.id)]
        for begin in begun:
            # One second's tokens may have been saved up before.
            assert sum(begin <= moment < begin + 1 for moment in begun) <= 8


async def test_an_address_that_cannot_be_bound_is_put_out_of_use_and_no_mail_is_judged_by_it(world: World):
    good = world.source
    good.state = "paused"
    await in_thread(good.save)
    foreign = await in_thread(
        SourceAddress.objects.create,
        address="203.0.113.77",
        ehlo_name="gone.relay.test",
        pool=good.pool,
        node=good.node,
    )
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        messages = await _send(room, 3)
        await room.until("SELECT state = 'unusable' FROM delivery_sourceaddress WHERE id = %s", foreign.id)
        assert {(await room.recipient(message_id)).state for message_id in messages} == {"queued"}

        good.state = "active"
        await in_thread(good.save)
        await room.rows(f"NOTIFY {wake.PATHS}")

        for message_id in messages:
            recipient = await room.until_state(message_id, "delivered")
            assert recipient.attempts == 1
            assert len(await room.attempts(message_id)) == 1


async def test_an_address_that_is_moved_serves_its_old_pool_no_more_and_has_its_new_name(world: World):
    await in_thread(SourcePool.objects.create, name="spare")

    async def move(pool: str) -> None:
        source = await in_thread(sources.find_source, world.source.pk)
        changes = {"pool": pool, "ehlo_name": "moved.relay.test", "weight": 1, "note": ""}
        await in_thread(lambda: sources.update_source(source, actor=Actor.system("test"), **changes))

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        await room.until_state(await room.send("one@far.test"), "delivered")
        await move("spare")
        await room.until("SELECT bool_and(owner = '') FROM delivery_path", seconds=10)
        waiting = await room.send("two@far.test")
        await room.until("SELECT next_due_at <= now() FROM delivery_lane WHERE next_due_at IS NOT NULL")
        assert (await room.recipient(waiting)).state == "queued"

        await move("default")
        await room.until_state(waiting, "delivered")

        assert b"EHLO moved.relay.test" in peer.connections[-1].commands[0]


async def test_what_an_operator_suspends_or_drains_rests_until_it_is_let_go(world: World):
    operator, length = Actor.system("test"), timedelta(hours=1)

    async def until_the_engine_has_looked(room: Room) -> None:
        beat = await room.value("SELECT max(heartbeat_at) FROM delivery_worker")
        await room.until("SELECT max(heartbeat_at) > %s FROM delivery_worker", beat)
        lease = await room.value("SELECT coalesce(max(leased_until), now()) FROM delivery_path WHERE owner <> ''")
        await room.until("SELECT coalesce(max(leased_until) > %s, true) FROM delivery_path WHERE owner <> ''", lease)

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        await room.until_state(await room.send("one@far.test"), "delivered")
        source = await in_thread(sources.find_source, world.source.pk)
        group = await in_thread(throttles.find_group, GROUP)

        await in_thread(lambda: throttles.suspend_path(source, group, length=length, reason="asked", actor=operator))
        await until_the_engine_has_looked(room)
        suspended = await room.send("two@far.test")
        await until_the_engine_has_looked(room)
        assert (await room.recipient(suspended)).state == "queued"
        assert await in_thread(lambda: throttles.release_path(source, group, actor=operator))
        await room.until_state(suspended, "delivered")
        told = await in_thread(lambda: changes.of_path(source, group))
        assert [(one.reason, one.suspended_until is not None) for one in told] == [
            ("released", False),
            ("operator", True),
        ]
        since = datetime.now(tz=UTC)
        many = [Change(since, 1.0, 0.5, f"rule {number}") for number in range(changes.KEPT_OF_A_PATH + 5)]
        await changes.write(room.connection, (await room.path()).id, many)
        kept = await in_thread(lambda: changes.of_path(source, group, most=200))
        assert (len(kept), kept[0].reason) == (changes.KEPT_OF_A_PATH, many[-1].reason)
        assert await in_thread(lambda: changes.forget_old(now=since + timedelta(days=91))) == changes.KEPT_OF_A_PATH

        await in_thread(lambda: nodes.drain_node(source.node, actor=operator))
        await room.until("SELECT bool_and(owner = '') FROM delivery_path")
        drained = await room.send("three@far.test")
        await until_the_engine_has_looked(room)
        assert (await room.recipient(drained)).state == "queued"
        await in_thread(lambda: nodes.resume_node(source.node, actor=operator))
        await room.until_state(drained, "delivered")
