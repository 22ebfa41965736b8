"""Programs that no one here wrote hand over a mail, over verified TLS and with a login, and say a control in a header field."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from accounts.credentials import Issued
from delivery.models import Message, Recipient
from tests.conftest import TEST_FOLDER
from tests.support import postfix
from tests.support.certificates import Authority
from tests.support.gate import RunningGate, stored_content
from tests.support.waiting import until

HOST = "localhost"
AUTHOR, RECIPIENT = "alice@acme.example", "bob@example.com"
# Debian's modules of node-nodemailer, which a Node from elsewhere does not look for there.
NODE_PATH = "/usr/share/nodejs"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def certificate_file(authority: Authority) -> Path:
    """Other than the gate's other tests: programs check that the certificate is for the host they connect to."""
    authority.server_context(HOST)
    return authority.folder / f"{HOST}.pem"


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (apt-get install {program})")
    return path


def run(*command: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, env={**os.environ, **environment})
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
    return done


def the_mail(*, tags: list[str], body: str, subject: str = "ご注文") -> Message:
    """The one message that was accepted, after a look at everything a program can get wrong on the way."""
    message = Message.objects.get()
    assert (message.protocol, message.reverse_path, message.subject) == ("ESMTPSA", AUTHOR, subject)
    assert message.tags == tags
    assert Recipient.objects.get().address == RECIPIENT
    stored = stored_content(message)
    assert b"x-relay" not in stored.lower()
    read = message_from_bytes(stored, policy=policy.default)
    assert read.get_body().get_content().rstrip().splitlines() == body.splitlines()  # swaks adds a line
    return message


BODY = ".\n..先頭が点の行\nありがとうございます。\n"
LETTER = (
    f"From: {AUTHOR}\r\nTo: {RECIPIENT}\r\nSubject: =?utf-8?B?44GU5rOo5paH?=\r\n"
    "X-Relay-Tags: one, two\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + BODY.replace("\n", "\r\n")
).encode()  # fmt: skip


