"""Who listens on which TCP port, read from /proc: several gates share a port, and each must be up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from relayweb import env

_LISTEN = "0A"


def process_listens_on(pid: int, ports: Iterable[int]) -> bool:
    """Whether the process, or one that it started, has a listening socket for each of the ports."""
    wanted = set(ports)
    inodes = {inode: port for inode, port in _listening_sockets() if port in wanted}
    if set(inodes.values()) != wanted:
        return False
    return wanted <= {port for member in _family(pid) for port in _ports_of(member, inodes)}


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _family(int(child))


def _ports_of(pid: int, inodes: Mapping[str, int]) -> Iterator[int]:
    with contextlib.suppress(OSError):  # gone meanwhile
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    yield inodes[target[8:-1]]


def _listening_sockets() -> Iterable[tuple[str, int]]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), Path(table).open(encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN:
                    yield fields[9], int(fields[1].rpartition(":")[2], 16)


def why_it_cannot_be_used(endpoint: env.Endpoint, *, kind: int = socket.SOCK_STREAM) -> str | None:
    """The system's reason why nobody could listen there now, or None. Asked before anything is started."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
