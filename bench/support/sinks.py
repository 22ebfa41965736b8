"""Receiving hosts: Postfix's smtp-sink, and one of our own that keeps account of when what came."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def smtp_sink(port: int, *, expects: int, delay_s: int = 0, sessions: int = 2_000) -> Iterator[subprocess.Popen[bytes]]:
    """Listens on every address of this network and ends by itself after so many messages."""
    command = ["smtp-sink", "-4", "-m", str(sessions), "-M", str(expects)]
    command += ["-w", str(delay_s)] if delay_s else []
    command += ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*command, f":{port}", "1024"], stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    assert process.poll() is None, "smtp-sink has ended at once"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
