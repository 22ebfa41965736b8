"""Ports on which nothing listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def find_free_ports(count: int, *, host: str = "127.0.0.1") -> list[int]:
    """So many different ports, free a moment ago for TCP and UDP alike."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET))
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp.bind((host, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((host, port))
            except OSError:
                continue
            ports.append(port)
        return ports
