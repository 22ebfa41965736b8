"""Who drives a path: two engines share them, hand them over, and drain without losing or doubling anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import timedelta
from typing import Any

from accounts import database
from accounts.identifiers import uuid7
from delivery.engine import ownership, recovery
from delivery.engine.ownership import WorkerIdentity
from tests.support.engine_room import HOST, NODE, Room, World
from tests.support.smtp_peer import SmtpPeer, Wait

LEASE = timedelta(minutes=1)


def identity(worker: str) -> WorkerIdentity:
    return WorkerIdentity(f"{NODE}/{worker}", uuid7(), NODE, "test")


async def test_two_engines_share_the_paths_and_every_recipient_gets_its_mail_once(world: World):
    domains = [f"d{number}.test" for number in range(8)]
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        for domain in domains:
            room.dns.records[domain] = {"MX": [f"10 mx.{domain}."]}
            room.dns.records[f"mx.{domain}"] = {"A": [HOST]}
        async with room.engine("worker-1"), room.engine("worker-2"):
            addresses = [f"r{number}@{domain}" for domain in domains for number in range(10)]
            await room.until("SELECT count(*) = 2 FROM delivery_worker")
            message_id = await room.send(*addresses)
            await room.until_state(message_id, "delivered")
            owners = {
                row.owner for row in await room.rows("SELECT DISTINCT owner FROM delivery_path WHERE owner <> ''")
            }

        rcpts = [c.decode() for connection in peer.connections for c in connection.commands if c.startswith(b"RCPT")]
        assert sorted(rcpts) == sorted(f"RCPT TO:<{address}>" for address in addresses)
        workers = {row.worker for row in await room.rows("SELECT DISTINCT worker FROM delivery_attempt")}
        assert owners == workers == {"node1/worker-1", "node1/worker-2"}


async def test_a_worker_that_comes_is_handed_the_paths_that_belong_to_it(world: World, settings: Any):
    settings.LEASE_SECONDS = 1
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine("worker-1"):
        await room.until_state(await room.send("first@far.test"), "delivered")
        path = await room.path()
        heir = next(f"worker-{n}" for n in range(2, 50) if owner_among(path.id, f"worker-{n}") == f"{NODE}/worker-{n}")

        async with room.engine(heir):
            await room.until("SELECT owner = '' FROM delivery_path")
            await room.until_state(await room.send("second@far.test"), "delivered", seconds=5)

            assert (await room.path()).owner == f"{NODE}/{heir}"


def owner_among(path_id: int, worker: str) -> str | None:
    return ownership.owner_of(path_id, {f"{NODE}/worker-1", f"{NODE}/{worker}"})


async def test_draining_gives_back_what_has_not_reached_its_dot(world: World):
    never = asyncio.Event()
    script = {"rcpt": [[Wait(never), "250 ok"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine() as running:
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: bool(peer.connections) and "RCPT" in peer.connections[0].verbs)

        async with asyncio.timeout(5):
            await running.stop()

        entry = await room.entry(message_id)
        assert (entry.path_id, entry.attempts, entry.losses) == (None, 0, 0)
        assert (await room.path()).owner == ""
        assert await room.value("SELECT count(*) FROM delivery_worker") == 0


async def test_draining_waits_for_the_answer_to_a_dot(world: World):
    finish = asyncio.Event()
    script = {"dot": [[Wait(finish), "250 2.0.0 queued"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine() as running:
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: bool(peer.connections and peer.connections[0].contents))

        stopping = asyncio.create_task(running.stop())
        await room.until("SELECT bool_or(is_draining) FROM delivery_worker", seconds=5)
        finish.set()
        await stopping

        assert (await room.recipient(message_id)).state == "delivered"
        (attempt,) = await room.attempts(message_id)
        assert not attempt.is_ambiguous


async def test_a_draining_engine_claims_nothing_more(world: World):
    finish = asyncio.Event()
    script = {"dot": [[Wait(finish), "250 2.0.0 queued"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine() as running:
        message_id = await room.send(*(f"r{number}@far.test" for number in range(12)))  # ten at a time
        await peer.until(lambda: sum(len(connection.contents) for connection in peer.connections) == 10)
        stopping = asyncio.create_task(running.stop())
        await room.until("SELECT bool_or(is_draining) FROM delivery_worker", seconds=5)
        await room.until("SELECT leased_until > now() + interval '2.5 s' FROM delivery_path", seconds=5)

        finish.set()
        await stopping

        assert Counter(row.state for row in await room.recipients(message_id)) == {"delivered": 10, "queued": 2}
        assert {row.attempts for row in await room.rows("SELECT attempts FROM delivery_queue_entry")} == {0}


async def test_a_path_that_is_taken_while_leases_are_renewed_is_not_lost(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine() as running:
        await room.until_state(await room.send("first@far.test"), "delivered")
        engine = running.engine
        path = engine._paths.popitem()[1]  # the renewal begins before the path is known
        async with await database.connect() as lock, await database.connect() as renewing:
            async with lock.transaction():
                await lock.execute("SELECT 1 FROM delivery_sourceaddress FOR UPDATE")
                await lock.execute("LOCK TABLE delivery_path IN EXCLUSIVE MODE")
                refreshing = asyncio.create_task(engine._refresh_world(renewing))
                await room.until_somebody_waits_for_a_lock()
                engine._paths[path.row.id] = path
            await refreshing

        assert engine._paths == {path.row.id: path}


async def test_a_claim_under_way_when_the_drain_begins_gives_back_what_it_gets(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine() as running:
        await room.until_state(await room.send("first@far.test"), "delivered")
        async with await database.connect() as lock:
            async with lock.transaction():
                await lock.execute("SELECT 1 FROM delivery_path FOR UPDATE")
                message_id = await room.send("second@far.test")
                await room.until_somebody_waits_for_a_lock()
                stopping = asyncio.create_task(running.stop())
                while not running.engine._is_draining:
                    await asyncio.sleep(0)
            await stopping

        entry = await room.entry(message_id)
        assert (entry.path_id, entry.attempts, entry.losses) == (None, 0, 0)
        assert sum(len(connection.contents) for connection in peer.connections) == 1


async def test_a_path_in_our_own_name_that_we_lost_sight_of_is_taken_again(world: World, settings: Any):
    settings.LEASE_SECONDS = 60
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine() as running:
        await room.until_state(await room.send("first@far.test"), "delivered")
        path = running.engine._paths.pop((await room.path()).id)
        path.driver.cancel()

        await room.until_state(await room.send("second@far.test"), "delivered", seconds=5)

        assert (await room.path()).fence == path.row.fence + 1


async def test_expired_leases_are_left_alone_for_a_moment_after_the_database_came_back(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        async with room.engine():
            await room.until_state(await room.send("first@far.test"), "delivered")
        other, path = identity("worker-2"), await room.path()
        (taken,) = await ownership.acquire(room.connection, other, [path.id], lease=LEASE, takes_expired=False)
        await room.rows("UPDATE delivery_path SET leased_until = now() - interval '1 s'")
        me = identity("worker-1")

        assert await ownership.acquire(room.connection, me, [path.id], lease=LEASE, takes_expired=False) == []
        renewed = await ownership.renew(room.connection, other, [path.id], lease=LEASE)
        assert {path_id: one.fence for path_id, one in renewed.items()} == {path.id: taken.fence}
        assert await ownership.acquire(room.connection, me, [path.id], lease=LEASE, takes_expired=True) == []
        assert await recovery.sweep(room.connection) == 0


async def test_leaving_touches_nothing_that_somebody_else_has_taken(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        async with room.engine():
            await room.until_state(await room.send("first@far.test"), "delivered")
        former, owner, path = identity("worker-1"), identity("worker-2"), await room.path()
        await ownership.acquire(room.connection, former, [path.id], lease=LEASE, takes_expired=False)
        await room.rows("UPDATE delivery_path SET leased_until = now() - interval '1 s'")
        (taken,) = await ownership.acquire(room.connection, owner, [path.id], lease=LEASE, takes_expired=True)
        message_id = await room.send("second@far.test")
        await room.rows(
            "UPDATE delivery_queue_entry SET path_id = %s, fence = %s, claimed_at = now()", path.id, taken.fence
        )

        await ownership.leave(room.connection, former, [path.id])

        assert (await room.entry(message_id)).path_id == path.id
        assert (await room.path()).owner == owner.slot


async def test_an_engine_starts_before_its_database_and_delivers_once_it_is_there(world: World, settings: Any):
    direct = settings.DIRECT_DATABASE
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        settings.DIRECT_DATABASE = {**direct, "PORT": "1"}
        async with room.engine() as running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.shield(running.task)
            settings.DIRECT_DATABASE = direct

            await room.until_state(await room.send("someone@far.test"), "delivered", seconds=5)
