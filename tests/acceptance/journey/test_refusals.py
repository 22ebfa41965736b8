"""What is not taken: the right code, a short text, and nothing stored."""

from __future__ import annotations

import smtplib

import pytest

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack

BODY = "To: somebody@accept.sandbox.test\r\nSubject: x\r\n\r\nhello\r\n"


def _refusal(act) -> tuple[int, str]:
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        act()
    text = refused.value.smtp_error
    return refused.value.smtp_code, text.decode() if isinstance(text, bytes) else text


@pytest.fixture
def nothing_is_stored(stack: Stack, acme: Sender):
    before = len(stack.relay("message", "list", "--tenant", acme.slug))
    yield
    assert len(stack.relay("message", "list", "--tenant", acme.slug)) == before


pytestmark = pytest.mark.usefixtures("nothing_is_stored")


def test_a_wrong_password_is_535(stack: Stack, acme: Sender) -> None:
    code, text = _refusal(lambda: stack.smtp(acme.username, "not the secret"))

    assert code == 535
    assert text.startswith("5.7.8")


def test_authentication_without_tls_is_refused(stack: Stack, acme: Sender) -> None:
    with stack.smtp() as client:
        client.ehlo()
        offered = client.has_extn("auth")
        code, _ = client.docmd("AUTH", "PLAIN AGEAYg==")

    assert not offered
    assert code in {530, 538}


def test_mail_without_authentication_is_refused(stack: Stack) -> None:
    with stack.smtp(source="127.0.0.2") as client:  # other tests let 127.0.0.1 in by network
        client.ehlo()
        code, _ = client.mail("shop@acme.example")

    assert code == 530


def test_a_foreign_author_domain_is_refused(stack: Stack, acme: Sender) -> None:
    with stack.smtp(acme.username, acme.secret) as client:
        code, text = _refusal(
            lambda: client.sendmail(
                f"shop@{acme.domain}", ["somebody@accept.sandbox.test"], f"From: boss@globex.example\r\n{BODY}"
            )
        )

    assert (code, text[:5]) == (550, "5.7.1")


def test_a_spoofed_reverse_path_is_refused(stack: Stack, acme: Sender) -> None:
    with stack.smtp(acme.username, acme.secret) as client:
        client.ehlo()
        code, text = client.mail("boss@globex.example")

    assert (code, text[:5]) == (550, b"5.7.1")


def test_an_unverified_domain_is_refused(stack: Stack, acme: Sender) -> None:
    stack.relay("domain", "add", "--tenant", acme.slug, "--name", "not-yet.example")
    with stack.smtp(acme.username, acme.secret) as client:
        code, _ = _refusal(
            lambda: client.sendmail(
                f"shop@{acme.domain}", ["somebody@accept.sandbox.test"], f"From: shop@not-yet.example\r\n{BODY}"
            )
        )

    assert code == 550


def test_an_over_size_message_is_refused_when_announced_and_when_sent(stack: Stack, acme: Sender) -> None:
    with stack.smtp(acme.username, acme.secret) as client:
        client.ehlo()
        announced, _ = client.mail(f"shop@{acme.domain}", ["SIZE=99999999999"])
        client.rset()
        large = f"From: shop@{acme.domain}\r\n{BODY}" + ("x" * 70 + "\r\n") * 380_000
        client.esmtp_features.pop("size")
        sent, _ = _refusal(lambda: client.sendmail(f"shop@{acme.domain}", ["somebody@accept.sandbox.test"], large))

    assert (announced, sent) == (552, 552)
