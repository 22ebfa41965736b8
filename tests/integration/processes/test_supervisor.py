"""Starting in order, restarting what dies, giving up on what cannot stay up, stopping in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayweb.processes import children
from tests.support.waiting import until

# A part that notes when it starts and stops, and stays until it is told to go.
STAYS = """
import pathlib, signal, sys, time
name = {name!r}
def note(word):
    with open("notes", "a") as file: file.write(word + " " + name + "\\n")
def leave(*_):
    note("stopped"); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
note("started")
pathlib.Path(name + ".up").touch()
while True: time.sleep(60)
"""

Start = Callable[..., "Server"]


class Server:
    def __init__(self, var: Path, parts: list[dict[str, object]]) -> None:
        self.var = var
        (var / "parts.json").write_text(json.dumps(parts))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.small_server", str(var), str(var / "parts.json")],
            stdout=subprocess.PIPE,
            stderr=(var / "log").open("wb"),
            text=True,
        )

    def wait_until_ready(self) -> list[str]:
        assert self.process.stdout is not None
        said: list[str] = []
        for line in self.process.stdout:
            if line.strip() == "ready":
                return said
            said.append(line.strip())
        raise AssertionError(f"it ended before it was ready:\n{self.log}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def pid_of(self, part: str) -> int:
        return int((self.var / "run" / f"{part}.pid").read_text())

    @property
    def notes(self) -> list[str]:
        path = self.var / "notes"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def log(self) -> str:
        return (self.var / "log").read_text()


@pytest.fixture
def start(var: Path) -> Iterator[Start]:
    running: list[Server] = []

    def begin(*parts: dict[str, object]) -> Server:
        running.append(Server(var, list(parts)))
        return running[-1]

    yield begin
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(10)
        if server.process.stdout is not None:
            server.process.stdout.close()


def stays(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "code": STAYS.format(name=name), "ready_file": f"{name}.up", **more}


def test_it_starts_a_part_after_those_it_needs(start: Start) -> None:
    server = start(stays("web", needs=["postgres"]), stays("postgres"))

    server.wait_until_ready()

    assert server.notes == ["started postgres", "started web"]


def test_it_passes_on_what_a_step_says_once_all_are_up(start: Start) -> None:
    server = start(
        {"name": "prepare", "code": "print('sign in as alice')", "is_step": True}, stays("web", needs=["prepare"])
    )

    assert server.wait_until_ready() == ["sign in as alice"]


def test_it_writes_pid_files_and_removes_them(start: Start) -> None:
    server = start(stays("gate-1"), stays("gate-2"))
    server.wait_until_ready()

    assert children.is_alive(server.pid_of("gate-1"))
    assert server.pid_of("gate-1") != server.pid_of("gate-2")

    assert server.stop() == 0
    assert list((server.var / "run").glob("*.pid")) == []


def test_it_stops_the_parts_stage_by_stage(start: Start) -> None:
    server = start(stays("postgres", stage=6), stays("worker", stage=2), stays("gate", stage=0))
    server.wait_until_ready()

    assert server.stop() == 0
    assert server.notes[-3:] == ["stopped gate", "stopped worker", "stopped postgres"]


def test_it_kills_a_part_that_does_not_stop_in_time(start: Start) -> None:
    stubborn = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('up').touch(); time.sleep(600)"
    )
    server = start({"name": "stubborn", "code": stubborn, "ready_file": "up", "stop_seconds": 0.3})
    server.wait_until_ready()

    assert server.stop() == 0
    assert "stubborn did not stop in time" in server.log


def test_it_starts_a_part_again_however_often_somebody_kills_it(start: Start) -> None:
    server = start(stays("gate"))
    server.wait_until_ready()

    for _ in range(7):
        killed = server.pid_of("gate")
        starts = len(server.notes)
        (server.var / "gate.up").unlink(missing_ok=True)
        os.kill(killed, signal.SIGKILL)
        until(lambda starts=starts: len(server.notes) > starts, what="the restart")
        until(lambda: (server.var / "gate.up").exists())
        until(lambda killed=killed: server.pid_of("gate") != killed)
        # Ready again before the next blow: that is what makes it a killing, and not a failing to start.
        until(lambda starts=starts: server.log.count('"event":"gate is up"') > starts)

    assert server.process.poll() is None
    assert server.stop() == 0


def test_it_gives_up_on_a_part_that_cannot_stay_up(start: Start) -> None:
    server = start(
        stays("postgres", stage=6),
        {"name": "web", "code": "print('no such setting'); raise SystemExit(3)", "ready_file": "never"},
    )

    code = server.process.wait(30)

    assert code == 1
    assert "web cannot stay up" in server.log
    assert server.log.rindex("no such setting") > server.log.index("web cannot stay up")
    assert server.notes[-1] == "stopped postgres"


def test_its_parts_end_when_it_is_killed_itself(start: Start) -> None:
    server = start(stays("gate"), stays("postgres"))
    server.wait_until_ready()
    pids = [server.pid_of("gate"), server.pid_of("postgres")]

    server.process.kill()

    until(lambda: not any(children.is_alive(pid) for pid in pids), what="the end of its parts")


def test_it_goes_on_when_nobody_reads_what_it_says(start: Start, var: Path) -> None:
    talks = "import pathlib\nfor n in range(200000): print('x' * 100)\npathlib.Path('said').touch()\nimport time; time.sleep(60)"
    (var / "parts.json").write_text(json.dumps([{"name": "talker", "code": talks, "ready_file": "said"}]))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.small_server", str(var), str(var / "parts.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: (var / "said").exists(), seconds=30, what="the end of its talking")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    assert code == 0
