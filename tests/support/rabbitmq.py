"""A RabbitMQ node of a test's own: ports, home, cookie and port mapper are private, and everything ends with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.ports import find_free_ports
from tests.support.waiting import until

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_STARTS_WITHIN_S = 60.0


def why_not() -> str:
    """Empty where a node can be started here."""
    if not _PROGRAM.exists():
        return "rabbitmq-server is not installed; CI leaves it out, since installing and starting it takes over 20 s"
    return "" if os.getuid() == 0 else "only root can start it as its own user"


class RabbitMq:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._distribution, self._mapper = find_free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "plugins").write_text("[].\n")
        self._account = pwd.getpwnam("rabbitmq")
        for path in (folder, folder / "plugins"):
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        with (self.folder.parent / "rabbitmq.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_PROGRAM],
                env=self._environment(),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=self._account.pw_uid,
                group=self._account.pw_gid,
                extra_groups=[],
                start_new_session=True,
            )
        until(self._listens, seconds=_STARTS_WITHIN_S, what="RabbitMQ")

    def kill(self) -> None:
        """kill -9 of the whole node, port mapper included."""
        assert self._process is not None
        for pid in [self._process.pid, *self._own_processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)

    def _own_processes(self) -> Iterator[int]:
        """What was started with this folder in its environment, however it went into the background."""
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"HOME={self.folder}\0".encode() in path.read_bytes():
                    yield int(path.parent.name)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
        }

    def remove(self) -> None:
        with contextlib.suppress(Exception):
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def kind_of(url: str, queue: str) -> str:
    """`quorum`, `classic`, or empty where there is no such queue."""
    from amqp.exceptions import NotFound, PreconditionFailed
    from kombu import Connection

    with Connection(url, connect_timeout=5) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except NotFound:
            return ""
        try:
            connection.channel().queue_declare(
                queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
            )
        except PreconditionFailed:
            return "classic"
        return "quorum"


def consumers_of(url: str, queue: str) -> int:
    """0 as well where there is no such queue, or no broker."""
    from amqp.exceptions import AMQPError
    from kombu import Connection

    with contextlib.suppress(AMQPError, OSError), Connection(url, connect_timeout=2) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
    return 0
