"""The whole of relayweb as a user starts it: the server with its embedded database and broker, on ports of its own.

Nothing here looks inside: mail goes in by SMTP, and what became of it is read with the operator's command line and in the
sandbox's files, as somebody outside would.
"""

from __future__ import annotations

import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
START_S = 90.0


@dataclass
class Stack:
    """Started by `start`, ended by `stop`. `log` holds the lines it wrote."""

    var: Path
    ports: dict[str, int]
    environment: dict[str, str]
    log: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @classmethod
    def make(cls, var: Path, free_port: Callable[..., int], **settings: str) -> Stack:
        names = ("http", "submission", "submissions", "returns", "sandbox_smtp", "sandbox_http", "sandbox_dns")
        ports = {name: free_port() for name in names}
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "PYTEST_", "DJANGO_"))
        }
        kept |= {name: os.environ[name] for name in ("RELAY_POSTGRES_BIN", "RELAY_POSTGRES_USER") if name in os.environ}
        environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "RELAY_VAR": str(var),
            "RELAY_HTTP_BIND": f"127.0.0.1:{ports['http']}",
            "RELAY_SUBMISSION_BIND": f"127.0.0.1:{ports['submission']}",
            "RELAY_SUBMISSIONS_BIND": f"127.0.0.1:{ports['submissions']}",
            "RELAY_RETURNS_BIND": f"127.0.0.1:{ports['returns']}",
            "RELAY_SANDBOX_SMTP_PORT": str(ports["sandbox_smtp"]),
            "RELAY_SANDBOX_HTTP_BIND": f"127.0.0.1:{ports['sandbox_http']}",
            "RELAY_SANDBOX_DNS_BIND": f"127.0.0.1:{ports['sandbox_dns']}",
            **settings,
        }
        return cls(var, ports, environment)

    def start(self, *, seconds: float = START_S) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "relayweb.processes.server"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        before = len(self.log)
        until(
            lambda: (
                self._has_ended() or any('"ready ' in line or line.startswith("ready ") for line in self.log[before:])
            ),
            seconds=seconds,
            what="the line `ready`",
        )
        if self._has_ended():
            raise AssertionError("the server ended:\n" + "\n".join(self.log[-40:]))

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log.append(line.rstrip("\n"))

    def _has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    # ---------------------------------------------------------------- parts

    def pid(self, part: str) -> int:
        return int((self.var / "run" / f"{part}.pid").read_text().split()[0])

    def pids(self, part: str) -> list[int]:
        """Of every process of a part: gate-1, gate-2 for `gate`."""
        files = [*(self.var / "run").glob(f"{part}.pid"), *(self.var / "run").glob(f"{part}-*.pid")]
        return [int(path.read_text().split()[0]) for path in sorted(files)]

    def kill(self, part: str) -> None:
        """kill -9 of every process of a part; returns when each has been started again."""
        before = self.pids(part)
        assert before, f"{part} is not running"
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(
            lambda: not set(self._pids_or_none(part)) & set(before) and self._pids_or_none(part), seconds=30, what=part
        )

    def _pids_or_none(self, part: str) -> list[int]:
        try:
            return self.pids(part)
        except (OSError, ValueError, IndexError):
            return []

    # ---------------------------------------------------------------- the operator's command line

    def relay(self, *arguments: str, stdin: str | None = None, fails: bool = False) -> Any:
        """Run `relay … --json`; returns what it printed. With `fails` returns (exit code, stderr) instead."""
        done = subprocess.run(
            [sys.executable, "-m", "relayweb.commandline", *arguments, "--json"],
            cwd=ROOT,
            env={
                "RELAY_VAR": str(self.var),
                **{k: v for k, v in self.environment.items() if not k.startswith("RELAY_")},
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if fails:
            return done.returncode, done.stderr
        assert done.returncode == 0, f"relay {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def states(self, tenant: str) -> dict[str, dict[str, Any]]:
        """What became of each recipient, by address."""
        return {row["recipient"]: row for row in self.relay("message", "list", "--tenant", tenant)}

    # ---------------------------------------------------------------- sandbox

    def ledger(self) -> list[dict[str, Any]]:
        path = self.var / "sandbox" / "ledger.jsonl"
        written = path.read_text() if path.exists() else ""
        # The sandbox may be writing the last line right now: only one that has its end is whole.
        return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]

    def inbox_copies(self) -> Counter[str]:
        """How many copies of each recipient's mail were accepted."""
        return Counter(
            recipient
            for line in self.ledger()
            if line.get("kind", "accepted") == "accepted"
            for recipient in line["recipients"]
        )

    # ---------------------------------------------------------------- clients

    def smtp(
        self, username: str | None = None, secret: str | None = None, *, source: str = "127.0.0.1"
    ) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.ports["submission"], timeout=30, source_address=(source, 0))
        if username is not None:
            client.starttls(context=_anybody())
            client.login(username, secret or "")
        return client


def _anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def settled(
    stack: Stack, tenant: str, addresses: Iterable[str], *, seconds: float, polls_s: float = 1.0
) -> dict[str, Any]:
    """Wait until none of the addresses is open any more; returns their rows."""
    wanted = set(addresses)
    deadline = time.monotonic() + seconds
    while True:
        rows = {address: row for address, row in stack.states(tenant).items() if address in wanted}
        open_rows = [row for row in rows.values() if row["state"] in {"queued", "deferred", "held"}]
        if len(rows) == len(wanted) and not open_rows:
            return rows
        if time.monotonic() > deadline:
            missing = sorted(wanted - rows.keys())
            raise AssertionError(
                f"still open after {seconds:g} s: {open_rows[:5]} … {len(open_rows)}, missing {missing[:5]}"
            )
        time.sleep(polls_s)
