"""What several kinds of these tests need. Django's tables are imported late: pytest reads this file before Django is set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dns_server import FakeDns
from tests.support.loop_thread import LoopThread

if TYPE_CHECKING:
    from accounts.audit import Actor
    from accounts.models import Tenant


@pytest.fixture
def operator() -> Actor:
    from accounts.audit import Actor

    return Actor("olivia@relay.example", is_operator=True, peer_address="192.0.2.1")


@pytest.fixture
def alice() -> Actor:
    from accounts.audit import Actor

    return Actor("alice@acme.example", peer_address="192.0.2.2")


@pytest.fixture
def acme(db: None, operator: Actor) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Acme", owner_email="alice@acme.example", actor=operator)[0]


@pytest.fixture
def globex(db: None, operator: Actor) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Globex", owner_email="charlie@globex.example", actor=operator)[0]


@pytest.fixture
def name_server(settings: Any) -> Iterator[FakeDns]:
    """The name server that domains are looked up at. What a test writes into it counts for the next look."""
    from relayweb.env import Endpoint

    async def start() -> FakeDns:
        return await FakeDns().__aenter__()

    with LoopThread() as loop:
        server = loop.run(start())
        settings.DNS = Endpoint(*server.address)
        yield server
        loop.run(server.__aexit__(None, None, None))


@pytest.fixture
def safe_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' server runs without fsync, over which nothing is promised; here it is the doors that are tested."""
    from delivery.acceptance import store

    async def durable(_connection: Any) -> store.Durability:
        return store.Durability(fsync="on", synchronous_commit="on", full_page_writes="on")

    monkeypatch.setattr(store, "read_durability", durable)


@pytest.fixture
def own_door() -> Iterator[None]:
    """The acceptance loop of a test knows that test's database alone, and lets go of it."""
    from delivery.acceptance import door

    yield
    door.close()
