"""One part alone, for a service manager: ``python -m relayweb.processes.single gate-1``.

`script/server` is a supervisor of its own. Where systemd or a container engine has that work, each of its services starts
one part here and becomes it: the same command and the same variables that the supervisor would give it (parts.py). Database
and broker are never started; both have to be named.
"""

from __future__ import annotations

import os
import sys

from relayweb import env
from relayweb.processes import environment, parts
from relayweb.processes.own_urls import DATABASE_URL, only_own, own_variable
from relayweb.processes.parts import Part
from relayweb.processes.state import State, StateError


def main(arguments: list[str] | None = None) -> int:
    names = sys.argv[1:] if arguments is None else arguments
    try:
        state = State.open()
    except StateError as reason:
        print(f"relayweb cannot start: {reason}", file=sys.stderr)
        return 1
    os.environ.update(environment.fill_in(state, postgres=None, broker=None))
    known = {part.name: part for part in all_parts(state)}
    if len(names) != 1 or names[0] not in known:
        print(f"usage: python -m relayweb.processes.single PART\n\nHere are: {', '.join(known)}", file=sys.stderr)
        return 2
    part = known[names[0]]
    _insist_on_services(part)
    _become(part, state)
    return 0


def _insist_on_services(part: Part) -> None:
    kind = part.environment["RELAY_PART"]
    needed = ["BROKER_URL"] if kind == "beat" else [own_variable(kind, DATABASE_URL), "BROKER_URL"]
    for name in needed:
        if not environment.is_given(name):
            raise env.ConfigurationError(f"RELAY_{name} is not set, and a part alone brings none of its own")


def all_parts(state: State) -> list[Part]:
    """As many of each kind as RELAY_GATE_PROCESSES, RELAY_WORKER_PROCESSES and their like say."""
    node = environment.node_name()
    return [
        parts.prepare_part(database_is_embedded=False, needs=()),
        *parts.gate_parts(needs=()),
        *parts.returns_parts(needs=()),
        *parts.worker_parts(state, node=node, needs=()),
        *parts.webhook_parts(state, node=node, needs=()),
        parts.housekeeping_part(state, node=node, needs=()),
        parts.beat_part(state, needs=()),
        *parts.web_parts(needs=()),
    ]


def _become(part: Part, state: State) -> None:
    """Never returns: signals and exit code are the part's own."""
    own = {"RELAY_PART_NAME": part.name, "RELAY_VAR": str(state.folder), "PYTHONUNBUFFERED": "1"}
    os.chdir(part.working_directory)
    told = only_own(os.environ, part.environment["RELAY_PART"])
    os.execve(part.command[0], list(part.command), {**told, **own, **part.environment})


if __name__ == "__main__":
    sys.exit(main())
