"""Under load, and while parts are killed: what was answered 250 arrives, and nothing arrives twice without being known.

The receiving side is the sandbox, whose ledger is flushed to disk before each of its answers; it is never killed.
"""

from __future__ import annotations

import shutil
import smtplib
import subprocess
import threading
import time

import pytest

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled
from tests.support.waiting import until

MAIL = "From: shop@{domain}\r\nTo: {recipient}\r\nSubject: {recipient}\r\n\r\n" + ("x" * 70 + "\r\n") * 55


@pytest.fixture(scope="module")
def network(stack: Stack, acme: Sender) -> None:
    """127.0.0.1 may hand over Acme's mail without logging in."""
    stack.relay(
        *(
            "credential",
            "issue",
            "--tenant",
            acme.slug,
            "--kind",
            "network",
            "--cidr",
            "127.0.0.1/32",
            "--name",
            "loopback",
        )
    )
    until(lambda: _is_let_in(stack, acme), seconds=10, what="the network credential")


def _is_let_in(stack: Stack, acme: Sender) -> bool:
    with stack.smtp() as client:
        client.ehlo()
        return client.mail(f"shop@{acme.domain}")[0] == 250


class Client(threading.Thread):
    """Hands over mails until it is told to stop; remembers the recipients that were answered 250."""

    def __init__(self, stack: Stack, acme: Sender, name: str) -> None:
        super().__init__(daemon=True)
        self.stack, self.acme, self.prefix = stack, acme, name
        self.accepted: list[str] = []
        self.refused_for_good: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            try:
                with self.stack.smtp() as client:
                    while not self.stopping.is_set():
                        number += 1
                        self._send(client, f"{self.prefix}-{number}@accept.sandbox.test")
            except (OSError, smtplib.SMTPException):
                self.stopping.wait(0.05)

    def _send(self, client: smtplib.SMTP, recipient: str) -> None:
        mail = MAIL.format(domain=self.acme.domain, recipient=recipient)
        try:
            client.sendmail(f"shop@{self.acme.domain}", [recipient], mail)
        except smtplib.SMTPResponseException as refused:
            if 500 <= refused.smtp_code < 600:
                self.refused_for_good.append(f"{recipient}: {refused}")
            raise
        self.accepted.append(recipient)


@pytest.mark.timeout(240)
def test_kill_9_of_each_part_under_load_loses_nothing(stack: Stack, acme: Sender, network: None) -> None:
    clients = [Client(stack, acme, f"kill-{number}") for number in range(4)]
    for client in clients:
        client.start()

    for part in ("gate", "worker", "broker", "postgres"):
        _until_more_is_accepted(clients, 50)
        stack.kill(part)
    _until_more_is_accepted(clients, 50)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(30)

    accepted = [recipient for client in clients for recipient in client.accepted]
    rows = settled(stack, acme.slug, accepted, seconds=90)
    copies = stack.inbox_copies()
    assert [refusal for client in clients for refusal in client.refused_for_good] == []
    assert {row["state"] for row in rows.values()} == {"delivered"}
    assert [recipient for recipient in accepted if copies[recipient] == 0] == []
    twice = [recipient for recipient in accepted if copies[recipient] > 1]
    assert [recipient for recipient in twice if not _has_ambiguous_attempt(stack, rows[recipient])] == []


def _until_more_is_accepted(clients: list[Client], count: int) -> None:
    before = sum(len(client.accepted) for client in clients)
    until(
        lambda: sum(len(client.accepted) for client in clients) >= before + count,
        seconds=45,
        what="acceptance going on",
    )


def _has_ambiguous_attempt(stack: Stack, row: dict) -> bool:
    shown = stack.relay("message", "show", row["message_id"])
    return any(attempt["ambiguous"] for recipient in shown["recipients"] for attempt in recipient["attempts"])


@pytest.mark.timeout(240)
def test_five_thousand_mails_of_smtp_source_arrive_once_each(stack: Stack, acme: Sender, network: None) -> None:
    source = shutil.which("smtp-source")
    if source is None:
        pytest.skip("needs smtp-source of Debian's package postfix")
    _let_it_be_approached_faster(stack, acme)
    before = len(stack.ledger())
    began = time.monotonic()

    subprocess.run(
        [
            *(source, "-d", "-N", "-s", "20", "-m", "5000", "-l", "4096"),
            *("-f", f"shop@{acme.domain}", "-t", "load@accept.sandbox.test", f"127.0.0.1:{stack.ports['submission']}"),
        ],
        check=True,
        timeout=150,
    )
    until(lambda: len(stack.ledger()) >= before + 5000, seconds=60, what="the arrival of 5,000 mails")

    new = [line for line in stack.ledger()[before:] if line["recipients"][0].endswith("load@accept.sandbox.test")]
    assert len(new) == 5000
    assert len({line["recipients"][0] for line in new}) == 5000
    print(f"5,000 mails accepted and delivered in {time.monotonic() - began:.1f} s")


def _let_it_be_approached_faster(stack: Stack, acme: Sender) -> None:
    """A stranger gets 100 mails a second at most; this one is known to take more."""
    first = "first-of-all@accept.sandbox.test"
    with stack.smtp() as client:
        client.sendmail(f"shop@{acme.domain}", [first], MAIL.format(domain=acme.domain, recipient=first))
    settled(stack, acme.slug, [first], seconds=20)
    limits = ("messages=100000/s", "new_connections=100000/s")
    stack.relay("shaping", "set", "--provider", "site:mx1.accept.sandbox.test", *limits)
