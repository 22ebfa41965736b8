"""The returns listener: our signed mailboxes and the ones that have to exist; everything else is told the same no."""

from __future__ import annotations

import secrets
import smtplib
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from delivery.core.unsubscribing import make_token
from delivery.core.verp import make_bounce_mailbox
from delivery.domains import add_domain
from delivery.models import DomainReport, Message, ReturnedMail
from delivery.reports import incoming
from tests.support.aggregates import dmarc_mail, record
from tests.support.gate import LETTER, RunningGate
from tests.support.journeys import Cast
from tests.support.wire import Wire

DOMAIN = settings.BOUNCE_DOMAIN


def bounce_mailbox(*, key: bytes | None = None, days: int = 30, domain: str = DOMAIN) -> str:
    key = key or sealing.derived_keys("verp")[0]
    return make_bounce_mailbox(
        uuid7(), domain, key=key, expires_on=timezone.now().date() + timedelta(days=days)
    ).address


@pytest.fixture
def wire(gate: RunningGate) -> Wire:
    wire = Wire(gate.returns_address)
    assert wire.greet().code == 250
    return wire


def rcpt(wire: Wire, mailbox: str) -> int:
    wire.say(b"RSET")
    assert wire.say(b"MAIL FROM:<>").code == 250
    return wire.say(b"RCPT TO:<" + mailbox.encode() + b">").code


def test_our_own_mailboxes_are_taken(wire: Wire) -> None:
    token = make_token(uuid7(), key=sealing.derived_keys("unsubscribe")[0])
    ours = [
        bounce_mailbox(), bounce_mailbox().upper(), f"u-{token}@{DOMAIN}", f"fbl@{DOMAIN}", f"dmarc@{DOMAIN}",
        f"tlsrpt@{DOMAIN}", f"postmaster@{DOMAIN}", f"Abuse@{DOMAIN}", f"postmaster@{settings.HOSTNAME}", "postmaster",
    ]  # fmt: skip

    assert {mailbox: rcpt(wire, mailbox) for mailbox in ours} == dict.fromkeys(ours, 250)


def test_everything_else_is_told_the_same(wire: Wire) -> None:
    good = bounce_mailbox()
    flipped = good[:10] + ("a" if good[10] != "a" else "b") + good[11:]
    others = [
        flipped,
        bounce_mailbox(key=b"k" * 32),
        bounce_mailbox(days=-1),
        bounce_mailbox(domain="bounce.example.com"),
        f"b-{'a' * 48}@{DOMAIN}",
        f"u-{'a' * 45}@{DOMAIN}",
        f"u-{'a' * 44}=@{DOMAIN}",
        f"b-{'a' * 47}=@{DOMAIN}",
        f"somebody@{DOMAIN}",
        "bob@example.com",
        "fbl@example.com",
    ]

    wire.say(b"MAIL FROM:<>")
    said = {mailbox: wire.say(f"RCPT TO:<{mailbox}>".encode()).text for mailbox in others}

    assert len(set(said.values())) == 1, said
    assert next(iter(said.values())).startswith("5.1.1")


def test_it_relays_nothing(wire: Wire) -> None:
    for path in (
        "u%ext.example@" + DOMAIN, "ext.example!u@" + DOMAIN, f'"u@ext.example"@{DOMAIN}', "u@ext.example",
        "@ext.example:u@" + DOMAIN, "u@[127.0.0.1]",
    ):  # fmt: skip
        assert 500 <= rcpt(wire, path) < 600, path


def test_random_tags_never_fit(gate: RunningGate) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    for _session in range(20):
        wire = Wire(gate.returns_address)
        wire.greet()
        wire.say(b"MAIL FROM:<>")
        tags = ["".join(secrets.choice(alphabet) for _place in range(48)) for _tag in range(15)]
        assert {wire.say(f"RCPT TO:<b-{tag}@{DOMAIN}>".encode()).code for tag in tags} == {550}

    assert ReturnedMail.objects.count() == 0


def test_reports_are_not_promised_here(wire: Wire) -> None:
    assert "DSN" not in wire.say(b"EHLO mx.far.test").lines


def test_there_is_no_login(wire: Wire) -> None:
    assert wire.say(b"AUTH PLAIN AAAA").code in {502, 538}


def test_what_comes_is_kept_as_it_came_before_the_250(wire: Wire) -> None:
    import zstandard

    mailbox = bounce_mailbox()
    assert rcpt(wire, mailbox) == 250
    assert wire.say(b"DATA").code == 354

    said = wire.say(LETTER + b".")

    assert said.code == 250
    row = ReturnedMail.objects.get()
    assert (row.kind, row.mailbox, row.reverse_path) == ("bounce", mailbox, "")
    assert zstandard.ZstdDecompressor().decompress(bytes(row.compressed)) == LETTER
    assert Message.objects.count() == 0


@pytest.mark.parametrize("count", [51, 101])
def test_what_has_gone_in_circles_is_refused(wire: Wire, count: int) -> None:
    assert rcpt(wire, bounce_mailbox()) == 250
    wire.say(b"DATA")

    said = wire.say(b"Received: from a by b; Tue, 24 Nov 2026 14:31:40 +0900\r\n" * count + LETTER + b".")

    assert (said.code, said.text[:5]) == (554, "5.4.6")
    assert ReturnedMail.objects.count() == 0


def test_one_mailbox_cannot_fill_the_table(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    from delivery.acceptance import returns

    monkeypatch.setattr(returns, "MOST_PER_RECIPIENT", 2)
    mailbox = bounce_mailbox()
    codes = []
    for _mail in range(3):
        codes.append(rcpt(wire, mailbox))
        if codes[-1] == 250:
            wire.say(b"DATA")
            wire.say(LETTER + b".")

    assert codes == [250, 250, 452]


def test_a_tenants_own_bounce_domain_is_ours_once_it_was_seen(start_gate: Callable[..., RunningGate]) -> None:
    from delivery.models import SendingDomain

    SendingDomain.objects.filter(name="acme.example").update(bounce_host="bounce.acme.example")
    gate = start_gate()
    wire = Wire(gate.returns_address)
    wire.greet()

    assert rcpt(wire, bounce_mailbox(domain="bounce.acme.example")) == 250
    assert rcpt(wire, bounce_mailbox(domain="bounce.globex.example")) == 550


def test_a_dmarc_report_that_a_receiver_sends_is_kept_for_its_domain(gate: RunningGate, cast: Cast) -> None:
    domain = add_domain(cast.acme, "reported.example", actor=Actor.system("test"), assume_verified=True)
    yesterday = int(time.time()) - 86_400
    mail = dmarc_mail(record(count=7), domain="reported.example", begin=yesterday, end=yesterday + 3_600)

    with smtplib.SMTP(*gate.returns_address) as smtp:
        smtp.sendmail("noreply@receiver.example", [f"dmarc@{DOMAIN}"], mail)
    incoming.read_waiting()

    report = DomainReport.objects.get(domain=domain)
    assert (report.total, report.passed, report.reporter) == (7, 7, "receiver.example")
    assert ReturnedMail.objects.get().outcome == "taken"
