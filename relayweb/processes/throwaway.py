"""A database or broker for one test run, which ends with it.

    python -m relayweb.processes.throwaway postgres|broker FOLDER OWNER_PID

Starts the service below FOLDER, says `ready` on stdout and stays until the process OWNER_PID is gone, however that ended;
then it stops the service. So neither a killed test run nor one of many parallel workers leaves a server behind, or takes
one away from the others. A service that cannot start is said on stderr, with exit code 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

from relayweb.processes.broker import Broker
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import ROOT, StateError

SERVICES = ("postgres", "broker")


def service(name: str, folder: Path) -> Postgres | Broker:
    """The service of this test run; its password is of no use to anybody else, and goes with the folder."""
    if name == "broker":
        return Broker.throw_away(folder)
    return Postgres.throw_away(folder, password="throw-away")


def ensure_running(name: str, folder: Path, *, owner_pid: int) -> None:
    """Starts the service unless another process of this test run already has. Raises StateError with the reason."""
    with (folder / f"{name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if service(name, folder).is_ready():
            return
        keeper = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(folder), str(owner_pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        assert keeper.stdout is not None and keeper.stderr is not None
        if keeper.stdout.readline().strip() != "ready":
            raise StateError(keeper.stderr.read().strip() or f"the {name} of the tests did not start")


def wait_for_the_end_of(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


def main(arguments: list[str]) -> int:
    name, folder, owner_pid = arguments[0], Path(arguments[1]), int(arguments[2])
    running = service(name, folder)
    try:
        running.start()
    except StateError as reason:
        print(reason, file=sys.stderr)
        return 1
    print("ready", flush=True)
    try:
        wait_for_the_end_of(owner_pid)
    finally:
        running.stop()
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / f"{name}.lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the other service's keeper removes it then
            folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
