"""OpenDKIM as the peer's signer: RSA-2048, relaxed/relaxed, asked by Postfix as a milter."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.support.feeder import DOMAIN
from bench.support.sinks import listens
from tests.support.waiting import until

_CONFIGURATION = """\
Mode s
Domain {domain}
Selector bench
KeyFile {key}
Canonicalization relaxed/relaxed
InternalHosts 127.0.0.1
Socket inet:{port}@127.0.0.1
RequireSafeKeys no
Syslog no
"""


def why_not() -> str:
    return "" if shutil.which("opendkim") else "opendkim is not installed (apt-get install opendkim)"


def version() -> str:
    said = subprocess.run(["opendkim", "-V"], capture_output=True, text=True, check=True).stdout
    return said.split()[2].lstrip("v")


@contextmanager
def running(folder: Path, *, port: int) -> Iterator[dict[str, str]]:
    """Yields the settings by which a Postfix has all its mail signed."""
    folder.mkdir()
    key, configuration = folder / "key.pem", folder / "opendkim.conf"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    key.chmod(0o600)
    configuration.write_text(_CONFIGURATION.format(domain=DOMAIN, key=key, port=port))
    signer = subprocess.Popen(["opendkim", "-f", "-x", str(configuration)], stdin=subprocess.DEVNULL)
    try:
        until(lambda: signer.poll() is not None or listens("127.0.0.1", port), what="opendkim")
        assert signer.poll() is None, "opendkim has ended at once"
        yield {
            "smtpd_milters": f"inet:127.0.0.1:{port}",
            "milter_default_action": "tempfail",  # a mail that is not signed is not measured
        }
    finally:
        signer.terminate()
        signer.wait(10)
