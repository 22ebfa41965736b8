"""Child processes that cannot outlive us.

A child asks the kernel for a signal when its parent dies, so that not even `kill -9` of the supervisor leaves a database or
a gate behind. The kernel's promise is about the *thread* that forked: start children from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signal_number: int) -> Callable[[], None]:
    """For Popen(preexec_fn=…): runs in the child after it has changed user, which would clear the request."""
    parent = os.getpid()

    def request() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)

    return request


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs; one that has ended and was not yet waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in {b"Z", b"X", b""}
    except OSError:
        return False
