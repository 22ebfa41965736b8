"""Load by Postfix's smtp-source: one process for each destination, each with sessions that stay open."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.support.feeder import SENDER

SESSIONS = 20


def write_body(path: Path, size: int) -> Path:
    """A text of ``size`` octets that cannot be compressed; smtp-source ends each line by CRLF."""
    line = 76
    head = f"From: {SENDER}\nSubject: A benchmark\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n"
    lines = max(1, (size - len(head)) // (line + 2))
    text = base64.b64encode(os.urandom(lines * line * 3 // 4 + 1)).decode()
    path.write_text(head + "".join(f"{text[n * line : (n + 1) * line]}\n" for n in range(lines)))
    return path


def hand_over(port: int, recipients: Sequence[str], *, mails: int, body: Path, patience_s: float = 900) -> None:
    """``mails`` to each of the recipients, in `SESSIONS` sessions altogether; returns when the last is accepted.

    Raises AssertionError when one was refused: smtp-source ends at the first.
    """
    sessions = max(1, SESSIONS // len(recipients))
    command = ["smtp-source", "-4", "-d", "-s", str(sessions), "-m", str(mails), "-F", str(body), "-f", SENDER]
    started = [
        subprocess.Popen([*command, "-t", recipient, f"127.0.0.1:{port}"], stderr=subprocess.PIPE, text=True)
        for recipient in recipients
    ]
    try:
        for one in started:
            _, said = one.communicate(timeout=patience_s)
            assert one.returncode == 0, f"smtp-source: {said}"
    finally:
        for one in started:
            if one.poll() is None:
                one.kill()
                one.wait()
