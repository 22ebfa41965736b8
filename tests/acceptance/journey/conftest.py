"""One whole relayweb for the tests of this folder, started as script/server starts it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TEST_FOLDER
from tests.support.stack import Stack


@dataclass(frozen=True)
class Sender:
    """A tenant with a verified domain and an SMTP login."""

    slug: str
    domain: str
    username: str
    secret: str


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    var = Path(tempfile.mkdtemp(prefix="stack-", dir=TEST_FOLDER))
    var.chmod(0o711)
    given: set[int] = set()
    running = Stack.make(
        var,
        lambda: _free_port(given),
        RELAY_LEASE_SECONDS="5",
        RELAY_SWEEP_SECONDS="1",
        RELAY_RETRY_SCHEDULE="2,4,8,16",
        RELAY_GATE_PROCESSES="2",
        RELAY_WORKER_PROCESSES="2",
    )
    running.start()
    yield running
    code = running.stop()
    shutil.rmtree(var, ignore_errors=True)
    assert code == 0, "\n".join(running.log[-60:])
    # Every part has a database role of its own here. What the server itself logs includes what tests tried in vain.
    denied = [line for line in running.log if "permission denied" in line and '"part":"postgres"' not in line]
    assert denied == []


def _free_port(given: set[int]) -> int:
    import socket

    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in given:
            given.add(port)
            return port


@pytest.fixture(scope="session")
def acme(stack: Stack) -> Sender:
    tenant = stack.relay("tenant", "create", "--name", "Acme", "--owner-email", "alice@acme.example")
    stack.relay("domain", "add", "--tenant", tenant["slug"], "--name", "acme.example", "--assume-verified")
    credential = stack.relay("credential", "issue", "--tenant", tenant["slug"], "--kind", "smtp", "--name", "shop")
    return Sender(tenant["slug"], "acme.example", credential["username"], credential["secret"])
