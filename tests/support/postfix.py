"""A Postfix of a test's own: own configuration, queue and ports, apart from any that the machine runs. Needs root."""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

_SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def why_not() -> str:
    """Why there can be none here; empty where there can."""
    if shutil.which("postfix") is None:
        return "postfix is not installed (apt-get install postfix)"
    if os.geteuid() != 0:
        return "a private Postfix can be started by root only"
    return ""


@dataclass(frozen=True)
class Postfix:
    folder: Path
    port: int

    @property
    def log(self) -> str:
        path = self.folder / "mail.log"
        return path.read_text() if path.exists() else ""

    def smtp(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=15)


@contextmanager
def running(folder: Path, *, port: int, **settings: str) -> Iterator[Postfix]:
    """``folder`` must be one that Postfix's own user may pass through. ``settings`` are lines of main.cf."""
    config, queue, data = folder / "config", folder / "queue", folder / "data"
    for one in (config, queue, data):
        one.mkdir()
    os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
    log = folder / "mail.log"
    lines = {
        "compatibility_level": "3.6",
        "queue_directory": str(queue),
        "data_directory": str(data),
        "maillog_file": str(log),
        "maillog_file_prefixes": str(folder),
        "inet_interfaces": "loopback-only",
        "inet_protocols": "ipv4",
        "myhostname": "mail.acme.example",
        "mydestination": "",
        "local_recipient_maps": "",
        "mynetworks": "127.0.0.0/8",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "alias_maps": "",
        "smtputf8_enable": "no",
        **settings,
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    (config / "master.cf").write_text(_SERVICES.format(port=port))
    postfix = Postfix(folder, port)
    _command("start", config)
    try:
        until(lambda: _answers(postfix), seconds=15, what="the private Postfix")
        yield postfix
    finally:
        _command("abort", config)


def _command(word: str, config: Path) -> None:
    done = subprocess.run(["postfix", "-c", str(config), word], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"postfix {word}: {done.stdout}{done.stderr}"


def _answers(postfix: Postfix) -> bool:
    with suppress(OSError, smtplib.SMTPException), postfix.smtp() as client:
        return client.noop()[0] == 250
    return False
