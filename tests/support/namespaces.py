"""Machines on this machine: network namespaces with addresses of their own, joined to the test's by a pair of interfaces.

`198.18.0.0/15` is for benchmarks (RFC 2544), so nothing real is hidden by it. A database on a unix socket is reached from all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

# Of the test itself: where its name server and hosts listen, reached from every namespace.
OUR_NETWORK = "198.18.0.0/15"


def why_not() -> str:
    """Empty where namespaces can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    name = f"rw{os.getpid()}try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


@dataclass
class Namespace:
    """`number` makes its addresses: 198.18.<number>.2 and up inside, 198.18.<number>.1 on our side."""

    number: int

    @property
    def name(self) -> str:
        return f"rw{os.getpid()}n{self.number}"

    @property
    def outside(self) -> str:
        return f"198.18.{self.number}.1"

    def address(self, host: int = 2) -> str:
        return f"198.18.{self.number}.{host}"

    def make(self, *, addresses: int = 1) -> None:
        ours, theirs = f"{self.name}a", f"{self.name}b"
        _ip("netns", "add", self.name)
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.name)
        _ip("addr", "add", f"{self.outside}/24", "dev", ours)
        _ip("link", "set", ours, "up")
        for host in range(2, 2 + addresses):
            _ip("-n", self.name, "addr", "add", f"{self.address(host)}/24", "dev", theirs)
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", theirs, "up")
        _ip("-n", self.name, "route", "add", "default", "via", self.outside)

    def remove(self) -> None:
        """Its interfaces go with it."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    @property
    def command(self) -> list[str]:
        """What to put before a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
