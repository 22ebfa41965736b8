"""`script/server`: everything relayweb needs, on this machine, until Ctrl-C or SIGTERM.

Starts the embedded services that no URL replaces, brings the database up to date, starts the sandbox (in development),
gates, workers, housekeeping, beat and web, and prints the line `ready` with the addresses once GET /health/ready answers
200. A start that cannot succeed ends at once with exit code 1 and a sentence.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping

from relayweb import env
from relayweb.processes import catalogues, environment, leftovers, listening, migrations, parts
from relayweb.processes.broker import Broker
from relayweb.processes.parts import Part
from relayweb.processes.postgres import Postgres
from relayweb.processes.probe import Probe
from relayweb.processes.state import State, StateError
from relayweb.processes.stream import LogStream
from relayweb.processes.supervisor import Supervisor

STARTED_AT = time.monotonic()
SLOW_START_SECONDS = 30.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="script/server", description="Runs relayweb on this machine until Ctrl-C; set it up by RELAY_ variables."
    )
    parser.parse_args(arguments)
    stream = LogStream(level=env.choice("LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"))
    try:
        state = State.open()
        with state.lock():
            return _serve(state, stream)
    except (StateError, catalogues.CatalogueError) as reason:
        print(f"relayweb cannot start: {reason}", file=sys.stderr)
        return 1


def _serve(state: State, stream: LogStream) -> int:
    if os.environ.get("DATABASE_URL") and not environment.is_given("DATABASE_URL"):
        raise env.ConfigurationError(
            "DATABASE_URL is not read; set RELAY_DATABASE_URL, or unset it to use the embedded one"
        )
    for name in leftovers.end_leftovers(state):
        stream.say(f"{name} of a server that was killed was still running, and has been ended", level="warning")
    postgres = None if environment.is_given("DATABASE_URL") else Postgres.of(state)
    broker = None if environment.is_given("BROKER_URL") else Broker.of(state)
    os.environ.update(environment.fill_in(state, postgres=postgres, broker=broker))
    for note in postgres.notes if postgres else ():
        stream.announce(note)
    if postgres is not None and not postgres.exists:
        stream.say(f"making a database (PostgreSQL {postgres.binaries.version}) in {postgres.home}")
    for path in catalogues.compile_outdated():
        stream.say(f"compiled the catalogue {path.parent.parent.name}")
    _check_addresses()

    (state.folder / "static").mkdir(exist_ok=True)  # where collected files would be; development serves them in place
    metrics_folder = state.run / "metrics"
    shutil.rmtree(metrics_folder, ignore_errors=True)
    metrics_folder.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_folder)

    announcer = Announcer(stream)
    supervisor = Supervisor(
        state,
        choose_parts(state, postgres=postgres, broker=broker),
        environment=os.environ,
        stream=stream,
        when_all_are_up=announcer,
    )
    state.record_environment(_for_commands(os.environ))
    try:
        return supervisor.run()
    finally:
        state.forget_environment()


def choose_parts(state: State, *, postgres: Postgres | None, broker: Broker | None) -> list[Part]:
    node = os.environ["RELAY_NODE"]
    services: list[Part] = []
    if postgres is not None:
        services.append(parts.postgres_part(postgres))
    if broker is not None:
        services.append(parts.broker_part(broker))
    database = tuple(part.name for part in services if part.stage == parts.DATABASE)
    # A database that is known to be up to date need not be waited for: everything starts side by side.
    is_current = postgres is not None and migrations.is_current(state, postgres)
    schema = database if is_current else ("prepare",)
    web = parts.web_parts(needs=schema)
    # What nobody waits for leaves the processor to the others until they are up.
    later = tuple(part.name for part in web)
    return [
        *services,
        *([parts.sandbox_part(state)] if environment.sandbox_is_on() else []),
        parts.prepare_part(database_is_embedded=postgres is not None, needs=database),
        *parts.worker_parts(state, node=node, needs=schema),
        *parts.gate_parts(needs=schema),
        *parts.returns_parts(needs=schema),
        *web,
        *parts.webhook_parts(state, node=node, needs=later),
        parts.housekeeping_part(state, node=node, needs=later),
        parts.beat_part(state, needs=later),
    ]


def _check_addresses() -> None:
    """Says which variable to change where another program already listens."""
    wanted = [(name, endpoint) for name, default in (
        ("HTTP_BIND", "127.0.0.1:8000"), ("SUBMISSION_BIND", "127.0.0.1:2587"), ("SUBMISSIONS_BIND", "127.0.0.1:2465"),
    ) for endpoint in env.endpoints(name, default)]  # fmt: skip
    if environment.sandbox_is_on():
        wanted += [("SANDBOX_HTTP_BIND", endpoint) for endpoint in env.endpoints("SANDBOX_HTTP_BIND", "127.0.0.1:8025")]
    for name, endpoint in wanted:
        reason = listening.why_it_cannot_be_used(endpoint)
        if reason is not None:
            raise env.ConfigurationError(
                f"nothing can listen on {endpoint} ({reason}). Set RELAY_{name} to another address"
            )
    if environment.sandbox_is_on():
        for endpoint in env.endpoints("SANDBOX_DNS_BIND", "127.0.0.1:8053"):
            reason = listening.why_it_cannot_be_used(endpoint, kind=socket.SOCK_DGRAM)
            if reason is not None:
                raise env.ConfigurationError(
                    f"nothing can listen on {endpoint} ({reason}). Set RELAY_SANDBOX_DNS_BIND to another address"
                )


def _for_commands(variables: Mapping[str, str]) -> dict[str, str]:
    """What `script/relay` needs to find the running services."""
    own = {"RELAY_PART", "RELAY_PART_NAME", "RELAY_LOG_LEVEL"}
    return {name: value for name, value in variables.items() if name.startswith("RELAY_") and name not in own}


class Announcer:
    """Asks GET /health/ready until it answers 200, then says how to log in, a mail to try, and `ready`."""

    def __init__(self, stream: LogStream) -> None:
        self.stream = stream
        self.http = env.endpoints("HTTP_BIND", "127.0.0.1:8000")[0]
        self.probe: Probe | None = None
        self.next_at = 0.0
        self.complained = False

    def __call__(self, supervisor: Supervisor) -> bool:
        if self.probe is None:
            if time.monotonic() < self.next_at:
                return False
            self.probe = Probe(self.http, "/health/ready")
        answer = self.probe.poll()
        if answer is None:
            return False
        self.probe, self.next_at = None, time.monotonic() + 0.1
        if answer.status != 200:
            if not self.complained and time.monotonic() - STARTED_AT > SLOW_START_SECONDS:
                self.complained = True
                self.stream.say("not ready yet", level="warning", status=answer.status, answer=answer.body[:500])
            return False
        for run in supervisor.runs.values():
            if run.said:
                self.stream.announce("\n".join(run.said))
        self.stream.announce(self.ready_line())
        self.stream.say("started", seconds=round(time.monotonic() - STARTED_AT, 1))
        return True

    def ready_line(self) -> str:
        words = [f"ready  http://{self.http}"]
        words += [f"smtp {bind} (STARTTLS)" for bind in env.endpoints("SUBMISSION_BIND", "127.0.0.1:2587")]
        words += [f"smtps {bind}" for bind in env.endpoints("SUBMISSIONS_BIND", "127.0.0.1:2465")]
        if environment.sandbox_is_on():
            words += [f"inbox http://{bind}" for bind in env.endpoints("SANDBOX_HTTP_BIND", "127.0.0.1:8025")[:1]]
        return "  ".join(words)


if __name__ == "__main__":
    sys.exit(main())
