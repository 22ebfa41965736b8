"""The embedded broker."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from relayweb.processes.broker import Broker
from relayweb.processes.state import State
from tests.support.waiting import until


@pytest.fixture
def make(var: Path) -> Iterator[Callable[[], Broker]]:
    made: list[Broker] = []

    def of() -> Broker:
        made.append(Broker.of(State.open(var)))
        return made[-1]

    yield of
    for broker in made:
        broker.stop()


def test_it_listens_on_a_private_socket_only(make: Callable[[], Broker]) -> None:
    broker = make()

    broker.start()

    with redis.Redis.from_url(broker.cache_url()) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert stat.S_IMODE(broker.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(broker.socket.parent.stat().st_mode) == 0o700


def test_it_comes_back_with_what_it_held_after_being_killed(make: Callable[[], Broker]) -> None:
    broker = make()
    broker.start()
    with redis.Redis.from_url(broker.cache_url()) as client:
        client.set("kept", "yes")
    assert broker._process is not None

    os.kill(broker._process.pid, signal.SIGKILL)
    until(lambda: not broker.is_ready())
    again = make()
    again.start()

    with redis.Redis.from_url(again.cache_url(), decode_responses=True) as client:
        assert client.get("kept") == "yes"
