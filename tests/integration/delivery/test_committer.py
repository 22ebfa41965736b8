"""The group commit of acceptance: who shares a transaction, who fails alone, and what a broken connection means."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from accounts.models import QuotaBucket
from delivery.acceptance import committer
from delivery.acceptance.committer import StoreClosed
from delivery.core import replies
from delivery.core.replies import Rejection
from tests.support.engine_room import Room, World, in_thread, mail


async def outcomes(*sendings: Any) -> list[Any]:
    return await asyncio.gather(*sendings, return_exceptions=True)


async def test_messages_that_wait_share_a_transaction(world: World):
    async with Room(world) as room:
        await room.send("first@far.test")
        before = await room.value("SELECT count(DISTINCT xmin::text) FROM delivery_message")

        await asyncio.gather(*(room.send(f"r{number}@far.test") for number in range(50)))

        transactions = await room.value("SELECT count(DISTINCT xmin::text) FROM delivery_message") - before
        assert transactions <= 5


async def test_who_is_ready_waits_for_who_has_begun_and_not_for_who_does_not_come(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    # The machine of the test may be slow.
    monkeypatch.setattr(committer, "_COMES_SOON_S", 60)
    monkeypatch.setattr(committer, "_WAITS_FOR_COMPANY_S", 10)
    async with Room(world) as room:
        await room.send("first@far.test")
        room.store.expect(7)
        ready = asyncio.create_task(room.send("ready@far.test"))
        while not room.store._committer._waiting and not ready.done():
            await asyncio.sleep(0)
        for _ in range(10):  # the committer looks, and sees that somebody is expected
            await asyncio.sleep(0)

        room.store.expect_no_more(7)
        await asyncio.gather(ready, room.send("begun@far.test"))
        monkeypatch.setattr(committer, "_WAITS_FOR_COMPANY_S", 0.05)
        room.store.expect(8)
        await room.send("alone@far.test")

        together = await room.value(
            """SELECT count(DISTINCT message.xmin::text) FROM delivery_message AS message
               JOIN delivery_recipient AS recipient ON recipient.message_id = message.id
               WHERE recipient.address IN ('ready@far.test', 'begun@far.test')"""
        )
        assert together == 1
        assert await room.value("SELECT count(*) FROM delivery_message") == 4


async def test_a_tenant_over_its_quota_is_refused_and_the_others_are_stored(world: World):
    async with Room(world) as room:
        acme = world.principal(hourly_limit=3)
        sendings = [room.send(f"a{number}@far.test", principal=acme) for number in range(5)]
        sendings += [room.send_as_globex(f"g{number}@far.test") for number in range(5)]

        results = await outcomes(*sendings)

        refusals = [result for result in results if isinstance(result, Rejection)]
        assert len(refusals) == 2 and results[5:] == [r for r in results[5:] if not isinstance(r, Exception)]
        assert {refusal.reply for refusal in refusals} == {replies.SENDING_TOO_FAST}
        assert await room.value("SELECT count(*) FROM delivery_recipient") == 8
        used = await in_thread(lambda: QuotaBucket.objects.get(owner_id=world.cast.acme.id, period="hour").used)
        assert used == 3


@pytest.mark.parametrize("period", ["hourly_limit", "daily_limit", "monthly_limit"])
async def test_a_message_over_a_limit_counts_against_none(world: World, period: str):
    async with Room(world) as room:
        acme = world.principal(**{period: 2})
        with pytest.raises(Rejection):
            await room.send("a@far.test", "b@far.test", "c@far.test", principal=acme)

        await room.send("a@far.test", "b@far.test", principal=acme)

        buckets = await room.rows("SELECT used FROM accounts_quotabucket WHERE owner_id = %s", world.cast.acme.id)
        assert [bucket.used for bucket in buckets] == [2, 2, 2]


async def test_only_the_culprit_of_a_failing_batch_fails(world: World):
    async with Room(world) as room:
        nowhere = world.principal(retention_days=None)
        sendings = [room.send(f"r{number}@far.test") for number in range(10)]
        sendings.insert(5, room.send("bad@far.test", principal=nowhere))

        results = await outcomes(*sendings)

        assert [position for position, result in enumerate(results) if isinstance(result, Exception)] == [5]
        assert await room.value("SELECT count(*) FROM delivery_message") == 10


async def test_a_message_id_field_too_long_for_an_index_harms_nobody(world: World):
    identifier = "".join(chr(0x20000 + (number * 7919) % 40_000) for number in range(900))
    async with Room(world) as room:
        content = mail("Message-ID: <" + "\r\n ".join(identifier[at : at + 200] for at in range(0, 900, 200)) + ">")

        results = await outcomes(
            room.send("a@far.test"), room.send("b@far.test", content=content), room.send("c@far.test")
        )

        assert not any(isinstance(result, Exception) for result in results)


async def test_a_session_that_goes_away_does_not_take_its_message_back(world: World):
    async with Room(world) as room:
        sending = asyncio.create_task(room.send("a@far.test"))
        while not room.store._committer._waiting and not sending.done():
            await asyncio.sleep(0)
        sending.cancel()

        await room.send("b@far.test")

        assert await room.value("SELECT count(*) FROM delivery_message") == 2


async def cut(room: Room) -> None:
    await room.rows(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> %s""",
        room.world.test_backend,
    )


