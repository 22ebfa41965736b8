"""The faults, by name. Each is thrown at a field under load and says what it took away and when.

A fault that takes one of several processes away does not wait for its return before the next round: the rounds follow each other
as fast as something is up that can be taken away. Faults of the whole wait until mail is accepted and delivered again.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.crash.checking import Struck
from bench.crash.field import Field

_RETURNS_WITHIN_S = 60.0
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
    cuts: bool = False
    settings: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------- kill -9


def _kill_of(part: str, *progress: str, repeats: bool = False, all_at_once: float = 0.2) -> Throw:
    """Of one process of the part, or now and then of all of them."""

    def throw(field: Field, chance: random.Random) -> list[Struck]:
        running = _some_of(field, part)
        doomed = sorted(running) if chance.random() < all_at_once else [chance.choice(sorted(running))]
        moment = time.monotonic()
        for name in doomed:
            field.signal(running[name], signal.SIGKILL)
        return [Struck(moment, tuple(doomed), progress, repeats)]

    return throw


def _some_of(field: Field, part: str) -> dict[str, int]:
    """At least one process that is up, waited for."""
    deadline = time.monotonic() + _RETURNS_WITHIN_S
    while not (running := field.running(part)):
        if time.monotonic() > deadline:
            raise SystemExit(f"{part} was not up within {_RETURNS_WITHIN_S:g} s")
        time.sleep(0.05)
    return running


FAULTS: dict[str, Fault] = {
    "gate": Fault(throw=_kill_of("gate", "ok")),
    "worker": Fault(throw=_kill_of("worker", "dot", repeats=True)),
}
