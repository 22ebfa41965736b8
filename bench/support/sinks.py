"""The receiving host: Postfix's smtp-sink."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.waiting import until


@contextmanager
def smtp_sink(port: int, *, expects: int, delay_s: int = 0, sessions: int = 2_000) -> Iterator[subprocess.Popen[bytes]]:
    """Listens on every address of this network and ends by itself after so many messages."""
    command = ["smtp-sink", "-4", "-m", str(sessions), "-M", str(expects)]
    command += ["-w", str(delay_s)] if delay_s else []
    command += ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*command, f":{port}", "1024"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or _listens(port), what="smtp-sink")
        assert process.poll() is None, "smtp-sink has ended at once"
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
