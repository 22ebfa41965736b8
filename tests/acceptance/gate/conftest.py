"""A gate on loopback with a database behind it; alice of Acme has verified acme.example, charlie of Globex globex.example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import Authority
from tests.support.loop_thread import LoopThread

if TYPE_CHECKING:
    from accounts.credentials import Issued
    from tests.support.gate import RunningGate
    from tests.support.journeys import Cast


@pytest.fixture(scope="session")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority.make(tmp_path_factory.mktemp("tls"))
    authority.server_context("relay.test")
    return authority.folder / "relay.test.pem"


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    from delivery.models import SendingDomain
    from tests.support.journeys import make_cast

    cast = make_cast()
    for tenant, name in ((cast.acme, "acme.example"), (cast.globex, "globex.example")):
        SendingDomain.objects.create(tenant=tenant, name=name, state="verified", ownership_token="-")
    return cast


@pytest.fixture
def issue(cast: Cast) -> Callable[..., Issued]:
    """Issues a credential of Acme's: an SMTP login unless told otherwise."""
    from accounts.audit import Actor
    from accounts.credentials import issue_credential

    operator = Actor.person(cast.olivia)

    def issue(*, kind: str = "smtp", **options: Any) -> Issued:
        return issue_credential(options.pop("tenant", cast.acme), kind=kind, actor=operator, **options)

    return issue


@pytest.fixture
def login(issue: Callable[..., Issued]) -> Issued:
    return issue()


@pytest.fixture
def durable_database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' server trades durability for speed, and a gate rightly takes no mail then: it is told otherwise."""
    from delivery.acceptance import store

    async def read_durability(connection: Any) -> store.Durability:
        await connection.execute("SELECT 1")
        return store.Durability(fsync="on", synchronous_commit="on", full_page_writes="on")

    monkeypatch.setattr(store, "read_durability", read_durability)


@pytest.fixture
def start_gate(cast: Cast, durable_database: None, certificate_file: Path) -> Iterator[Callable[..., RunningGate]]:
    from tests.support.gate import RunningGate

    running: list[RunningGate] = []
    with LoopThread() as loop:

        def start(**options: Any) -> RunningGate:
            running.append(RunningGate.start(loop, certificate_file, **options))
            running[-1].wait_until_ready()
            return running[-1]

        yield start
        for gate in running:
            gate.stop()


@pytest.fixture
def gate(start_gate: Callable[..., RunningGate]) -> RunningGate:
    return start_gate()
