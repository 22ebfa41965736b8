"""What is written down of an attempt: once, only with a good fence, whatever a peer said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from accounts import database
from accounts.identifiers import uuid7
from delivery import settlement
from delivery.core.outcome import judge
from delivery.core.reply import Phase, from_lines
from delivery.core.retry import DEFAULT_SCHEDULE
from delivery.engine.committer import EngineCommitter
from delivery.queue.claim import ClaimedEntry, Mark, Want
from delivery.queue.enqueue import mark_due
from delivery.settlement import AttemptRecord, Settled
from tests.integration.delivery.test_claim import own_path, take
from tests.support.engine_room import Room, World

LINES = {"delivered": b"250 2.0.0 ok", "deferred": b"451 4.3.0 not now", "bounced": b"550 5.1.1 no such user"}


async def claimed(room: Room, count: int = 1) -> tuple[Any, list[ClaimedEntry]]:
    path = await own_path(room)
    for number in range(count):
        await room.send(f"r{number}@far.test")
    lane_id = await room.value("SELECT lane_id FROM delivery_queue_entry LIMIT 1")
    return path, await take(room, path, Want(lane_id, count))


def settled(path: Any, entry: ClaimedEntry, line: bytes = LINES["delivered"], **attempt: Any) -> Settled:
    now = datetime.now(tz=UTC)
    outcome = judge(
        from_lines(Phase.EOD, [line]),
        provider_group="",
        attempts=entry.attempts,
        accepted_at=entry.accepted_at,
        schedule=DEFAULT_SCHEDULE,
        now=now,
    )
    record = AttemptRecord(uuid7(), now, now, None, None, "node1/worker-1", **attempt)
    return Settled(entry, path.id, path.fence, record, outcome)


async def test_a_settlement_is_written_once(world: World):
    async with Room(world) as room:
        path, (entry,) = await claimed(room)

        assert await settlement.settle(room.connection, [settled(path, entry)]) == {entry.recipient_id}
        assert await settlement.settle(room.connection, [settled(path, entry, LINES["bounced"])]) == set()

        assert (await room.recipient(entry.message_id)).state == "delivered"
        assert len(await room.attempts(entry.message_id)) == 1


async def test_a_settlement_with_an_old_fence_changes_nothing(world: World):
    async with Room(world) as room:
        path, (entry,) = await claimed(room)

        late = replace(settled(path, entry), fence=path.fence - 1)
        assert await settlement.settle(room.connection, [late]) == set()

        assert (await room.recipient(entry.message_id)).state == "queued"
        assert await room.attempts(entry.message_id) == []


async def test_recipients_whose_keys_sort_below_their_messages_are_settled_too(world: World):
    async with Room(world) as room:
        path, (entry,) = await claimed(room)
        low = UUID(int=(entry.message_id.int >> 80 << 80) | (0x7000 << 64) | (0b10 << 62))
        for table, column in (("delivery_recipient", "id"), ("delivery_queue_entry", "recipient_id")):
            await room.rows(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", low, entry.recipient_id)
        assert low < entry.message_id

        await settlement.settle(room.connection, [settled(path, replace(entry, recipient_id=low))])

        assert (await room.recipient(entry.message_id)).state == "delivered"


async def test_final_and_deferred_outcomes_share_a_transaction(world: World):
    async with Room(world) as room:
        path, entries = await claimed(room, 3)
        outcomes = [settled(path, entry, line) for entry, line in zip(entries, LINES.values(), strict=True)]

        assert await settlement.settle(room.connection, outcomes) == {entry.recipient_id for entry in entries}

        states = [(await room.recipient(entry.message_id)).state for entry in entries]
        assert states == list(LINES)
        (left,) = await room.rows("SELECT * FROM delivery_queue_entry")
        assert timedelta(minutes=4) < left.next_attempt_at - datetime.now(tz=UTC) < timedelta(minutes=6)
        assert (left.path_id, left.losses) == (None, 0)


async def test_whatever_a_peer_says_can_be_written(world: World):
    async with Room(world) as room:
        path, (entry,) = await claimed(room)
        odd = settled(
            path,
            entry,
            b"451 \x00 \xff\xfe \xed\xa0\x80 \\u0000 " + "日本語 😀 ".encode() * 100,
            host="mx\0.far.test" + "x" * 300,
            host_address="fe80::1%eth0",
            transcript=b'[[0,"<","\\u0000 \xff"]]',
        )

        assert await settlement.settle(room.connection, [odd]) == {entry.recipient_id}


async def lanes_like(room: Room, template: int, count: int) -> list[int]:
    """Further lanes, each of a provider group of its own."""
    rows = await room.rows(
        """WITH grp AS (
               INSERT INTO delivery_providergroup (key, kind, title, limits, created_at)
               SELECT 'site:' || number, 'site', '', '{}', now() FROM generate_series(1, %s) AS number RETURNING id
           )
           INSERT INTO delivery_lane (pool_id, group_id, tenant_id, stream_id, suspended_reason)
           SELECT pool_id, grp.id, tenant_id, stream_id, '' FROM delivery_lane, grp WHERE delivery_lane.id = %s
           RETURNING id""",
        count,
        template,
    )
    return sorted(row.id for row in rows)


async def test_lanes_are_locked_in_one_order_so_that_nobody_waits_in_a_circle(world: World):
    async with Room(world) as room, await database.connect() as acceptance, await database.connect() as other:
        path, entries = await claimed(room, 10)
        lanes = await lanes_like(room, entries[0].lane_id, 10)
        outcomes = [
            replace(settled(path, entry, LINES["deferred"]), lane_id=lane)
            for entry, lane in zip(entries, reversed(lanes), strict=True)
        ]
        async with acceptance.transaction():
            await mark_due(acceptance, lanes[:1])
            settling = asyncio.create_task(settlement.settle(room.connection, outcomes))
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not (await (await other.execute(waits)).fetchone() or [0])[0]:
                await asyncio.sleep(0.01)

            free = await (await other.execute("SELECT id FROM delivery_lane FOR UPDATE SKIP LOCKED")).fetchall()

            assert {lane_id for (lane_id,) in free} >= set(lanes[1:])
        await settling


async def test_one_settlement_that_cannot_be_written_does_not_hold_up_the_others(world: World):
    async with Room(world) as room:
        path, (good, bad, other) = await claimed(room, 3)
        committer = EngineCommitter()
        committer.start()

        answers = await asyncio.gather(
            committer.settle(settled(path, good)),
            committer.settle(settled(path, bad, tls_version="x" * 500)),
            committer.settle(settled(path, other)),
        )

        assert answers == [True, False, True]
        assert await committer.settle(settled(path, good)) is False
        await committer.stop(drain_s=1)


async def test_a_fault_of_ours_does_not_end_the_committer(world: World):
    async with Room(world) as room:
        path, (bad, good) = await claimed(room, 2)
        committer = EngineCommitter()
        committer.start()

        assert await committer.settle(settled(path, bad, port=object())) is False
        assert await committer.settle(settled(path, good)) is True
        await committer.stop(drain_s=1)


async def test_a_mark_survives_a_connection_that_died_while_nobody_used_it(world: World):
    async with Room(world) as room:
        path, (first, second) = await claimed(room, 2)
        committer = EngineCommitter()
        committer.start()
        marks = [Mark(entry.recipient_id, path.id, path.fence, uuid7(), "mx.far.test") for entry in (first, second)]
        assert await committer.mark(marks[0])
        await room.rows(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> %s""",
            world.test_backend,
        )

        assert await committer.mark(marks[1])
        await committer.stop(drain_s=1)
