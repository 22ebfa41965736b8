"""The service's own mail goes through acceptance, for the system tenant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives

from accounts import quotas
from accounts.audit import Actor
from accounts.models import Tenant
from delivery.core.content import author_of, check_lines, display_text, read_header_section
from delivery.core.mailbox import MailboxSyntaxError
from delivery.models import Message, Recipient, SendingDomain
from relayweb.mail_backend import submission_of, system_principal

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _who_we_are(settings: Any) -> None:
    settings.MAIL_FROM = "relayweb <no-reply@system.relay.test>"


def _message(**fields: Any) -> EmailMessage:
    given = {
        "subject": "確認メール",
        "body": "こんにちは。\n.先頭の点\n",
        "from_email": "relayweb <no-reply@system.relay.test>",
        "to": ["Alice <alice@acme.example>"],
    }
    return EmailMessage(**{**given, **fields})


def test_a_mail_becomes_a_submission_that_acceptance_can_read(db: None) -> None:
    message = _message(cc=["bob@acme.example"], bcc=["carol@acme.example"])

    submission = submission_of(message, principal=system_principal())

    check_lines(submission.content)
    section = read_header_section(submission.content)
    assert author_of(section).mailbox.address == "no-reply@system.relay.test"
    assert display_text(section.first_value("subject") or b"") == "確認メール"
    assert section.first_value("bcc") is None
    assert [one.mailbox.address for one in submission.envelope.recipients] == [
        "alice@acme.example", "bob@acme.example", "carol@acme.example",
    ]  # fmt: skip
    assert submission.envelope.reverse_path is not None
    assert submission.envelope.reverse_path.address == "no-reply@system.relay.test"
    assert submission.peer.protocol == "SYSTEM"


def test_an_alternative_is_kept(db: None) -> None:
    message = EmailMultiAlternatives("Hi", "plain", "no-reply@system.relay.test", ["alice@acme.example"])
    message.attach_alternative("<p>html</p>", "text/html")

    content = submission_of(message, principal=system_principal()).content

    check_lines(content)
    assert b"multipart/alternative" in content
    assert b"<p>html</p>" in content


def test_an_address_that_mail_cannot_be_sent_to_is_said(db: None) -> None:
    with pytest.raises(MailboxSyntaxError):
        submission_of(_message(to=["alice@localhost"]), principal=system_principal())


def test_the_service_writes_within_the_limits_of_the_system_tenant(db: None) -> None:
    system = Tenant.objects.get(is_system=True)
    quotas.set_limits(system, {"daily_limit": 9}, actor=Actor.system("test"))

    principal = system_principal()

    assert (principal.tenant_id, principal.tenant_is_system, principal.daily_limit) == (system.id, True, 9)


def test_the_first_system_mail_makes_the_domain_it_comes_from(db: None) -> None:
    system_principal()
    system_principal()

    assert SendingDomain.objects.get(name="system.relay.test").state == "verified"


# The tests' server trades durability for speed, and acceptance rightly takes no mail then: it is told otherwise.
DURABLE = """
import django
django.setup()
from delivery.acceptance import store
async def read_durability(connection):
    return store.Durability(fsync="on", synchronous_commit="on", full_page_writes="on")
store.read_durability = read_durability
"""
SEND = """
import django
django.setup()
from django.core.mail import EmailMessage, get_connection
connection = get_connection("relayweb.mail_backend.EmailBackend")
message = EmailMessage("確認メール", "こんにちは。", "no-reply@system.relay.test", ["alice@acme.example"])
print(connection.send_messages([message, EmailMessage("nobody", "", "no-reply@system.relay.test", [])]))
foreign = EmailMessage("x", "x", "ceo@globex.example", ["alice@acme.example"])
try:
    connection.send_messages([foreign])
except Exception as error:
    print(type(error).__name__)
print(get_connection("relayweb.mail_backend.EmailBackend", fail_silently=True).send_messages([foreign]))
"""


def test_a_mail_is_committed_before_the_caller_goes_on(part_environment: dict[str, str]) -> None:
    environment = {**part_environment, "RELAY_MAIL_FROM": "relayweb <no-reply@system.relay.test>"}

    ran = subprocess.run(
        [sys.executable, "-c", DURABLE + SEND],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=90,
        check=False,
    )

    assert ran.stdout.split() == ["1", "Rejection", "0"], ran.stderr
    message = Message.objects.get()
    assert (message.tenant.is_system, message.author, message.subject) == (
        True, "no-reply@system.relay.test", "確認メール",
    )  # fmt: skip
    assert Recipient.objects.get().address == "alice@acme.example"


def test_nothing_is_accepted_over_a_database_whose_settings_could_lose_it(part_environment: dict[str, str]) -> None:
    environment = {**part_environment, "RELAY_MAIL_FROM": "relayweb <no-reply@system.relay.test>"}
    send_one = SEND.partition("print(")[0] + "connection.send_messages([message])\n"

    ran = subprocess.run(
        [sys.executable, "-c", send_one],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=90,
        check=False,
    )

    assert ran.returncode != 0
    assert "451 4.3.0" in ran.stderr
    assert not Message.objects.exists()
