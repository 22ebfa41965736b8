"""Owners that die, lose their path or their database: nothing is lost, nothing is sent twice without being called ambiguous."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from accounts import database
from accounts.identifiers import uuid7
from delivery.engine import ownership, recovery
from delivery.engine.ownership import WorkerIdentity
from tests.support.engine_room import HOST, NODE, Room, World, delivered, doomed, heard
from tests.support.smtp_peer import SmtpPeer, Wait

SOMEBODY_ELSE = WorkerIdentity(f"{NODE}/worker-9", uuid7(), NODE, "test")


async def take_path_over(room: Room, by: WorkerIdentity = SOMEBODY_ELSE) -> None:
    path = await room.path()
    await room.rows("UPDATE delivery_path SET leased_until = now() - interval '1 s' WHERE id = %s", path.id)
    lease = timedelta(minutes=1)
    assert await ownership.acquire(room.connection, by, [path.id], lease=lease, takes_expired=True)


async def give_path_up(room: Room, by: WorkerIdentity = SOMEBODY_ELSE) -> None:
    await ownership.leave(room.connection, by, [(await room.path()).id])


async def test_a_fence_raised_before_the_dot_keeps_the_dot_here(world: World):
    go_on = asyncio.Event()
    script = {"data": [[Wait(go_on), "354 go ahead"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: heard(peer, "DATA"))

        await take_path_over(room)
        go_on.set()
        await peer.connections[0].is_closed.wait()

        assert (peer.connections[0].contents, await room.attempts(message_id)) == ([], [])
        assert (await room.recipient(message_id)).state == "queued"
        await give_path_up(room)
        await room.until_state(message_id, "delivered")
        assert delivered(peer) == 1


async def test_what_a_former_owner_reports_changes_nothing(world: World):
    finish = asyncio.Event()
    script = {"dot": [[Wait(finish), "250 2.0.0 late"], "250 2.0.0 again"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine():
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: delivered(peer) == 1)

        await take_path_over(room)
        finish.set()
        await give_path_up(room)
        recipient = await room.until_state(message_id, "delivered")

        first, second = await room.attempts(message_id)
        assert (first.is_ambiguous, second.is_ambiguous) == (True, False)
        assert (recipient.reply, recipient.has_ambiguous_attempt) == ("250 2.0.0 again", True)
        assert await room.events(message_id) == ["accepted", "deferred", "delivered"]


async def test_a_mark_that_is_being_written_while_the_path_is_taken_counts_as_sent(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port):
        message_id = await room.send("someone@far.test")
        path_id = await room.value(
            """INSERT INTO delivery_path (source_id, group_id, owner, owner_incarnation, fence, leased_until,
                                          pace_share, pace_reason, suspended_reason, suspension_s)
               SELECT %s, id, 'node1/worker-1', %s, 7, now() + interval '1 min', 1, '', '', 0 FROM delivery_providergroup
               WHERE kind = 'unreachable' RETURNING id""",
            world.source.id,
            uuid7(),
        )
        claimed = "UPDATE delivery_queue_entry SET path_id = %s, fence = 7, claimed_at = now(), attempts = 1"
        await room.rows(claimed, path_id)
        async with await database.connect() as other:
            await other.execute("UPDATE delivery_path SET leased_until = now() - interval '1 s'")
            async with room.connection.transaction():
                await room.rows("UPDATE delivery_queue_entry SET dot_sent_at = now(), attempt_id = %s", uuid7())
                taking = asyncio.create_task(
                    ownership.acquire(other, SOMEBODY_ELSE, [path_id], lease=timedelta(minutes=1), takes_expired=True)
                )
                await room.until_somebody_waits_for_a_lock()
            await taking

        (attempt,) = await room.attempts(message_id)
        assert attempt.is_ambiguous
        assert (await room.entry(message_id)).dot_sent_at is None


async def test_the_next_incarnation_frees_what_its_killed_predecessor_held_at_once(
    world: World, environment: dict[str, str]
):
    environment["RELAY_LEASE_SECONDS"] = "60"
    go_on = asyncio.Event()
    script = {"data": [[Wait(go_on), "354 go ahead"], "354 go ahead"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        message_id = await room.send("someone@far.test")
        async with doomed(room, environment) as process:
            await peer.until(lambda: heard(peer, "DATA"))
            await process.kill()

        async with room.engine():
            await room.until_state(message_id, "delivered", seconds=5)

        (attempt,) = await room.attempts(message_id)
        assert (attempt.number, attempt.is_ambiguous) == (2, False)
        assert delivered(peer) == 1


async def test_the_expired_lease_of_another_slot_is_swept(world: World, environment: dict[str, str]):
    go_on = asyncio.Event()
    script = {"data": [[Wait(go_on), "354 go ahead"], "354 go ahead"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        message_id = await room.send("someone@far.test")
        async with doomed(room, environment, "worker-2") as process:
            await peer.until(lambda: heard(peer, "DATA"))
            await process.kill()

        async with room.engine("worker-1"):
            await room.until_state(message_id, "delivered", seconds=10)

        assert delivered(peer) == 1


async def test_an_owner_killed_past_the_dot_leaves_an_ambiguous_attempt(world: World, environment: dict[str, str]):
    finish = asyncio.Event()
    script = {"dot": [[Wait(finish), "250 ok"], "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer:
        message_id = await room.send("someone@far.test")
        async with doomed(room, environment) as process:
            await peer.until(lambda: delivered(peer) == 1)
            await process.kill()

        async with room.engine():
            deferred = await room.until_state(message_id, "deferred")
            await room.until_state(message_id, "delivered")

        first, second = await room.attempts(message_id)
        assert (first.is_ambiguous, first.host, first.phase) == (True, "mx.far.test", "eod")
        assert second.started_at - first.ended_at >= timedelta(seconds=0.85)
        assert deferred.has_ambiguous_attempt


async def claim_by_hand(room: Room, message_id: UUID, owner: WorkerIdentity) -> None:
    """The path of the message's lane is the owner's, and it has the message in hand."""
    await room.rows(
        """UPDATE delivery_path SET owner = %s, owner_incarnation = %s, fence = fence + 1,
                  leased_until = now() + interval '1 min'""",
        owner.slot,
        owner.incarnation,
    )
    await room.rows(
        """UPDATE delivery_queue_entry SET (path_id, fence) = (SELECT id, fence FROM delivery_path ORDER BY id DESC LIMIT 1),
                  claimed_at = now(), attempts = attempts + 1 WHERE message_id = %s""",
        message_id,
    )


async def make_path(room: Room, peer: SmtpPeer) -> None:
    """A first mail makes the path of far.test."""
    async with room.engine():
        await room.until_state(await room.send("first@far.test"), "delivered")


async def test_what_its_owners_died_with_again_and_again_is_parked(world: World):
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        await make_path(room, peer)
        message_id = await room.send("poison@far.test")
        for _ in range(4):
            owner = WorkerIdentity(f"{NODE}/worker-7", uuid7(), NODE, "test")
            await claim_by_hand(room, message_id, owner)
            await recovery.free_predecessor(room.connection, slot=owner.slot, incarnation=uuid7())

        async with room.engine():
            await room.until_state(await room.send("other@far.test"), "delivered")

        recipient = await room.recipient(message_id)
        assert (recipient.state, recipient.reason) == ("held", "poison")
        assert (await room.events(message_id))[-1] == "held"
        assert delivered(peer) == 2


async def test_suspects_are_claimed_one_at_a_time(world: World):
    finish = asyncio.Event()
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        await make_path(room, peer)
        suspects = [await room.send(f"s{number}@far.test") for number in range(3)]
        await room.rows("UPDATE delivery_queue_entry SET losses = 1")
        peer.script("dot", [Wait(finish), "250 ok"])
        async with room.engine():
            ordinary = await room.send("o@far.test")
            await peer.until(lambda: delivered(peer) == 3)  # the first mail, one suspect, the ordinary one

            in_hand = "SELECT count(*) FROM delivery_queue_entry WHERE path_id IS NOT NULL AND losses = 1"
            assert await room.value(in_hand) == 1
            finish.set()
            for message_id in (*suspects, ordinary):
                await room.until_state(message_id, "delivered")


async def test_a_claim_nobody_knows_of_is_given_back(world: World, settings: Any):
    settings.LEASE_SECONDS = 1
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        await room.until_state(await room.send("first@far.test"), "delivered")
        message_id = await lost_claim(room, is_marked=False)

        await room.until_state(message_id, "delivered", seconds=5)

        (attempt,) = await room.attempts(message_id)
        assert (attempt.number, delivered(peer)) == (1, 2)


async def test_a_marked_claim_nobody_knows_of_is_ambiguous(world: World, settings: Any):
    settings.LEASE_SECONDS = 1
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port), room.engine():
        await room.until_state(await room.send("first@far.test"), "delivered")
        message_id = await lost_claim(room, is_marked=True)

        await room.until_state(message_id, "delivered", seconds=8)

        first, second = await room.attempts(message_id)
        assert (first.is_ambiguous, second.is_ambiguous) == (True, False)


async def lost_claim(room: Room, *, is_marked: bool) -> UUID:
    """A message that the engine's path has claimed half a minute ago, which its engine does not know."""
    await room.rows("UPDATE accounts_tenant SET state = 'suspended'")
    message_id = await room.send("lost@far.test")
    await room.rows(
        """UPDATE delivery_queue_entry SET (path_id, fence) = (SELECT id, fence FROM delivery_path ORDER BY id DESC LIMIT 1),
                  claimed_at = now() - interval '30 s', attempts = 1, attempt_id = %s,
                  dot_sent_at = CASE WHEN %s THEN now() - interval '29 s' END WHERE message_id = %s""",
        uuid7(),
        is_marked,
        message_id,
    )
    await room.rows("UPDATE accounts_tenant SET state = 'active'")
    return message_id


