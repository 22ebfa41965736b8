"""Claims: what is taken, in which order, at what cost."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from accounts.identifiers import uuid7
from delivery.engine import ownership
from delivery.engine.ownership import PathRow, WorkerIdentity
from delivery.queue import claim
from delivery.queue.claim import _CLAIM, Ask, ClaimedEntry, Want, _parameters
from tests.support.engine_room import NODE, Room, World

ME = WorkerIdentity(f"{NODE}/worker-1", uuid7(), NODE, "test")


async def own_path(room: Room, kind: str = "unreachable") -> PathRow:
    group_id = await room.value("SELECT id FROM delivery_providergroup WHERE kind = %s", kind)
    pair = (room.world.source.id, group_id)
    path_id = (await ownership.path_ids(room.connection, [pair]))[pair]
    (path,) = await ownership.acquire(room.connection, ME, [path_id], lease=timedelta(minutes=1), takes_expired=False)
    return path


async def take(room: Room, path: PathRow, *wants: Want, most_losses: int = 9) -> list[ClaimedEntry]:
    claimed = await claim.claim(room.connection, [Ask(path.id, path.fence, wants, most_losses)])
    return claimed.get(path.id, [])


async def lane_with(room: Room, count: int) -> tuple[int, list[UUID]]:
    message_ids = [await room.send(f"r{number}@far.test") for number in range(count)]
    return await room.value("SELECT lane_id FROM delivery_queue_entry LIMIT 1"), message_ids


async def another_lane(room: Room) -> tuple[int, UUID]:
    message_id = await room.send_as_globex("somebody@far.test")
    return (await room.entry(message_id)).lane_id, message_id


async def test_the_oldest_are_taken_first_and_nobody_takes_them_twice(world: World):
    async with Room(world) as room:
        path, (lane_id, message_ids) = await own_path(room), await lane_with(room, 5)

        first = await take(room, path, Want(lane_id, 3))
        second = await take(room, path, Want(lane_id, 3))

        assert {entry.message_id for entry in first} == set(message_ids[:3])
        assert {entry.message_id for entry in second} == set(message_ids[3:])
        assert {entry.attempts for entry in first + second} == {1}
        assert await take(room, path, Want(lane_id, 3)) == []


async def test_several_paths_claim_together_and_each_gets_its_own(world: World):
    async with Room(world) as room:
        first, second = await own_path(room), await own_path(room, kind="unrouted")
        lane_id, message_ids = await lane_with(room, 3)
        other_lane, other_id = await another_lane(room)
        asks = [
            Ask(first.id, first.fence, (Want(lane_id, 2),), most_losses=9),
            Ask(second.id, second.fence, (Want(other_lane, 5),), most_losses=9),
            Ask(second.id + 1000, 1, (Want(lane_id + 1000, 5),), most_losses=9),
        ]

        claimed = await claim.claim(room.connection, asks)

        assert {entry.message_id for entry in claimed[first.id]} == set(message_ids[:2])
        assert {entry.message_id for entry in claimed[second.id]} == {other_id}
        assert set(claimed) == {first.id, second.id}
        assert (await room.entry(other_id)).path_id == second.id


async def test_nothing_is_claimed_with_a_fence_that_was_raised_or_a_lease_that_ran_out(world: World):
    async with Room(world) as room:
        path, (lane_id, _) = await own_path(room), await lane_with(room, 1)

        await room.rows("UPDATE delivery_path SET fence = fence + 1")
        assert await take(room, path, Want(lane_id, 3)) == []

        await room.rows("UPDATE delivery_path SET fence = fence - 1, leased_until = now() - interval '1 s'")
        assert await take(room, path, Want(lane_id, 3)) == []


async def test_what_is_held_or_not_due_is_left(world: World):
    async with Room(world) as room:
        path, (lane_id, (held, later, due)) = await own_path(room), await lane_with(room, 3)
        await room.rows("UPDATE delivery_queue_entry SET held_reason = 'policy' WHERE message_id = %s", held)
        await room.rows(
            "UPDATE delivery_queue_entry SET next_attempt_at = now() + interval '1 min' WHERE message_id = %s", later
        )

        assert [entry.message_id for entry in await take(room, path, Want(lane_id, 9))] == [due]


async def test_a_suspect_takes_the_place_of_another_and_no_path_gets_more_than_it_wants(world: World):
    async with Room(world) as room:
        path, (lane_id, message_ids) = await own_path(room), await lane_with(room, 4)
        await room.rows("UPDATE delivery_queue_entry SET losses = 1 WHERE message_id = %s", message_ids[0])

        taken = await take(room, path, Want(lane_id, 2))

        assert sorted(entry.losses for entry in taken) == [0, 1]
        assert len(await take(room, path, Want(lane_id, 2))) == 2


async def test_at_most_one_suspect_is_taken_and_none_that_was_lost_more_often_than_allowed(world: World):
    async with Room(world) as room:
        path, (lane_id, message_ids) = await own_path(room), await lane_with(room, 4)
        for losses, message_id in zip((1, 1, 3), message_ids, strict=False):
            await room.rows("UPDATE delivery_queue_entry SET losses = %s WHERE message_id = %s", losses, message_id)

        assert [entry.losses for entry in await take(room, path, Want(lane_id, 9), most_losses=0)] == [0]
        assert [entry.losses for entry in await take(room, path, Want(lane_id, 9), most_losses=1)] == [1]
        assert [entry.losses for entry in await take(room, path, Want(lane_id, 9), most_losses=1)] == [1]
        assert await take(room, path, Want(lane_id, 9), most_losses=1) == []
        assert [entry.losses for entry in await take(room, path, Want(lane_id, 9))] == [3]


async def test_a_release_gives_the_attempt_back_and_may_put_off_or_move(world: World):
    async with Room(world) as room:
        path, (lane_id, (message_id,)) = await own_path(room), await lane_with(room, 1)
        (entry,) = await take(room, path, Want(lane_id, 1))

        await claim.release(room.connection, [entry], path_id=path.id, fence=path.fence, delay=timedelta(minutes=1))

        row = await room.entry(message_id)
        assert (row.path_id, row.attempts) == (None, 0)
        assert await take(room, path, Want(lane_id, 1)) == []


async def test_a_release_with_an_old_fence_changes_nothing(world: World):
    async with Room(world) as room:
        path, (lane_id, (message_id,)) = await own_path(room), await lane_with(room, 1)
        (entry,) = await take(room, path, Want(lane_id, 1))

        await claim.release(room.connection, [entry], path_id=path.id, fence=path.fence - 1)

        assert (await room.entry(message_id)).path_id == path.id


async def test_a_mark_is_good_only_while_the_claim_is(world: World):
    async with Room(world) as room:
        path, (lane_id, _) = await own_path(room), await lane_with(room, 2)
        kept, lost = await take(room, path, Want(lane_id, 2))
        await room.rows("UPDATE delivery_queue_entry SET fence = 99 WHERE recipient_id = %s", lost.recipient_id)
        marks = [claim.Mark(entry.recipient_id, path.id, path.fence, uuid7(), "mx.far.test") for entry in (kept, lost)]

        assert await claim.mark_dots(room.connection, marks) == {kept.recipient_id}
        assert await room.value("SELECT count(*) FROM delivery_queue_entry WHERE dot_sent_at IS NOT NULL") == 1


async def test_a_lane_knows_when_it_is_due_next(world: World):
    async with Room(world) as room:
        path, (lane_id, _) = await own_path(room), await lane_with(room, 2)
        next_due = "SELECT next_due_at FROM delivery_lane WHERE id = %s"
        assert await claim.refresh_lanes(room.connection, [lane_id]) == {lane_id}

        first, second = await take(room, path, Want(lane_id, 2))
        assert await claim.refresh_lanes(room.connection, [lane_id]) == set()
        assert await room.value(next_due, lane_id) is None
        assert await claim.due_lanes(room.connection) == []

        hour = timedelta(hours=1)
        await claim.release(room.connection, [first], path_id=path.id, fence=path.fence, delay=hour)
        await claim.refresh_lanes(room.connection, [lane_id])
        seconds = await claim.seconds_to_next_due(room.connection)
        assert seconds is not None and 3500 < seconds <= 3600

        await claim.release(room.connection, [second], path_id=path.id, fence=path.fence)
        assert [lane.id for lane in await claim.due_lanes(room.connection)] == [lane_id]


async def test_a_lane_that_forgot_its_entries_is_repaired(world: World):
    async with Room(world) as room:
        lane_id, _ = await lane_with(room, 1)
        await room.rows("UPDATE delivery_lane SET next_due_at = NULL")

        assert await claim.repair_lanes(room.connection) == 1
        assert [lane.id for lane in await claim.due_lanes(room.connection)] == [lane_id]
        assert await claim.repair_lanes(room.connection) == 0


async def test_a_claim_uses_its_index_however_much_is_queued(world: World):
    async with Room(world) as room:
        path, (lane_id, _) = await own_path(room), await lane_with(room, 1)
        await room.rows(
            """INSERT INTO delivery_queue_entry (recipient_id, message_id, tenant_id, lane_id, domain_route_id, accepted_at,
                                                 next_attempt_at, attempts, losses)
               SELECT gen_random_uuid(), gen_random_uuid(), tenant_id, lane_id + number %% 40, domain_route_id, now(),
                      now() - number * interval '1 ms', 0, (number %% 50 = 0)::int
               FROM delivery_queue_entry, generate_series(1, 40000) AS number"""
        )
        wants = tuple(Want(lane_id + number, 5) for number in range(20))
        parameters = _parameters([Ask(path.id, path.fence, wants, most_losses=1)])
        for statement in ("SELECT 1", "ANALYZE delivery_queue_entry"):  # without statistics and with them
            await room.rows(statement)
            async with room.connection.transaction(force_rollback=True):
                cursor = await room.connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_CLAIM}", parameters)
                (plan,) = (await cursor.fetchone() or [None])[0]

            text = json.dumps(plan)
            assert "queue_entry_waiting" in text and "queue_entry_suspect" in text
            assert ("delivery_queue_entry", "Seq Scan") not in scans_of(plan["Plan"])
            assert pages_of(plan["Plan"]) < 5000  # to read through the 20 lanes is to touch 20,000 entries


def pages_of(node: dict[str, Any]) -> int:
    return node["Shared Hit Blocks"] + node["Shared Read Blocks"]


def scans_of(node: dict[str, Any]) -> set[tuple[str, str]]:
    found = {(node["Relation Name"], node["Node Type"])} if "Relation Name" in node else set()
    return found.union(*(scans_of(child) for child in node.get("Plans", ())))
