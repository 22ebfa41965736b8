"""A place to measure in: a network without any way out, enough file descriptors, a folder that is removed."""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import os
import platform
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
DESCRIPTORS = 65_536
_DURABLE = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")


def enter() -> None:
    """To be called first, before any thread: sinks that listen on every address are then heard by nobody else.

    A network namespace needs root, as Postfix does; without it the machine's own network is used, loopback addresses only.
    """
    sys.path.insert(0, str(ROOT))
    # Whoever ends us early, such as `timeout`, ends what we started with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            name = struct.pack("16sh", b"lo", 0)
            (flags,) = struct.unpack("16xh", fcntl.ioctl(control, _SIOCGIFFLAGS, name)[:18])
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


@contextmanager
def folder(name: str) -> Iterator[Path]:
    # Not a deep TMPDIR: the path of a unix socket must be short. 0711, so that PostgreSQL's and Postfix's users may pass.
    path = Path(tempfile.mkdtemp(prefix=f"relayweb-bench-{name}-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def report(bench: str, *, postgresql: Mapping[str, str] | None = None, **figures: Any) -> None:
    """One line of JSON: what was measured, on what. ``postgresql`` is what ``durability`` says of it."""
    machine: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "linux": platform.release(),
    }
    if postgresql is not None:
        machine["postgresql"] = dict(postgresql)
    print(json.dumps({"bench": bench, **figures, "machine": machine}, ensure_ascii=False), flush=True)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def durability(url: str) -> dict[str, str]:
    """Which PostgreSQL it is and what it promises to keep when the power fails."""
    import psycopg

    with psycopg.connect(url) as connection:
        return {name: str(connection.execute(f"SHOW {name}").fetchone()[0]) for name in _DURABLE}  # type: ignore[index]


def say(text: str) -> None:
    """How far it is; the result alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
