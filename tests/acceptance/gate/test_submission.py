"""Mail from a real client is kept to the byte, and its 250 names the message."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from accounts.credentials import Issued
from delivery.models import Message, Recipient
from tests.support.gate import LETTER, RunningGate, message_of, stored_content


@pytest.mark.parametrize("is_implicit_tls", [False, True])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_smtplib_logs_in_and_sends(gate: RunningGate, login: Issued, mechanism: str, is_implicit_tls: bool) -> None:
    with gate.smtplib(is_implicit_tls=is_implicit_tls) as client:
        client.ehlo()
        client.user, client.password = login.credential.username, login.secret
        authenticate = client.auth_plain if mechanism == "PLAIN" else client.auth_login
        assert client.auth(mechanism, authenticate)[0] == 235  # type: ignore[arg-type]

        assert client.sendmail("alice@acme.example", ["bob@example.com"], LETTER) == {}

    message = Message.objects.get()
    assert message.protocol == "ESMTPSA"
    assert str(message.peer_address) == "127.0.0.1"
    assert message.subject == "こんにちは"
    assert stored_content(message).endswith(LETTER)
    assert Recipient.objects.get().address == "bob@example.com"


def test_a_message_with_attachments_and_dots_arrives_as_it_was_sent(gate: RunningGate, login: Issued) -> None:
    letter = EmailMessage(policy=SMTP)
    letter["From"], letter["To"], letter["Subject"] = "alice@acme.example", "bob@example.com", "請求書"
    letter.set_content(".\n..\n.先頭が点の行\n最後\n", cte="8bit")
    letter.add_attachment(bytes(range(256)) * 400, maintype="application", subtype="pdf", filename="請求書.pdf")
    sent = letter.as_bytes()
    with gate.smtplib() as client:
        client.login(str(login.credential.username), str(login.secret))
        client.sendmail("alice@acme.example", ["bob@example.com"], sent, mail_options=["BODY=8BITMIME"])

    message = Message.objects.get()
    assert stored_content(message).endswith(sent)
    assert message.body_type == "8BITMIME"


def test_the_250_names_the_message_and_comes_after_it_is_stored(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com", b"carol@example.net", b"bob@example.com")
        said = wire.content(LETTER)

        message = message_of(said)
    assert said.text == f"2.0.0 accepted {message.pk}"
    assert message.reverse_path == "alice@acme.example"
    assert message.recipient_count == 2


def test_we_write_down_where_it_came_from(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        content = stored_content(message_of(wire.content(LETTER)))

    received = content[: len(content) - len(LETTER)]
    assert received.startswith(b"Received: from client.test ([127.0.0.1])\r\n")
    assert b"ESMTPSA" in received and b"TLSv1.3" in received


def test_many_mails_go_through_one_session(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        for number in range(30):
            wire.envelope(b"alice@acme.example", b"r%d@example.com" % number)
            assert wire.content(LETTER).code == 250

    assert Message.objects.count() == 30


def test_the_use_of_a_credential_is_written_down(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        wire.content(LETTER)
    gate.loop.run(gate.gate.uses.write_down())

    login.credential.refresh_from_db()
    assert login.credential.used_count == 1
    assert login.credential.last_used_from == "127.0.0.1"
    assert login.credential.last_used_at is not None


def test_it_listens_on_ipv6_as_well(start_gate: Callable[..., RunningGate], login: Issued) -> None:
    gate = start_gate(host="::1")
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")

        assert str(message_of(wire.content(LETTER)).peer_address) == "::1"


def test_smtplib_hears_why_its_mail_is_refused(gate: RunningGate, login: Issued) -> None:
    with gate.smtplib() as client:
        client.login(str(login.credential.username), str(login.secret))

        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("alice@acme.example", ["bob@example.com"], LETTER.replace(b"acme", b"globex"))
    assert refused.value.smtp_code == 550
