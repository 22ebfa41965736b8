"""Dovecot as the peer's judge of logins: one user, whose password is hashed, asked by Postfix over a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import until

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
auth_mechanisms = plain login
auth_cache_size = 10M
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = passwd-file
  args = scheme=SHA512-CRYPT {folder}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {socket} {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
"""


def why_not() -> str:
    if shutil.which("dovecot") is None:
        return "dovecot is not installed (apt-get install dovecot-core)"
    return "" if os.geteuid() == 0 else "dovecot can be started by root only"


def version() -> str:
    return subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout.split()[0]


@contextmanager
def running(folder: Path, *, username: str, secret: str) -> Iterator[dict[str, str]]:
    """Yields the settings by which a Postfix of ``folder`` takes mail from this user only."""
    folder.mkdir()
    folder.chmod(0o711)
    # Postfix's smtpd is not jailed here: it finds the socket by its whole path.
    socket, users, configuration = folder / "auth", folder / "users", folder / "dovecot.conf"
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=secret, capture_output=True, text=True, check=True
    ).stdout.strip()
    users.write_text(f"{username}:{hashed}\n")
    users.chmod(0o640)
    os.chown(users, 0, pwd.getpwnam("dovecot").pw_gid)
    configuration.write_text(_CONFIGURATION.format(folder=folder, socket=socket))
    judge = subprocess.Popen(["dovecot", "-F", "-c", str(configuration)], stdin=subprocess.DEVNULL)
    try:
        until(lambda: judge.poll() is not None or socket.exists(), what="dovecot")
        assert judge.poll() is None, "dovecot has ended at once"
        yield {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": str(socket),
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_tls_auth_only": "yes",
        }
    finally:
        judge.terminate()
        judge.wait(10)
