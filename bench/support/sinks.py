"""Receiving hosts that are Postfix's smtp-sink."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.support.waiting import until


@contextmanager
def smtp_sink(
    port: int, *, expects: int = 0, delay_s: int = 0, sessions: int = 2_000, host: str = "", options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Listens on ``host``, or on every address of this network; ends by itself after ``expects`` messages.

    ``options`` are further ones of smtp-sink.
    """
    command = ["smtp-sink", "-4", "-m", str(sessions), *options]
    command += ["-M", str(expects)] if expects else []
    command += ["-w", str(delay_s)] if delay_s else []
    command += ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*command, f"{host}:{port}", "1024"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or listens(host or "127.0.0.1", port), what="smtp-sink")
        assert process.poll() is None, "smtp-sink has ended at once"
        yield process
    finally:
        process.kill()
        process.wait()


def listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False
