"""A machine whose clock is wrong, or is stepped while it works: the queue goes by the database's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from accounts import clock
from tests.support.engine_room import HOST, Room, World
from tests.support.smtp_peer import SmtpPeer

STEPS = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=30)]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    clock.forget()
    yield
    clock.forget()


@pytest.mark.parametrize("step", STEPS, ids=["an hour early", "an hour late", "a month early"])
async def test_a_step_of_the_clock_neither_hurries_nor_delays_nor_ends_anything(world: World, step: timedelta):
    script = {"rcpt": ["451 4.3.0 not now", "250 ok"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        before = await room.send("before@far.test")
        await room.until_state(before, "deferred")
        truth = datetime.now(tz=UTC)

        with time_machine.travel(truth + step, tick=True):
            waiting = await room.until_state(before, "delivered")
            after = await room.send("after@far.test")
            delivered = await room.until_state(after, "delivered")

        first, second = await room.attempts(before)
        (only,) = await room.attempts(after)
        moments = [second.started_at, second.ended_at, only.started_at, only.ended_at, waiting.state_since]
        moments += [delivered.state_since, clock.now()]
        ((accepted, expires),) = await room.rows(
            "SELECT accepted_at, expires_at FROM delivery_message WHERE id = %s", after
        )
        assert timedelta(seconds=0.85) < second.started_at - first.ended_at < timedelta(seconds=30)
        assert [moment for moment in [*moments, accepted] if abs(moment - truth) > timedelta(minutes=1)] == []
        assert expires - accepted > timedelta(minutes=1)


async def test_the_own_clock_is_used_while_it_is_right(world: World):
    async with Room(world) as room:
        await clock.learn(room.connection)

        with time_machine.travel(datetime.now(tz=UTC) + timedelta(seconds=1), tick=False) as own:
            assert clock.now() == datetime.now(tz=UTC)
            own.shift(timedelta(seconds=5))
            assert abs(datetime.now(tz=UTC) - clock.now()) > timedelta(seconds=4)
