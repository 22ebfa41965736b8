"""Under load: what was answered 250 arrives, and nothing arrives twice.

The receiving side is the sandbox, whose ledger is flushed to disk before each of its answers.
"""

from __future__ import annotations

import shutil
import subprocess
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