async def test_connections_that_died_while_nobody_used_them_cost_no_refusal(world: World):
    async with Room(world) as room:
        await room.send("first@far.test")
        await cut(room)

        async with asyncio.timeout(2):
            await room.send("second@far.test")

        assert await room.value("SELECT count(*) FROM delivery_message") == 2


async def test_a_connection_that_breaks_under_the_batch_fails_everybody_and_the_next_batch_is_stored(world: World):
    async with Room(world) as room:
        await room.send("first@far.test")
        async with room.connection.transaction():
            await room.rows("LOCK TABLE accounts_quotabucket")
            sendings = asyncio.gather(
                *(room.send(f"r{number}@far.test") for number in range(3)), return_exceptions=True
            )
            # Nothing was committed, so each batch is tried on a new connection, which waits too; that one breaks as well.
            while not sendings.done():
                await room.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
                await asyncio.sleep(0.01)
            results = await sendings

        assert all(isinstance(result, psycopg.Error) for result in results)
        assert await room.value("SELECT count(*) FROM delivery_message") == 1
        await room.send("again@far.test")


async def test_closing_commits_what_was_handed_in_and_refuses_what_comes_later(world: World):
    async with Room(world) as room:
        sendings = [asyncio.create_task(room.send(f"r{number}@far.test")) for number in range(5)]
        while len(room.store._committer._waiting) < 5 and not any(sending.done() for sending in sendings):
            await asyncio.sleep(0)

        await room.store.close()

        assert not any(isinstance(result, Exception) for result in await outcomes(*sendings))
        with pytest.raises(StoreClosed):
            await room.store._committer.commit(None)  # type: ignore[arg-type]
        assert await room.value("SELECT count(*) FROM delivery_message") == 5


async def test_closing_leaves_nobody_waiting_when_the_database_hangs(world: World):
    async with Room(world) as room, room.connection.transaction():
        await room.rows("LOCK TABLE accounts_quotabucket")
        sending = asyncio.create_task(room.send("a@far.test"))
        await room.until_somebody_waits_for_a_lock()

        await room.store.close(drain_s=0.1)

        with pytest.raises(StoreClosed):
            async with asyncio.timeout(1):
                await sending


async def test_a_message_waits_in_the_lane_of_its_domain_once_that_is_known(world: World):
    async with Room(world) as room:
        first = await room.send("a@far.test")
        group_id = await room.value(
            """INSERT INTO delivery_providergroup (key, kind, title, limits, created_at)
               VALUES ('site:mx.far.test', 'site', 'mx.far.test', '{}', %s) RETURNING id""",
            datetime.now(tz=UTC),
        )
        await room.rows("UPDATE delivery_domainroute SET group_id = %s", group_id)

        second = await room.send("b@far.test")

        assert (await room.entry(first)).lane_id != (await room.entry(second)).lane_id
        assert (await room.recipient(second)).group_id == group_id