async def cut_connections(room: Room) -> None:
    """All but the test's own."""
    await room.rows(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> %s""",
        room.world.test_backend,
    )


async def test_database_connections_that_are_cut_again_and_again_lose_and_double_nothing(world: World):
    addresses = [f"r{number}@far.test" for number in range(150)]
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer, room.engine():
        for first in range(0, 150, 50):
            await room.send(*addresses[first : first + 50])
        for done in (10, 60, 110):
            await peer.until(lambda done=done: delivered(peer) >= done)
            await cut_connections(room)

        await room.until("SELECT count(*) = 150 FROM delivery_recipient WHERE state = 'delivered'")

        rcpts = [
            command.decode()
            for connection in peer.connections
            for command in connection.commands
            if command.startswith(b"RCPT")
        ]
        assert await room.value("SELECT count(*) FROM delivery_queue_entry") == 0
        assert delivered(peer) == 150
        assert {rcpt[9:-1] for rcpt in rcpts} == set(addresses)
        assert await room.value("SELECT count(*) FROM delivery_attempt WHERE is_ambiguous") == 0


async def test_an_answer_that_comes_while_the_database_is_away_is_settled_when_it_is_back(world: World):
    finish = asyncio.Event()
    script = {"dot": [[Wait(finish), "250 2.0.0 queued"]]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script) as peer, room.engine() as running:
        message_id = await room.send("someone@far.test")
        await peer.until(lambda: delivered(peer) == 1)
        running.engine._services.schedules._known.clear()
        await cut_connections(room)
        finish.set()

        await room.until_state(message_id, "delivered")

        (attempt,) = await room.attempts(message_id)
        assert (attempt.is_ambiguous, delivered(peer)) == (False, 1)
        assert json.loads(attempt.transcript)
