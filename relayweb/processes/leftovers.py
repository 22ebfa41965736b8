"""Ends the parts of a server that was killed together with its chance to clean up.

The kernel tells them to stop when their supervisor dies, and they then drain: a new start finds some of them still at it,
on the ports it needs. A pid file alone proves nothing, since numbers are used again: the process must also carry our state
directory and the part's name in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from relayweb.processes import children
from relayweb.processes.state import State

PATIENCE_SECONDS = 1.0


def end_leftovers(state: State) -> list[str]:
    """Removes stale pid files and returns the names of the parts that had to be ended. Call it with the lock held."""
    found: dict[int, str] = {}
    for path in state.run.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text(encoding="ascii"))
            if _is_part(pid, path.stem, state.folder):
                found[pid] = path.stem
    # The database is not among them: its own start waits for its predecessor's orderly shutdown.
    found = {pid: name for pid, name in found.items() if name != "postgres"}
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(children.is_alive(pid) for pid in found):
        if time.monotonic() > deadline:
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE_SECONDS
        time.sleep(0.02)
    for path in state.run.glob("*.pid"):
        path.unlink(missing_ok=True)
    for path in state.run.glob("*.alive"):
        path.unlink(missing_ok=True)
    return sorted(found.values())


def _is_part(pid: int, name: str, folder: Path) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = {b"RELAY_VAR=" + os.fsencode(folder), b"RELAY_PART_NAME=" + os.fsencode(name)}
    return wanted <= set(variables) and children.is_alive(pid)