def test_djangos_mail_backend(
    gate: RunningGate, login: Issued, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.mail import EmailMultiAlternatives
    from django.core.mail.backends.smtp import EmailBackend

    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    backend = EmailBackend(
        host=HOST, port=gate.address[1], username=login.credential.username, password=login.secret, use_tls=True
    )
    mail = EmailMultiAlternatives(
        "ご注文", BODY, AUTHOR, [RECIPIENT], headers={"X-Relay-Tags": "one, 注文"}, connection=backend
    )
    mail.attach("請求書.pdf", b"%PDF", "application/pdf")

    assert mail.send() == 1

    the_mail(tags=["one", "注文"], body=BODY)


_NODE = """
const mail = JSON.parse(require("fs").readFileSync(0, "utf8"))
const transport = require("nodemailer").createTransport(mail.transport)
transport.sendMail(mail.message).then((sent) => console.log(JSON.stringify(sent)), (error) => {
  console.error(error)
  process.exit(1)
})
"""


def test_nodemailer(gate: RunningGate, login: Issued, authority: Authority) -> None:
    node = needs("node")
    environment = {"NODE_PATH": os.pathsep.join(filter(None, [os.environ.get("NODE_PATH"), NODE_PATH]))}
    found = subprocess.run(
        [node, "-e", "require('nodemailer')"], capture_output=True, env={**os.environ, **environment}
    )
    if found.returncode != 0:
        pytest.skip("nodemailer is not installed (apt-get install node-nodemailer)")
    wanted = {
        "transport": {
            "host": HOST,
            "port": gate.address[1],
            "requireTLS": True,
            "auth": {"user": login.credential.username, "pass": login.secret},
            "tls": {"ca": authority.ca_file.read_text()},
        },
        "message": {
            "from": AUTHOR,
            "to": RECIPIENT,
            "subject": "ご注文",
            "text": BODY,
            "headers": {"X-Relay-Tags": "one, 注文"},
            "attachments": [{"filename": "請求書.pdf", "content": "%PDF"}],
        },
    }

    sent = json.loads(run(node, "-e", _NODE, stdin=json.dumps(wanted).encode(), **environment).stdout)

    message = the_mail(tags=["one", "注文"], body=BODY)
    assert sent["response"] == f"250 2.0.0 accepted {message.id}"
    assert sent["accepted"] == [RECIPIENT]


def test_msmtp(gate: RunningGate, login: Issued, authority: Authority, tmp_path: Path) -> None:
    program = needs("msmtp")
    settings = tmp_path / "msmtprc"
    settings.write_text(
        f"account default\nhost {HOST}\nport {gate.address[1]}\nfrom {AUTHOR}\nauth on\nuser {login.credential.username}\n"
        f"password {login.secret}\ntls on\ntls_starttls on\ntls_trust_file {authority.ca_file}\n"
    )
    settings.chmod(0o600)

    run(program, "--file", str(settings), RECIPIENT, stdin=LETTER.replace(b"\r\n", b"\n"))

    the_mail(tags=["one", "two"], body=BODY)


def test_swaks(gate: RunningGate, login: Issued, authority: Authority) -> None:
    program = needs("swaks")
    if subprocess.run([needs("perl"), "-MNet::SSLeay", "-e", "1"], capture_output=True).returncode != 0:
        pytest.skip("swaks cannot speak TLS (apt-get install libnet-ssleay-perl)")
    run(
        program,
        *("--server", f"{HOST}:{gate.address[1]}", "--from", AUTHOR, "--to", RECIPIENT),
        *("--tls", "--tls-verify", "--tls-ca-path", str(authority.ca_file)),
        *("--auth", "PLAIN", "--auth-user", str(login.credential.username), "--auth-password", str(login.secret)),
        *("--data", LETTER.replace(b"\r\n", b"\n").decode()),
    )

    the_mail(tags=["one", "two"], body=BODY)


@pytest.mark.parametrize("is_implicit_tls", [False, True])
def test_curl(gate: RunningGate, login: Issued, authority: Authority, is_implicit_tls: bool) -> None:
    port = (gate.implicit_address if is_implicit_tls else gate.address)[1]
    run(
        needs("curl"),
        *("--silent", "--show-error", "--ssl-reqd", "--cacert", str(authority.ca_file)),
        *("--url", f"{'smtps' if is_implicit_tls else 'smtp'}://{HOST}:{port}/client.test"),
        *("--user", f"{login.credential.username}:{login.secret}", "--mail-from", AUTHOR, "--mail-rcpt", RECIPIENT),
        *("--upload-file", "-"),
        stdin=LETTER,
    )

    the_mail(tags=["one", "two"], body=BODY)


@pytest.fixture
def passable_folder() -> Iterator[Path]:
    """One that other users may pass through; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="postfix-", dir=TEST_FOLDER))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_postfix_with_us_as_its_relayhost(
    gate: RunningGate, login: Issued, authority: Authority, passable_folder: Path
) -> None:
    if reason := postfix.why_not():
        pytest.skip(reason)
    ca_file = passable_folder / "ca.pem"
    ca_file.write_bytes(authority.ca_file.read_bytes())
    relay = f"[{HOST}]:{gate.address[1]}"
    passwords = passable_folder / "passwords"
    passwords.write_text(f"{relay} {login.credential.username}:{login.secret}\n")
    settings: dict[str, Any] = {
        "relayhost": relay,
        "smtp_host_lookup": "native",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"texthash:{passwords}",
        "smtp_sasl_tls_security_options": "noanonymous",
        "smtp_tls_security_level": "verify",
        "smtp_tls_CAfile": str(ca_file),
    }

    with postfix.running(passable_folder, port=_free_port(), **settings) as relaying:
        with relaying.smtp() as client:
            client.sendmail(AUTHOR, [RECIPIENT], LETTER, mail_options=["BODY=8BITMIME"])
        until(lambda: "status=" in relaying.log, seconds=20, what="the private Postfix's attempt")
        log = relaying.log

    assert "status=sent (250 2.0.0 accepted " in log, log
    message = the_mail(tags=["one", "two"], body=BODY)
    assert f"accepted {message.id})" in log


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
