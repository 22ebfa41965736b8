"""Which parts relayweb consists of on one machine: how each is started, when it counts as ready, how it is asked to stop.

A part is a value; the supervisor runs it. Parts that come in several processes carry a number (gate-1, gate-2), the others
their bare name. Order is said by what a part needs, and by the stage in which it is stopped: gates first, so that nothing
new is accepted, then those who read, those who send, and the services they stand on last.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relayweb import env
from relayweb.processes import listening
from relayweb.processes.broker import Broker
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import ROOT, State

# The order of stopping.
GATE, WEB, WORKER, BEAT, SANDBOX, BROKER, DATABASE = range(7)

HOUSEKEEPING_QUEUES = "housekeeping,reports"
WEBHOOK_QUEUE = "webhooks"

HEADER_OCTETS = 65_536  # of one request's line and fields; more is answered 431
HEADER_SECONDS_MOST = 60  # granian's


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Part:
    name: str
    command: tuple[str, ...]
    stage: int
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    # Asked with the process id; None counts as ready once it runs. It must answer at once: the supervisor waits for it.
    is_ready: Callable[[int], bool] | None = None
    is_awaited: bool = True  # whether the whole is up only with it; otherwise it is enough that it has been started
    is_step: bool = False  # runs to its end once; what it writes to stdout is meant for the person at the terminal
    before_start: Callable[[], None] = _nothing
    after_ready: Callable[[], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    owner: Mapping[str, object] = field(default_factory=dict)  # Popen's user, group and extra_groups
    working_directory: Path = ROOT
    alive_file: Path | None = None  # touched by the part while it makes progress
    knows_secrets: bool = True  # whether it is given our environment
    is_quiet: bool = False  # what it writes is only worth a look when something is wrong


def postgres_part(postgres: Postgres) -> Part:
    return Part(
        name="postgres",
        command=tuple(postgres.command()),
        stage=DATABASE,
        is_ready=lambda _pid: postgres.is_ready(),
        before_start=postgres.prepare,
        after_ready=postgres.ensure_database,
        stop_signal=signal.SIGINT,  # a fast shutdown; SIGTERM would wait for every client to leave
        stop_seconds=30.0,
        owner=postgres.owner,
        working_directory=Path("/"),
        knows_secrets=False,
        is_quiet=True,
    )


def broker_part(broker: Broker) -> Part:
    return Part(
        name="broker",
        command=tuple(broker.command()),
        stage=BROKER,
        is_ready=lambda _pid: broker.is_ready(),
        before_start=broker.prepare,
        knows_secrets=False,
        is_quiet=True,
    )


def prepare_part(*, database_is_embedded: bool, needs: tuple[str, ...]) -> Part:
    """Migrations and, in development, the demo tenant."""
    return Part(
        name="prepare",
        command=(sys.executable, "-m", "relayweb.processes.prepare"),
        stage=WORKER,
        needs=needs,
        environment={"RELAY_PART": "command"} | ({"RELAY_DATABASE_IS_EMBEDDED": "1"} if database_is_embedded else {}),
        is_step=True,
        stop_seconds=5.0,
    )


def sandbox_part(state: State) -> Part:
    http = env.endpoints("SANDBOX_HTTP_BIND", "127.0.0.1:8025")
    return Part(
        name="sandbox",
        command=(sys.executable, "-m", "sandbox"),
        stage=SANDBOX,
        is_ready=_listens_on(*[endpoint.port for endpoint in http[:1]]),
        before_start=lambda: (state.folder / "sandbox" / "zones").mkdir(parents=True, exist_ok=True),
        stop_seconds=5.0,
    )


def gate_parts(*, needs: tuple[str, ...]) -> list[Part]:
    binds = gate_endpoints()
    count = env.integer("GATE_PROCESSES", os.cpu_count() or 1, minimum=1, maximum=64)
    return [
        Part(
            name=f"gate-{number}",
            command=(sys.executable, "-m", "django", "smtpgate", "--process", str(number)),
            stage=GATE,
            needs=needs,
            environment={"RELAY_PART": "gate", "DJANGO_SETTINGS_MODULE": "relayweb.settings"}
            | ({"RELAY_RETURNS_BIND": "off"} if _returns_processes() else {}),
            is_ready=_listens_on(*[endpoint.port for endpoint in binds]),
            stop_seconds=25.0,
        )
        for number in range(1, count + 1)
    ]


def returns_parts(*, needs: tuple[str, ...]) -> list[Part]:
    """The port that anybody may write to, in processes of its own (and so with a database role of its own)."""
    endpoints = env.endpoints("RETURNS_BIND", "127.0.0.1:2525")
    return [
        Part(
            name=f"returns-{number}",
            command=(sys.executable, "-m", "django", "smtpgate", "--process", str(number)),
            stage=GATE,
            needs=needs,
            environment={
                "RELAY_PART": "returns",
                "DJANGO_SETTINGS_MODULE": "relayweb.settings",
                "RELAY_SUBMISSION_BIND": "off",
                "RELAY_SUBMISSIONS_BIND": "off",
            },
            is_ready=_listens_on(*[endpoint.port for endpoint in endpoints]),
            stop_seconds=25.0,
        )
        for number in range(1, _returns_processes() + 1)
        if endpoints
    ]


def _returns_processes() -> int:
    return env.integer("RETURNS_PROCESSES", 0, minimum=0, maximum=64)


def gate_endpoints() -> list[env.Endpoint]:
    return [
        *env.endpoints("SUBMISSION_BIND", "127.0.0.1:2587"),
        *env.endpoints("SUBMISSIONS_BIND", "127.0.0.1:2465"),
        *([] if _returns_processes() else env.endpoints("RETURNS_BIND", "127.0.0.1:2525")),
    ]


def web_parts(*, needs: tuple[str, ...]) -> list[Part]:
    """Granian listens on one address; each further address of RELAY_HTTP_BIND has a server of its own.

    HTTP/1 only: with `auto` a connection that never says which version it speaks is waited for without end. What granian
    calls backpressure is how many connections it has open at once.
    """
    binds = env.endpoints("HTTP_BIND", "127.0.0.1:8000")
    workers = env.integer("WEB_PROCESSES", 1, minimum=1, maximum=64)
    connections = env.integer("WEB_CONNECTIONS", 4000, minimum=16)
    header_seconds = env.seconds("WEB_HEADER_SECONDS", 15, minimum=0.1)
    return [
        Part(
            name="web" if len(binds) == 1 else f"web-{number}",
            command=(
                sys.executable,
                "-m",
                "granian",
                "--interface",
                "asginl",
                "--host",
                bind.host,
                "--port",
                str(bind.port),
                "--workers",
                str(workers),
                "--http",
                "1",
                "--http1-header-read-timeout",
                str(round(min(header_seconds, HEADER_SECONDS_MOST) * 1000)),
                "--http1-buffer-size",
                str(HEADER_OCTETS),
                "--backpressure",
                str(connections),
                "--no-ws",
                "--respawn-failed-workers",
                "--workers-kill-timeout",
                "10",
                "--log-level",
                "warning",
                "relayweb.asgi:application",
            ),
            stage=WEB,
            needs=needs,
            environment={"RELAY_PART": "web"},
            is_ready=_listens_on(bind.port),
            stop_seconds=15.0,
        )
        for number, bind in enumerate(binds, start=1)
    ]


def worker_parts(state: State, *, node: str, needs: tuple[str, ...]) -> list[Part]:
    """Delivery workers: the engine inside is what delivers; Celery only carries wake-ups to it."""
    count = env.integer("WORKER_PROCESSES", os.cpu_count() or 1, minimum=1, maximum=64)
    return [
        _celery_part(
            state,
            name=f"worker-{number}",
            part="worker",
            arguments=("--concurrency", "2", "-Q", f"egress.{node}", "-n", f"worker-{number}@{node}"),
            environment={"RELAY_WORKER_SLOT": str(number)},
            needs=needs,
            stop_seconds=30.0,
        )
        for number in range(1, count + 1)
    ]


def webhook_parts(state: State, *, node: str, needs: tuple[str, ...]) -> list[Part]:
    """Callers of webhooks, apart from everything else: their work is with endpoints that may be slow or dead."""
    count = env.integer("WEBHOOK_PROCESSES", 1, minimum=1, maximum=64)
    return [
        _celery_part(
            state,
            name="webhooks" if count == 1 else f"webhooks-{number}",
            part="webhooks",
            arguments=("--concurrency", "2", "-Q", WEBHOOK_QUEUE, "-n", f"webhooks-{number}@{node}"),
            environment={"RELAY_WORKER_SLOT": str(number)},
            needs=needs,
            stop_seconds=25.0,
            is_awaited=False,
        )
        for number in range(1, count + 1)
    ]


def housekeeping_part(state: State, *, node: str, needs: tuple[str, ...]) -> Part:
    return _celery_part(
        state,
        name="housekeeping",
        part="housekeeping",
        arguments=("--concurrency", "4", "-Q", HOUSEKEEPING_QUEUES, "-n", f"housekeeping@{node}"),
        environment={},
        needs=needs,
        stop_seconds=30.0,
        is_awaited=False,
    )


def _celery_part(
    state: State,
    *,
    name: str,
    part: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    needs: tuple[str, ...],
    stop_seconds: float,
    is_awaited: bool = True,
) -> Part:
    alive_file = state.run / f"{name}.alive"
    return Part(
        name=name,
        command=(
            sys.executable,
            "-m",
            "celery",
            "-A",
            "relayweb.celery",
            "--quiet",
            "worker",
            "--pool",
            "threads",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            *arguments,
        ),
        stage=WORKER,
        needs=needs,
        environment={"RELAY_PART": part, "RELAY_ALIVE_FILE": str(alive_file), **environment},
        is_ready=_names_in(alive_file),
        alive_file=alive_file,
        stop_seconds=stop_seconds,
        is_awaited=is_awaited,
    )


def beat_part(state: State, *, needs: tuple[str, ...]) -> Part:
    alive_file = state.run / "beat.alive"
    return Part(
        name="beat",
        command=(
            sys.executable,
            "-m",
            "celery",
            "-A",
            "relayweb.celery",
            "--quiet",
            "beat",
            "--pidfile=",
            "--schedule",
            str(state.folder / "beat.schedule"),
        ),
        stage=BEAT,
        needs=needs,
        environment={"RELAY_PART": "beat", "RELAY_ALIVE_FILE": str(alive_file)},
        is_awaited=False,
        is_ready=_names_in(alive_file),
        alive_file=alive_file,
    )


def _listens_on(*ports: int) -> Callable[[int], bool]:
    return lambda pid: listening.process_listens_on(pid, ports)


def _names_in(alive_file: Path) -> Callable[[int], bool]:
    """The part writes its process id there when it is up; a predecessor's file does not count."""

    def is_up(pid: int) -> bool:
        try:
            return alive_file.read_text(encoding="ascii").strip() == str(pid)
        except OSError:
            return False

    return is_up
