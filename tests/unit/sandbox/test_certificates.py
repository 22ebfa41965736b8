from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509

from sandbox.certificates import server_context


def names_in(file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(alternative.get_values_for_type(x509.DNSName))


def test_certificates_are_made_once_and_kept(tmp_path: Path) -> None:
    server_context(tmp_path, ["mx.x.test"])
    before = (tmp_path / "hosts.pem").read_bytes()

    server_context(tmp_path, ["mx.x.test"])

    assert (tmp_path / "hosts.pem").read_bytes() == before
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.glob("*.key"))


def test_new_names_get_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    server_context(tmp_path, ["mx.x.test"])
    authority = (tmp_path / "ca.pem").read_bytes()

    server_context(tmp_path, ["mx.x.test", "*.y.test"])

    assert names_in(tmp_path / "hosts.pem") == ["*.y.test", "mx.x.test"]
    assert (tmp_path / "ca.pem").read_bytes() == authority


def test_a_lost_key_is_replaced(tmp_path: Path) -> None:
    server_context(tmp_path, ["mx.x.test"])
    (tmp_path / "ca.key").unlink()

    server_context(tmp_path, ["mx.x.test"])

    assert (tmp_path / "ca.key").exists()
