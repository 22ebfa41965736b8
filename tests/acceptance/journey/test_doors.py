"""Mail of programs made for other services, and mail with controls: from the running web server and gate to its receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymail.backends.postal import EmailBackend
from anymail.message import AnymailMessage
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import Mail

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled


def inbox(stack: Stack) -> list[bytes]:
    return [path.read_bytes() for path in Path(stack.var / "sandbox" / "inbox").rglob("*.eml")]


def test_mail_of_foreign_clients_arrives_and_no_control_leaves(stack: Stack, acme: Sender) -> None:
    key = stack.relay("credential", "issue", "--tenant", acme.slug, "--kind", "api", "--name", "doors")["secret"]
    url = f"http://127.0.0.1:{stack.ports['http']}"
    author = f"shop@{acme.domain}"
    addresses = [f"accept+door{n}@accept.sandbox.test" for n in range(4)]
    controls: dict[str, Any] = {"X-Relay-TLS": "required", "X-Relay-Tags": "扉"}

    # A base that ends in a slash makes it ask for //v3/mail/send.
    for base, address in zip((url, f"{url}/"), addresses, strict=False):
        answer = SendGridAPIClient(key, host=base).send(Mail(author, address, "sendgrid", "こんにちは"))
        assert answer.status_code == 202
    postal = EmailBackend(api_key=key, api_url=url)
    mail = AnymailMessage("postal", "こんにちは", author, [addresses[2]], headers=controls, connection=postal)
    assert mail.send() == 1
    fields = "".join(f"{name}: {value}\r\n" for name, value in controls.items())
    with stack.smtp(acme.username, acme.secret) as client:
        client.sendmail(author, addresses[3], f"From: {author}\r\n{fields}Subject: smtp\r\n\r\nHello\r\n".encode())

    rows = settled(stack, acme.slug, addresses, seconds=60)
    assert {address: row["state"] for address, row in rows.items()} == dict.fromkeys(addresses, "delivered")
    arrived = [content for content in inbox(stack) if b"accept+door" in content or b"Subject: smtp" in content]
    assert len(arrived) == 4
    assert not any(b"x-relay" in content.lower() for content in arrived)
    shown = stack.relay("message", "show", rows[addresses[2]]["message_id"])
    assert shown["recipients"][0]["attempts"][-1]["tls"].startswith("TLS")
