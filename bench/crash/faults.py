"""The faults, by name. Each is thrown at a field under load and says what it took away and when.

A fault that takes one of several processes away does not wait for its return before the next round: the rounds follow each other
as fast as something is up that can be taken away. Faults of the whole wait until mail is accepted and delivered again.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.crash.checking import Struck
from bench.crash.field import LEASE_S, SWEEP_S, Field, descendants

_RETURNS_WITHIN_S = 60.0
_ALL_AT_ONCE = 0.25
Throw = Callable[[Field, random.Random], list[Struck]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    throw: Throw
    hosts: tuple[str, ...] = ("good",)
    sessions: int = 6
    api_sessions: int = 0
    window_s: float = 2.0  # a round begins at a random moment of it
    rounds_in_a_period: int = 20  # then the load ends, everything must be delivered, and the ledgers are compared
    waits_for_progress: bool = False
    drain_s: float = 120.0  # how long the end of all deliveries is waited for
    client_cuts: float = 0.0  # share of mails in which the client cuts the connection
    cuts: bool = False  # the receiving hosts cut connections after the final dot
    is_orderly: bool = False  # a restart, in which nothing may be cut off in its content
    tells: bool = False  # with a receiver of webhooks
    needs: str = ""  # "proxy": before the database; "small disk": the database on one that can be filled


# ---------------------------------------------------------------- kill -9


def _kill_of(part: str, *progress: str, repeats: bool = False) -> Throw:
    """Of one process of the part while others go on, or now and then of all of them."""

    def throw(field: Field, chance: random.Random) -> list[Struck]:
        is_all = chance.random() < _ALL_AT_ONCE
        running = _some_of(field, part, everyone=is_all)
        doomed = sorted(running) if is_all else [chance.choice(sorted(running))]
        moment = time.monotonic()
        for name in doomed:
            field.signal(running[name], signal.SIGKILL)
        return [Struck(moment, tuple(doomed), progress, repeats)]

    return throw


def _some_of(field: Field, part: str, *, everyone: bool = True) -> dict[str, int]:
    """The processes that are up: every one of the part, or so many that one can be spared. They are waited for."""
    wanted = field.processes.get(part, 1)
    wanted = wanted if everyone else min(wanted, 2)
    deadline = time.monotonic() + _RETURNS_WITHIN_S
    while len(running := field.running(part)) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    if not running:
        raise SystemExit(f"{part} was not up within {_RETURNS_WITHIN_S:g} s")
    return running


def _crash_the_database(field: Field, chance: random.Random) -> list[Struck]:
    """A backend that is killed makes the server end all others and recover; so does the death of the server itself."""
    server = _some_of(field, "postgres")["postgres"]
    how = chance.choice(("backend", "server", "immediate stop"))
    backends = descendants(server)
    moment = time.monotonic()
    if how == "backend" and backends:
        field.signal(chance.choice(backends), signal.SIGKILL)
        return [Struck(moment, (), repeats=True)]
    field.signal(server, signal.SIGKILL if how == "server" else signal.SIGQUIT)
    return [Struck(moment, ("postgres",), repeats=True)]


def _crash_everything(field: Field, _chance: random.Random) -> list[Struck]:
    """kill -9 of all processes at once, the supervisor too; then the start that a service manager would do."""
    parts = tuple(name for name in field.watch.look() if name.partition("-")[0] in {"gate", "worker", "web"})
    moment = time.monotonic()
    field.kill_everything()
    killed = time.monotonic()
    field.start_again()
    return [Struck(moment, parts, repeats=True, takes_marks=True, ended_at=killed)]


# ---------------------------------------------------------------- the broker


def _lose_the_broker(field: Field, chance: random.Random) -> list[Struck]:
    """It is killed, emptied, or killed with all that it had written."""
    broker = _some_of(field, "broker")["broker"]
    how = chance.choice(("kill", "empty", "wipe"))
    folder = field.relay.stack.var / "broker"
    moment = time.monotonic()
    if how == "empty":
        for path in folder.rglob("broker.sock"):
            _flush_all(str(path))
        return [Struck(moment)]
    field.signal(broker, signal.SIGKILL)
    if how == "wipe":
        shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
    return [Struck(moment, ("broker",))]


def _flush_all(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        connection.sendall(b"FLUSHALL\r\n")
        answer = connection.recv(64)
    if not answer.startswith(b"+OK"):
        raise SystemExit(f"the broker answered {answer!r} to FLUSHALL")


# ---------------------------------------------------------------- stopped, and restarted in order


def _zombie(field: Field, chance: random.Random) -> list[Struck]:
    """A worker that stands still for longer than its lease and then goes on as if nothing had happened."""
    running = _some_of(field, "worker")
    pid = running[chance.choice(sorted(running))]
    moment = time.monotonic()
    field.signal(pid, signal.SIGSTOP)
    time.sleep(LEASE_S + SWEEP_S + 1 + 3 * chance.random())
    field.signal(pid, signal.SIGCONT)
    return [Struck(moment, (), ("dot",), repeats=True, ended_at=time.monotonic())]


def _restart_in_turn(field: Field, _chance: random.Random) -> list[Struck]:
    """Every process is asked to stop as a deployment does it, one when the one before is up again."""
    strokes = []
    for part in ("gate", "worker", "web"):
        for name, pid in sorted(_some_of(field, part).items()):
            moment = time.monotonic()
            field.signal(pid, signal.SIGTERM)
            deadline = moment + _RETURNS_WITHIN_S
            while field.running(part).get(name, pid) == pid and time.monotonic() < deadline:
                time.sleep(0.05)
            strokes.append(Struck(moment, (name,)))
    return strokes


# ---------------------------------------------------------------- answers, disks, peers


def _lose_an_answer(field: Field, _chance: random.Random) -> list[Struck]:
    """PostgreSQL has carried out a COMMIT and whoever sent it never hears of it."""
    return [Struck(moment, repeats=True) for moment in field.lose_an_answer(within_s=_RETURNS_WITHIN_S)]


def _fill_the_disk(field: Field, chance: random.Random) -> list[Struck]:
    """The disk that the database writes to is full for some seconds."""
    moment = time.monotonic()
    with field.full_disk():
        time.sleep(3 + 4 * chance.random())
    return [Struck(moment, (), repeats=True, ended_at=time.monotonic())]


def _let_time_pass(field: Field, _chance: random.Random) -> list[Struck]:
    """The hosts themselves are the fault."""
    moment = time.monotonic()
    time.sleep(5)
    return [Struck(moment)]


def _one_after_the_other(field: Field, chance: random.Random) -> list[Struck]:
    """A gate, a worker, the broker and the database in quick succession."""
    strokes = []
    for throw in (
        _kill_of("gate", "ok"),
        _kill_of("worker", "dot", repeats=True),
        _lose_the_broker,
        _crash_the_database,
    ):
        strokes += throw(field, chance)
        time.sleep(chance.random())
    # The worker died shortly before the database did.
    return [*strokes[:-1], replace(strokes[-1], takes_marks=True)]


FAULTS: dict[str, Fault] = {
    "gate": Fault(throw=_kill_of("gate", "ok"), sessions=15),
    "worker": Fault(throw=_kill_of("worker", "dot", repeats=True)),
    "database": Fault(throw=_crash_the_database, waits_for_progress=True, api_sessions=1, tells=True),
    "everything": Fault(
        throw=_crash_everything, waits_for_progress=True, api_sessions=1, rounds_in_a_period=10, tells=True
    ),
    "broker": Fault(throw=_lose_the_broker, tells=True),
    "rolling": Fault(throw=_restart_in_turn, is_orderly=True, rounds_in_a_period=5, api_sessions=1),
    "zombie": Fault(throw=_zombie),
    "web": Fault(throw=_kill_of("web", "posted"), sessions=1, api_sessions=5),
    "webhooks": Fault(throw=_kill_of("webhooks", "dot"), tells=True),
    "beat": Fault(throw=_kill_of("beat", "ok", "dot")),
    "mixture": Fault(throw=_one_after_the_other, waits_for_progress=True, api_sessions=1),
    "answers": Fault(throw=_lose_an_answer, api_sessions=1, needs="proxy", window_s=1.0),
    "cut": Fault(
        throw=_let_time_pass,
        hosts=("good", "cut-before", "cut-in", "cut-after"),
        client_cuts=0.1,
        cuts=True,
        rounds_in_a_period=10,
    ),
    "peers": Fault(
        throw=_let_time_pass, hosts=("good", "slow", "lying", "silent", "dead"), drain_s=60.0, rounds_in_a_period=10
    ),
    "disk": Fault(
        throw=_fill_the_disk, waits_for_progress=True, rounds_in_a_period=5, window_s=10.0, needs="small disk"
    ),
}
