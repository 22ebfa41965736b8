"""The whole of relayweb on this machine, as script/server runs it."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayweb.processes import children
from tests.conftest import ROOT, TEST_FOLDER
from tests.support.ports import find_free_ports
from tests.support.waiting import until

PARTS = {"web", "gate-1", "gate-2", "worker-1", "webhooks", "housekeeping", "beat", "broker", "postgres", "sandbox"}


class Server:
    """A running server with addresses of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        http, submission, submissions, returns, inbox, dns, smtp = find_free_ports(7)
        self.http, self.submission, self.submissions = http, submission, submissions
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTEST_", "DJANGO_"))
        }
        self.environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "RELAY_VAR": str(var),
            "RELAY_HTTP_BIND": f"127.0.0.1:{http}",
            "RELAY_SUBMISSION_BIND": f"127.0.0.1:{submission}",
            "RELAY_SUBMISSIONS_BIND": f"127.0.0.1:{submissions}",
            "RELAY_RETURNS_BIND": f"127.0.0.1:{returns}",
            "RELAY_SANDBOX_HTTP_BIND": f"127.0.0.1:{inbox}",
            "RELAY_SANDBOX_DNS_BIND": f"127.0.0.1:{dns}",
            "RELAY_SANDBOX_SMTP_PORT": str(smtp),
            "RELAY_GATE_PROCESSES": "2",
            "RELAY_WORKER_PROCESSES": "1",
        }
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=(var.parent / f"{var.name}.log").open("ab"),
            text=True,
        )
        self.said = list(self._until_ready())

    command = (sys.executable, "-m", "relayweb.processes.server")

    def _until_ready(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line
            if line.startswith("ready"):
                return
        raise AssertionError(f"the server ended before it was ready:\n{self.log[-4000:]}")

    @property
    def log(self) -> str:
        return (self.var.parent / f"{self.var.name}.log").read_text()

    def pid_of(self, part: str) -> int:
        return int((self.var / "run" / f"{part}.pid").read_text())

    def health(self) -> tuple[int, dict[str, str]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/health/ready", timeout=15) as answer:
                return answer.status, json.load(answer)["parts"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["parts"]
        except OSError:
            return 0, {}

    def kill(self, part: str) -> None:
        """kill -9, and wait for its successor."""
        killed = self.pid_of(part)
        os.kill(killed, signal.SIGKILL)

        def is_replaced() -> bool:
            try:
                return self.pid_of(part) != killed
            except (OSError, ValueError):
                return False

        until(is_replaced, what=f"the restart of {part}")
        until(lambda: self.health()[0] == 200, seconds=30, what=f"readiness after the death of {part}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    var = Path(tempfile.mkdtemp(prefix="server-", dir=TEST_FOLDER))
    var.chmod(0o711)
    running = Server(var)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_it_says_how_to_log_in_and_where_everything_is(server: Server) -> None:
    assert server.said[-1] == (
        f"ready  http://127.0.0.1:{server.http}  smtp 127.0.0.1:{server.submission} (STARTTLS)"
        f"  smtps 127.0.0.1:{server.submissions}  inbox http://{server.environment['RELAY_SANDBOX_HTTP_BIND']}\n"
    )
    assert any("password" in line for line in server.said)


def test_every_part_has_a_pid_file(server: Server) -> None:
    assert {path.stem for path in (server.var / "run").glob("*.pid")} == PARTS
    assert all(children.is_alive(server.pid_of(part)) for part in PARTS)


def test_postgresql_does_not_run_as_root(server: Server) -> None:
    assert Path(f"/proc/{server.pid_of('postgres')}").stat().st_uid != 0


def test_readiness_names_every_part(server: Server) -> None:
    status, parts = server.health()

    assert status == 200
    assert set(parts.values()) == {"ok"}


def test_the_gate_offers_tls_with_a_certificate_for_this_machine(server: Server) -> None:
    import ssl

    trust = ssl.create_default_context(cafile=str(server.var / "tls" / "certificate.pem"))
    with smtplib.SMTP("localhost", server.submission, timeout=10) as client:
        client.starttls(context=trust)
        client.ehlo()
        assert client.has_extn("auth")


def test_what_it_logs_is_json(server: Server) -> None:
    for line in server.log.splitlines():
        assert {"timestamp", "level", "part", "event"} <= set(json.loads(line))


def test_a_second_server_is_refused_with_a_sentence(server: Server) -> None:
    second = subprocess.run(server.command, env=server.environment, capture_output=True, text=True, check=False)

    assert second.returncode == 1
    assert "already running" in second.stderr


def test_the_command_line_finds_the_running_database(server: Server) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "relayweb.commandline", "tenant", "list", "--json"],
        env={**server.environment, "RELAY_HTTP_BIND": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert listed.returncode == 0, listed.stderr
    assert "demo" in {tenant["slug"] for tenant in json.loads(listed.stdout)}


@pytest.mark.parametrize("part", ["gate-1", "worker-1", "broker", "postgres", "web"])
def test_it_recovers_by_itself_from_the_death_of_a_part(server: Server, part: str) -> None:
    server.kill(part)

    assert server.process.poll() is None


def test_it_stops_cleanly(server: Server) -> None:
    pids = [server.pid_of(part) for part in PARTS]

    assert server.stop() == 0

    assert not any(children.is_alive(pid) for pid in pids)
    assert list((server.var / "run").glob("*.pid")) == []
    assert not (server.var / "run" / "environment.json").exists()
