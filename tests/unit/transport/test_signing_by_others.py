"""What we sign, before verifiers that others wrote: OpenDKIM and Mail::DKIM, where they are installed, beside dkimpy."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from delivery.transport.signing import public_record
from tests.unit.transport.test_signing import BODIES, HEADER, HEADERS, PEM, on_the_wire, signed

KEY = "rw1._domainkey.acme.example"
DATE = b"Date: Tue, 24 Nov 2026 05:32:07 +0000\r\n"


def _whole(header: bytes) -> bytes:
    """With a Date and an author's address: OpenDKIM calls everything else no mail, and none of it is accepted here."""
    header = header.replace(b"FROM:  x", b"FROM:  x@acme.example")
    return header if b"Date:" in header else DATE + header


GOOD = [HEADER + b"\r\n" + body for body in BODIES.values()]
GOOD += [_whole(header) + b"\r\nhello\r\n" for header in HEADERS.values()]
# A second From or Subject, a Reply-To that was not there: each changes what the reader is shown.
ADDED = (
    b"From: eve@evil.example\r\n",
    b"Subject: other\r\n",
    b"To: all@globex.example\r\n",
    b"Reply-To: eve@evil.example\r\n",
)

PERL = r"""
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;
my $record = shift;
no warnings 'redefine';
*Mail::DKIM::DNS::query = sub { return Net::DNS::RR->new(owner => $_[0], type => 'TXT', txtdata => $record) };
for my $path (@ARGV) {
    open(my $file, '<:raw', $path) or die $path;
    local $/; my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT(<$file>); $verifier->CLOSE;
    print $verifier->result, "\n";
}
"""


@pytest.fixture
def mails(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Files of what must pass, and of what must not."""

    def write(kind: str, contents: list[bytes]) -> list[Path]:
        paths = [tmp_path / f"{kind}-{number}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(on_the_wire(content))
        return paths

    genuine = signed(HEADER + b"\r\nhello\r\n")
    return write("good", [signed(content) for content in GOOD]), write("bad", [field + genuine for field in ADDED])


def test_opendkim_finds_the_same(mails: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    program = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("opendkim is not installed (apt-get install opendkim)")
    keys, configuration = tmp_path / "keys", tmp_path / "configuration"
    keys.write_text(f"{KEY} {public_record(PEM)}\n")
    configuration.write_text(f"Mode v\nTestPublicKeys {keys}\nSyslog no\nMaximumHeaders 0\n")
    good, bad = mails

    said = subprocess.run(
        [program, "-t", ",".join(map(str, [*good, *bad])), "-x", str(configuration), "-vv"],
        capture_output=True,
        text=True,
        check=False,
    )

    passed = set(
        re.findall(r"(\S+): verification \(s=rw1, d=acme\.example, \d+-bit key\) succeeded", said.stdout + said.stderr)
    )
    assert passed == {str(path) for path in good}


def test_mail_dkim_of_perl_finds_the_same(mails: tuple[list[Path], list[Path]]) -> None:
    perl = shutil.which("perl")
    if perl is None or subprocess.run([perl, "-MMail::DKIM", "-e", "1"], capture_output=True, check=False).returncode:
        pytest.skip("Mail::DKIM is not installed (apt-get install libmail-dkim-perl)")
    good, bad = mails

    said = subprocess.run(
        [perl, "-e", PERL, public_record(PEM), *map(str, [*good, *bad])], capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == ["pass"] * len(good) + ["fail"] * len(bad)
