"""Postfix as the peer: an instance of its own in a folder of ours, with Debian's defaults but for where it listens.

Needs root (its master changes users) and Debian's package `postfix`. The machine's own instance is not touched.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n  -  n  60   1  pickup
cleanup   unix  n  -  n  -    0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
rewrite   unix  -  -  n  -    -  trivial-rewrite
bounce    unix  -  -  n  -    0  bounce
defer     unix  -  -  n  -    0  bounce
trace     unix  -  -  n  -    0  bounce
verify    unix  -  -  n  -    1  verify
flush     unix  n  -  n  1000? 0 flush
proxymap  unix  -  -  n  -    -  proxymap
smtp      unix  -  -  n  -    -  smtp
relay     unix  -  -  n  -    -  smtp
error     unix  -  -  n  -    -  error
retry     unix  -  -  n  -    -  error
discard   unix  -  -  n  -    -  discard
anvil     unix  -  -  n  -    1  anvil
scache    unix  -  -  n  -    1  scache
postlog   unix-dgram n - n - 1 postlogd
"""


def is_there() -> bool:
    return os.geteuid() == 0 and shutil.which("postfix") is not None


class Postfix:
    """``transports`` are its transport_maps: recipient domain → host:port."""

    def __init__(self, folder: Path, port: int, transports: Mapping[str, str]) -> None:
        self.port = port
        self._config = folder / "etc"
        self._queue = folder / "spool"
        self._data = folder / "data"
        self._write(transports)

    def _write(self, transports: Mapping[str, str]) -> None:
        for path in (self._config, self._queue, self._data):
            path.mkdir(parents=True)
        os.chown(self._data, pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self._queue,
            "data_directory": self._data,
            "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": f"{self._data}/log",
            "maillog_file_prefixes": str(self._data),
            "myhostname": "postfix.bench.example",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "transport_maps": f"texthash:{self._config}/transport",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_client_connection_count_limit": 0,
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtp_tls_security_level": "none",
            "smtpd_tls_security_level": "none",
        }
        (self._config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self._config / "master.cf").write_text(_SERVICES.format(port=self.port))
        (self._config / "transport").write_text(
            "".join(
                f"{domain} smtp:[{host.rpartition(':')[0]}]:{host.rpartition(':')[2]}\n"
                for domain, host in transports.items()
            )
        )

    @property
    def version(self) -> str:
        asked = subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=True)
        return asked.stdout.strip()

    def __enter__(self) -> Self:
        self._run("start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("stop", checks=False)
        pid_file = self._queue / "pid" / "master.pid"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                pid = int(pid_file.read_text())
                os.kill(pid, 0)
            except (OSError, ValueError):
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)

    def waiting(self) -> int:
        """Messages in its queue."""
        return sum(
            len(files)
            for name in ("incoming", "active", "deferred", "maildrop")
            for _, _, files in os.walk(self._queue / name)
        )

    def _run(self, verb: str, *, checks: bool = True) -> None:
        done = subprocess.run(["postfix", "-c", str(self._config), verb], capture_output=True, text=True, check=False)
        assert not checks or done.returncode == 0, done.stdout + done.stderr
