"""Logging in: under TLS alone, by the book of RFC 4954, slowly for those who guess and never slowly for their neighbours."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.credentials import Issued, rotate_credential
from accounts.models import Credential
from delivery.models import Message, RejectionEntry
from tests.support.gate import RunningGate, log_in, plain
from tests.support.wire import Wire


def test_auth_is_neither_offered_nor_taken_in_the_clear(gate: RunningGate, login: Issued) -> None:
    with Wire(gate.address) as wire:
        offered = wire.greet()

        assert not any(line.startswith("AUTH") for line in offered.lines)
        assert log_in(wire, login).lines == ["5.7.11 encryption required, use STARTTLS"]
        assert wire.say(b"MAIL FROM:<alice@acme.example>").code == 530


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_auth_is_offered_and_works_under_tls_on_both_ports(
    start_gate: Callable[..., RunningGate], login: Issued, host: str
) -> None:
    gate = start_gate(host=host)
    with gate.greeted() as wire:
        assert "AUTH PLAIN LOGIN" in wire.encrypt().lines
        assert log_in(wire, login).code == 235
    with Wire(gate.implicit_address, is_implicit_tls=True) as wire:
        assert "AUTH PLAIN LOGIN" in wire.greet().lines
        assert log_in(wire, login).code == 235


def test_a_mechanism_may_be_written_in_lower_case(gate: RunningGate, login: Issued) -> None:
    with gate.encrypted() as wire:
        name, secret = str(login.credential.username), str(login.secret)

        assert wire.say(b"auth plain " + plain(name, secret)).code == 235


def test_plain_may_come_in_two_steps(gate: RunningGate, login: Issued) -> None:
    with gate.encrypted() as wire:
        wire.send(b"AUTH PLAIN\r\n")
        assert wire.line() == "334 "

        assert wire.say(plain(str(login.credential.username), str(login.secret))).code == 235


def test_login_asks_for_name_and_password(gate: RunningGate, login: Issued) -> None:
    name, secret = (base64.b64encode(str(text).encode()) for text in (login.credential.username, login.secret))
    with gate.encrypted() as wire:
        assert wire.say(b"AUTH LOGIN") == (334, ["VXNlcm5hbWU6"])
        assert wire.say(name) == (334, ["UGFzc3dvcmQ6"])
        assert wire.say(secret).code == 235
    with gate.encrypted() as wire:
        assert wire.say(b"AUTH LOGIN " + name).code == 334
        assert wire.say(secret).code == 235


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"AUTH", 501),
        (b"AUTH PLAIN a b", 501),
        (b"AUTH CRAM-MD5", 504),
        (b"AUTH PLAIN !!!", 501),
        (b"AUTH PLAIN =", 501),
        (b"AUTH PLAIN " + base64.b64encode(b"no separators"), 501),
        (b"AUTH PLAIN " + base64.b64encode(b"\0a\0b\0c\0d"), 501),
        (b"AUTH PLAIN " + base64.b64encode(b"\0\xff\xfe\0x"), 501),
        (b"AUTH PLAIN " + base64.b64encode(b"\0name\0" + "パスワード".encode()), 535),
        (b"AUTH PLAIN " + base64.b64encode(b"\0name\0" + b"x" * 500), 535),
        (b"AUTH PLAIN " + base64.b64encode(b"\0name\0" + b"x" * 4000), 535),
        (b"AUTH PLAIN " + base64.b64encode(b"\0" + b"n" * 4000 + b"\0x"), 535),
        (b"AUTH PLAIN " + base64.b64encode(b"\0na\x01me\0x"), 535),
        (b"AUTH PLAIN " + b"A" * 13_000, 500),
    ],
)
def test_it_answers_each_way_of_saying_it_wrong(gate: RunningGate, command: bytes, code: int) -> None:
    with gate.encrypted() as wire:
        assert wire.say(command).code == code
        assert wire.say(b"NOOP").code == 250


@pytest.mark.parametrize(("answer", "code"), [(b"*", 501), (b"!!!", 501), (b"A" * 13_000, 501), (b"", 501)])
def test_it_answers_each_wrong_step_of_the_exchange(gate: RunningGate, answer: bytes, code: int) -> None:
    with gate.encrypted() as wire:
        wire.say(b"AUTH PLAIN")

        assert wire.say(answer).code == code
        assert wire.say(b"NOOP").code == 250


def test_auth_has_its_time(gate: RunningGate, login: Issued) -> None:
    with gate.encrypted() as wire:
        wire.envelope(b"alice@acme.example")
        assert log_in(wire, login).code == 235
        assert log_in(wire, login).code == 503
        wire.envelope(b"alice@acme.example")
        assert log_in(wire, login).code == 503


def test_nobody_acts_for_another(gate: RunningGate, login: Issued) -> None:
    name, secret = str(login.credential.username), str(login.secret)
    with gate.encrypted() as wire:
        assert wire.say(b"AUTH PLAIN " + plain(name, secret, authorization="root")).code == 535
        assert wire.say(b"AUTH PLAIN " + plain(name, secret, authorization=name)).code == 235


def test_what_was_sent_before_tls_does_not_log_anybody_in(gate: RunningGate, login: Issued) -> None:
    name, secret = str(login.credential.username), str(login.secret)
    with gate.greeted() as wire:
        wire.send(b"STARTTLS\r\nEHLO x\r\nAUTH PLAIN " + plain(name, secret) + b"\r\n")
        assert wire.reply().code == 220
        wire.start_tls()
        wire.say(b"EHLO client.test")

        assert wire.say(b"MAIL FROM:<alice@acme.example>").code == 530


# ---------------------------------------------------------------- who guesses


def test_it_hangs_up_after_five_wrong_passwords(gate: RunningGate, login: Issued) -> None:
    wrong = b"AUTH PLAIN " + plain(str(login.credential.username), "wrong")
    with gate.encrypted() as wire:
        assert [wire.say(wrong).code for _ in range(5)] == [535] * 5
        assert wire.reply().code == 421
        assert wire.everything_left() == b""


def test_it_stops_listening_to_an_address_that_guesses_and_the_owner_notices_nothing(
    start_gate: Callable[..., RunningGate], login: Issued
) -> None:
    gate = start_gate(login_failures_per_address=12)
    wrong = b"AUTH PLAIN " + plain(str(login.credential.username), "wrong")
    codes = []
    for _ in range(10):
        with gate.encrypted(source="127.0.0.2") as wire:
            for _ in range(5):
                codes.append(wire.say(wrong).code)
                if codes[-1] == 421:
                    break

    assert codes[:12] == [535] * 12
    assert set(codes[12:]) == {421}
    waits = []
    for _ in range(2):
        with gate.encrypted(source="127.0.0.3") as owner:
            started = time.monotonic()
            assert log_in(owner, login).code == 235
            waits.append(time.monotonic() - started)
    assert min(waits) < 1
    # And the owner can see it.
    entry = RejectionEntry.objects.of(login.credential.tenant).first()
    assert entry is not None
    assert (entry.code, entry.reason, str(entry.peer_address)) == (535, "authentication_failed", "127.0.0.2")


def test_each_further_failure_is_answered_later(start_gate: Callable[..., RunningGate], login: Issued) -> None:
    gate = start_gate(login_delay_seconds=0.1, login_delay_maximum_seconds=5)
    wrong = b"AUTH PLAIN " + plain(str(login.credential.username), "wrong")
    waits, others = [], []
    with gate.encrypted(source="127.0.0.2") as wire, gate.greeted() as other:
        for _ in range(3):
            started = time.monotonic()
            wire.send(wrong + b"\r\n")
            assert other.say(b"NOOP").code == 250
            others.append(time.monotonic() - started)
            assert wire.reply().code == 535
            waits.append(time.monotonic() - started)

    assert waits[0] >= 0.1 and waits[1] >= 0.2 and waits[2] >= 0.4
    assert min(others) < 0.1  # nobody else waits


def test_an_unknown_name_gets_the_same_answer_as_a_wrong_password(gate: RunningGate, login: Issued) -> None:
    with gate.encrypted() as wire:
        unknown = wire.say(b"AUTH PLAIN " + plain("acme.nobody", "wrong"))
        wrong = wire.say(b"AUTH PLAIN " + plain(str(login.credential.username), "wrong"))

    assert unknown == wrong


# ---------------------------------------------------------------- what a credential is good for


def test_both_secrets_work_while_a_rotation_overlaps(gate: RunningGate, login: Issued, cast: object) -> None:
    secret = rotate_credential(login.credential, actor=Actor(name="test"))
    for valid in (secret, str(login.secret)):
        with gate.encrypted() as wire:
            assert wire.say(b"AUTH PLAIN " + plain(str(login.credential.username), valid)).code == 235


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"kind": "api"},
        {"only_networks": ["192.0.2.0/24"]},
    ],
)
def test_a_credential_that_is_not_good_for_this_does_not_log_in(
    gate: RunningGate, login: Issued, change: dict[str, object]
) -> None:
    Credential.objects.filter(pk=login.credential.pk).update(**change)
    with gate.encrypted() as wire:
        assert log_in(wire, login).code == 535


def test_a_credential_of_a_closed_tenant_does_not_log_in(gate: RunningGate, login: Issued) -> None:
    tenant = login.credential.tenant
    tenant.state = "closed"
    tenant.save()
    with gate.encrypted() as wire:
        assert log_in(wire, login).code == 535
    assert not Message.objects.exists()
