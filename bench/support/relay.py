"""A whole relayweb to be measured: script/server with embedded database and broker, without a sandbox."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

from tests.support.stack import Stack

TENANT, DOMAIN = "bench", "bench.example"
_READY_WITHIN_S = 240.0  # on a machine that is busy with something else


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Relay:
    """With a tenant whose mail is taken from loopback without a login. ``port`` is that of its submission."""

    stack: Stack

    @property
    def port(self) -> int:
        return self.stack.ports["submission"]

    @property
    def database(self) -> str:
        """Its URL."""
        return self._environment["RELAY_DATABASE_URL"]

    @property
    def _environment(self) -> dict[str, str]:
        written: dict[str, str] = json.loads((self.stack.var / "run" / "environment.json").read_text())
        return written

    def wal_octets(self) -> int:
        """Written to the database's log since it exists: what a standby or an archive would receive."""
        return int(self.rows("SELECT pg_current_wal_insert_lsn() - '0/0'")[0][0])

    def stored_octets(self) -> int:
        """Of the whole database, indexes included."""
        return int(self.rows("SELECT pg_database_size(current_database())")[0][0])

    @property
    def _broker_socket(self) -> str:
        return urlsplit(self._environment["RELAY_BROKER_URL"]).path

    def broker_commands(self) -> int:
        """Carried out by the broker since it was started."""
        with redis.Redis(unix_socket_path=self._broker_socket) as broker:
            return int(broker.info("stats")["total_commands_processed"])

    def rows(self, sql: str) -> list[Any]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[arg-type]

    def command(self, *arguments: str) -> Any:
        return self.stack.relay(*arguments)

    def cpu_seconds(self) -> dict[str, float]:
        """What each part has used of the processors since it was started, in seconds."""
        used: dict[str, float] = {}
        for pid_file in sorted((self.stack.var / "run").glob("*.pid")):
            part = pid_file.stem.partition("-")[0]
            used[part] = used.get(part, 0.0) + _cpu_seconds(int(pid_file.read_text().split()[0]))
        return used


def _cpu_seconds(pid: int) -> float:
    """Of a process and all that it has started and still has, those that have ended included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    ticks = sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(_cpu_seconds(int(child)) for child in children)


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: round(seconds - before.get(part, 0.0), 1) for part, seconds in after.items()}


@contextmanager
def running(folder: Path, *, outbound_port: int, dns: str, **settings: str) -> Iterator[Relay]:
    """``settings`` are further RELAY_ variables."""
    var = folder / "relay"
    var.mkdir(exist_ok=True)
    var.chmod(0o711)
    stack = Stack.make(
        var,
        free_port,
        RELAY_SANDBOX="off",
        RELAY_TEST_PROFILE="1",
        RELAY_HOSTNAME="relay.bench.example",
        RELAY_DNS=dns,
        RELAY_OUTBOUND_PORT=str(outbound_port),
        RELAY_ALLOW_DESTINATIONS="127.0.0.0/8",
        **{"RELAY_GATE_CONNECTIONS_PER_ADDRESS": "1000", **settings},
    )
    try:
        stack.start(seconds=_READY_WITHIN_S)
        relay = Relay(stack)
        _prepare(relay)
        yield relay
    finally:
        if stack.process is not None and stack.process.poll() is None:
            stack.stop()


def _prepare(relay: Relay) -> None:
    add_tenant(relay, TENANT, DOMAIN, network="127.0.0.1/32")


def add_tenant(relay: Relay, name: str, domain: str, *, network: str) -> None:
    """A tenant with a verified domain, whose mail is taken from ``network`` without a login, limits or brakes."""
    relay.command("tenant", "create", "--name", name, "--slug", name, "--owner-email", f"owner@{domain}")
    relay.command("domain", "add", "--tenant", name, "--name", domain, "--assume-verified")
    relay.command("credential", "issue", "--tenant", name, "--kind", "network", "--cidr", network, "--name", "load")
    relay.command(
        "limits", "set", "--tenant", name, "--hourly", "100000000", "--daily", "100000000", "--monthly", "1000000000"
    )
    # A known customer: what a new credential may have in flight is not what is measured.
    relay.command("brake", "level", "--tenant", name, "--set", "none")
