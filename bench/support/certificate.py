"""A certificate of the benchmarks' own, ECDSA on P-256: the same for relayweb and its peer."""

from __future__ import annotations

import subprocess
from pathlib import Path


def write(folder: Path) -> tuple[Path, Path]:
    """The files of certificate and key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=relay.bench.example", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key
