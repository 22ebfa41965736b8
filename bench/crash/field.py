"""One whole relayweb between a client and receiving hosts, each a process of its own, and what must be known to hurt it.

Everything lives in one folder and in a network of its own where that is permitted. Only processes that descend from this one are
ever signalled: their numbers come from relayweb's own pid files, and their ancestry is looked up at that moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from bench.crash.ledger import Reader
from bench.crash.sink import HOSTS
from bench.support.names import Names
from bench.support.relay import TENANT, Relay, free_port, running
from relayweb.processes import children, listening
from relayweb.processes.postgres import PORT, Postgres
from relayweb.processes.state import State


class Skipped(Exception):
    """Why a fault cannot be made on this machine, as a sentence."""


ROOT = Path(__file__).resolve().parents[2]
LEASE_S, SWEEP_S = 5.0, 1.0
PROXY, RECEIVER = "127.77.1.1", "127.77.1.2"
SMALL_DISK_MB = 700
_CLONE_NEWNS = 0x00020000
_BACK_WITHIN_S = 240.0
DOMAINS = {name: [f"{name}-{number}.example" for number in range(8)] for name in HOSTS}
SETTINGS = {
    "RELAY_LEASE_SECONDS": f"{LEASE_S:g}",
    "RELAY_SWEEP_SECONDS": f"{SWEEP_S:g}",
    "RELAY_RETRY_SCHEDULE": "2,4,8,16",
    "RELAY_WEBHOOK_DESTINATIONS": "127.0.0.0/8",
    "RELAY_API_REQUESTS_PER_MINUTE": "100000",
    "RELAY_API_TENANT_REQUESTS_PER_MINUTE": "100000",
}


def parent_of(pid: int) -> int:
    """0 where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_ours(pid: int) -> bool:
    """Whether the process descends from this one."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parent_of(pid)
    return False


def descendants(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


@dataclass(frozen=True, slots=True)
class Up:
    """A process of a part that had come up at that moment."""

    part: str
    pid: int
    at: float


@dataclass
class Watch(threading.Thread):
    """Notices which processes of relayweb are up, and how long what a dead worker had stays without an owner."""

    relay: Relay
    ups: list[Up] = field(default_factory=list)
    longest_stranded_s: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._is_stopping = threading.Event()
        self._is_up: dict[str, int] = {}
        self._turn = threading.Lock()
        self._worker_since: float | None = None  # from when on there was always one

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._is_stopping.wait(0.1):
            self.look()
            with contextlib.suppress(psycopg.Error, OSError):
                if connection is None or connection.closed or connection.broken:
                    connection = None
                    connection = psycopg.connect(self.relay.database, autocommit=True, connect_timeout=2)
                row = connection.execute(_STRANDED).fetchone()
                if row and row[0] is not None and self._worker_since is not None:
                    # Without any worker nothing can be taken over.
                    stranded_s = min(float(row[0]), time.monotonic() - self._worker_since)
                    self.longest_stranded_s = max(self.longest_stranded_s, stranded_s)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        self._is_stopping.set()
        self.join(10)

    def look(self) -> dict[str, int]:
        """The process of each part that is up now."""
        with self._turn:
            now_up = {}
            for path in (self.relay.stack.var / "run").glob("*.pid"):
                try:
                    pid = int(path.read_text())
                except (OSError, ValueError):
                    continue
                if self._is_up.get(path.stem) == pid:
                    if children.is_alive(pid):
                        now_up[path.stem] = pid
                elif self._has_come_up(path.stem, pid):
                    now_up[path.stem] = pid
                    self.ups.append(Up(path.stem, pid, time.monotonic()))
            self._is_up = now_up
            if not any(name.startswith("worker") for name in now_up):
                self._worker_since = None
            elif self._worker_since is None:
                self._worker_since = time.monotonic()
            return dict(now_up)

    def _has_come_up(self, part: str, pid: int) -> bool:
        kind = part.partition("-")[0]
        ports = self.relay.stack.ports
        if kind == "gate":
            return listening.process_listens_on(pid, [ports["submission"], ports["submissions"], ports["returns"]])
        if kind == "web":
            return listening.process_listens_on(pid, [ports["http"]])
        if kind in {"worker", "beat", "housekeeping", "webhooks"}:
            with contextlib.suppress(OSError):
                alive = self.relay.stack.var / "run" / f"{part}.alive"
                return alive.read_text(encoding="ascii").strip() == str(pid)
            return False
        if kind == "postgres":
            with contextlib.suppress(psycopg.Error, OSError):
                psycopg.connect(self.relay.database, connect_timeout=2).close()
                return True
            return False
        return children.is_alive(pid)


# Claimed entries whose path has had no owner for so long. Being between two owners is not yet being stranded.
_STRANDED = """SELECT extract(epoch FROM max(clock_timestamp() - path.leased_until))
               FROM delivery_path path WHERE path.leased_until < clock_timestamp()
                 AND EXISTS (SELECT 1 FROM delivery_queue_entry WHERE path_id = path.id AND fence = path.fence)"""


class Field:
    """Client and receiving hosts around a relay. ``feed`` and ``stop_feeding`` may be called again and again."""

    def __init__(self, relay: Relay, folder: Path, *, seed: str, key: str, processes: int) -> None:
        self.relay, self.folder, self.seed = relay, folder, seed
        self.watch = Watch(relay)
        self.sent = Reader(folder / "client.ledger")
        self.taken = Reader(folder / "sink.ledger")
        self.told = Reader(folder / "receiver.ledger")
        self._key = key
        self.processes = {"gate": processes, "worker": processes}
        self._feeds = 0
        self._client: subprocess.Popen[str] | None = None
        self.proxy: subprocess.Popen[str] | None = None

    def feed(
        self, hosts: Sequence[str], *, sessions: int, api_sessions: int, every_s: float, cuts: float = 0.0
    ) -> None:
        self._feeds += 1
        options = {
            "seed": f"{self.seed}/{self._feeds}",
            "prefix": f"{self.seed.replace('/', '-')}-{self._feeds}",
            "domains": [domain for name in hosts for domain in DOMAINS[name]],
            "sessions": sessions,
            "api_sessions": api_sessions,
            "every_s": every_s,
            "cuts": cuts,
            "key": self._key,
        }
        self._client = _start(
            "bench.crash.client",
            str(self.folder / "client.ledger"),
            str(self.relay.port),
            str(self.relay.stack.ports["http"]),
            json.dumps(options),
        )

    def stop_feeding(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            assert client.stdin is not None
            assert client.poll() is None, "the client has ended by itself"
            client.stdin.close()
            client.wait(150)

    @property
    def is_told(self) -> bool:
        """Whether there is a receiver of webhooks."""
        return (self.folder / "receiver.ledger").exists()

    # ---------------------------------------------------------------- what can be hurt

    def running(self, part: str) -> dict[str, int]:
        """The processes of a part that are up, by name: gate-1, gate-2 for ``gate``."""
        return {name: pid for name, pid in self.watch.look().items() if name.partition("-")[0] == part}

    def signal(self, pid: int, number: signal.Signals) -> None:
        if not is_ours(pid):
            raise RuntimeError(f"{pid} was not started by this harness")
        os.kill(pid, number)

    def kill_everything(self) -> None:
        """The supervisor and all below it, at once; what is left without a parent ends by the kernel's promise to it."""
        process = self.relay.stack.process
        assert process is not None and is_ours(process.pid)
        doomed = [process.pid, *descendants(process.pid)]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10)

    def start_again(self) -> None:
        self.relay.stack.start(seconds=_BACK_WITHIN_S)

    # ---------------------------------------------------------------- the database and its disk

    def lose_an_answer(self, *, within_s: float) -> list[float]:
        """The next COMMIT's answer; returns when it was lost, or nothing where nobody sent one in time."""
        assert self.proxy is not None and self.proxy.stdin is not None
        ledger = Reader(self.folder / "proxy.ledger")
        before = len(ledger.read())
        self.proxy.stdin.write("lose\n")
        self.proxy.stdin.flush()
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if len(ledger.read()) > before:
                return [fact.at for fact in ledger.facts[before:]]
            time.sleep(0.05)
        return []

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Of the database, which must be a small one."""
        filling = self.relay.stack.var / "postgres" / "filling"
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 1_048_576)
        try:
            yield
        finally:
            filling.unlink()

    def rows(self, sql: str) -> list[Any]:
        return self.relay.rows(sql)


@contextlib.contextmanager
def open_field(folder: Path, *, seed: str, needs: str = "", tells: bool = False, processes: int = 3) -> Iterator[Field]:
    """``needs`` is that of a fault: a ``proxy`` before the database, or a ``small disk`` below it.

    ``tells``: with a receiver of webhooks. ``processes``: so many gates, and so many workers.
    """
    port = free_port()
    hosts = {domain: HOSTS[name] for name, domains in DOMAINS.items() for domain in domains}
    with contextlib.ExitStack() as stack:
        _ledger_process(stack, "bench.crash.sink", str(folder / "sink.ledger"), str(port), seed)
        names = stack.enter_context(Names(hosts))
        proxy = None
        settings = SETTINGS | dict.fromkeys(("RELAY_GATE_PROCESSES", "RELAY_WORKER_PROCESSES"), str(processes))
        if needs == "proxy":
            proxy, further = _database_behind_a_proxy(stack, folder)
            settings |= further
        elif needs == "small disk":
            _mount_small_disk(stack, folder / "relay" / "postgres")
        relay = stack.enter_context(running(folder, outbound_port=port, dns=names.address, **settings))
        key = relay.command("credential", "issue", "--tenant", TENANT, "--kind", "api", "--name", "api")["secret"]
        if tells:
            _add_webhook(stack, folder, relay)
        field = Field(relay, folder, seed=seed, key=key, processes=processes)
        field.proxy = proxy
        field.watch.start()
        try:
            yield field
        finally:
            field.watch.stop()
            _end(field._client)  # only where it was not stopped in order


def _ledger_process(stack: contextlib.ExitStack, module: str, *arguments: str) -> subprocess.Popen[str]:
    process = _start(module, *arguments)
    stack.callback(_end, process)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n", f"{module} has ended at once"
    return process


def _add_webhook(stack: contextlib.ExitStack, folder: Path, relay: Relay) -> None:
    port = free_port()
    _ledger_process(stack, "bench.crash.receiver", str(folder / "receiver.ledger"), RECEIVER, str(port))
    events = [word for kind in ("delivered", "bounced", "expired") for word in ("--event", kind)]
    url = f"http://{RECEIVER}:{port}/"
    relay.command("webhook", "add", "--tenant", TENANT, "--url", url, "--batch", "20", *events)


def _database_behind_a_proxy(stack: contextlib.ExitStack, folder: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A database of its own, as script/server would start it, that relayweb reaches through the proxy only."""
    postgres = Postgres.of(State.open(folder / "database"))
    postgres.start()
    stack.callback(postgres.stop)
    postgres.ensure_database()
    port = free_port()
    there = f"{postgres.socket_folder}/.s.PGSQL.{PORT}"
    proxy = _ledger_process(stack, "bench.crash.proxy", str(folder / "proxy.ledger"), PROXY, str(port), there)
    address = postgres.url().replace(f"?host={quote(str(postgres.socket_folder), safe='/')}", "")
    address = address.replace("@/", f"@{PROXY}:{port}/")
    return proxy, {"RELAY_DATABASE_URL": address, "RELAY_PROFILE": "development"}


def _mount_small_disk(stack: contextlib.ExitStack, place: Path) -> None:
    """In a mount namespace of our own, which ends with us. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise Skipped(f"no disk can be made that is small: {os.strerror(ctypes.get_errno())}")
    place.mkdir(parents=True)
    place.parent.chmod(0o711)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MB}m", "proof", str(place)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"no disk can be made that is small: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False)


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=children.die_with_parent(signal.SIGKILL),
    )


def _end(process: subprocess.Popen[str] | None) -> None:
    if process is not None and process.poll() is None:
        process.kill()
        process.wait(10)
