"""Postfix as the peer: an instance of its own with Debian's defaults, told where its destinations are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import postfix
from tests.support.postfix import Postfix, why_not

__all__ = ["running", "version", "why_not"]


def version() -> str:
    asked = subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@contextmanager
def running(folder: Path, *, port: int, transports: Mapping[str, str], **settings: str) -> Iterator[Postfix]:
    """``transports`` are its transport_maps: recipient domain → host:port; ``settings`` further lines of main.cf."""
    folder.mkdir()
    folder.chmod(0o711)
    (folder / "transport").write_text("".join(f"{domain} {_next_hop(place)}\n" for domain, place in transports.items()))
    with postfix.running(
        folder,
        port=port,
        transport_maps=f"texthash:{folder}/transport",
        smtpd_client_connection_count_limit="0",
        smtp_dns_support_level="disabled",
        smtp_host_lookup="native",
        smtp_tls_security_level="none",
        **{"smtpd_tls_security_level": "none", **settings},
    ) as instance:
        yield instance


def _next_hop(place: str) -> str:
    host, _, port = place.rpartition(":")
    return f"smtp:[{host}]:{port}"
