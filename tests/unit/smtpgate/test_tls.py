"""TLS: what was said in the clear counts for nothing, and nothing older than 1.2 is spoken."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from smtpgate.tls import Certificate
from tests.support.certificates import Authority
from tests.support.desk import Desk
from tests.support.waiting import until
from tests.support.wire import CLIENT_TLS, Closed, Wire


def test_it_discards_what_was_sent_in_the_clear_behind_starttls(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.send(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<x@y.test>\r\nRSET\r\n")
        assert wire.reply().code == 220
        wire.start_tls()

        assert wire.has_nothing_to_say()
        assert wire.say(b"RSET").code == 250  # the first thing that was heard
        assert wire.say(b"RCPT TO:<bob@example.com>").code == 503


def test_it_begins_anew_after_the_handshake(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.envelope(b"alice@acme.test", b"bob@example.com")
        wire.say(b"STARTTLS")
        wire.start_tls()

        assert wire.say(b"MAIL FROM:<alice@acme.test>").code == 503
        assert wire.say(b"DATA").code == 503
        assert "STARTTLS" not in wire.say(b"EHLO client.test").lines
        assert [said.code for said in wire.envelope(b"alice@acme.test", b"bob@example.com")] == [250, 250]
        assert wire.content(b"x\r\n" * 50_000).code == 250
    assert desk.contents == [b"x\r\n" * 50_000]


def test_it_refuses_a_second_starttls(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.encrypt()

        assert wire.say(b"STARTTLS").code == 503
        assert wire.say(b"NOOP").code == 250


def test_it_speaks_tls_at_once_on_the_other_port(desk: Desk) -> None:
    with desk.connect() as plain:
        assert plain.reply().code == 220
    with Wire(desk.implicit_address, is_implicit_tls=True) as wire:
        assert "STARTTLS" not in wire.greet().lines


def test_it_hangs_up_on_somebody_who_speaks_plain_text_where_tls_is_due(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.say(b"STARTTLS")
        wire.send(b"EHLO client.test\r\n" * 20)

        assert b"250" not in wire.everything_left()
    until(lambda: desk.boundary.session_count == 0 and desk.boundary.handshakes == 0, what="leaving")


def test_it_does_not_wait_long_for_a_handshake(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(tls_handshake_seconds=0.3, command_seconds=0.8)
    with desk.greeted() as wire:
        wire.say(b"STARTTLS")

        assert wire.everything_left() == b""
    until(lambda: desk.boundary.handshakes == 0, what="the end of the handshake")


def test_it_speaks_nothing_older_than_tls_1_2(desk: Desk) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with desk.greeted() as wire:
        wire.say(b"STARTTLS")

        with pytest.raises(OSError):
            wire.start_tls(old)


def test_it_does_not_offer_what_it_has_no_certificate_for(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(has_tls=False)
    with desk.connect() as wire:
        assert "STARTTLS" not in wire.greet().lines
        assert wire.say(b"STARTTLS").code == 502


def test_it_limits_the_handshakes_that_are_under_way(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(tls_handshakes=3)
    waiting = [desk.greeted() for _ in range(3)]
    for wire in waiting:
        assert wire.say(b"STARTTLS").code == 220
    with desk.greeted() as another:
        another.send(b"STARTTLS\r\n")
        with pytest.raises(Closed):
            another.reply()
            another.reply()
    waiting[0].start_tls(CLIENT_TLS)
    assert waiting[0].say(b"EHLO client.test").code == 250
    for wire in waiting:
        wire.close()


def test_it_reads_a_renewed_certificate_and_keeps_the_old_one_if_that_fails(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    authority.server_context("relay.test")
    file = tmp_path / "relay.test.pem"
    certificate = Certificate(file, file)
    first = certificate.context()

    file.write_text("not a certificate")
    certificate.read_again()
    assert certificate.context() is first

    authority.server_context("relay.test")
    certificate.read_again()
    assert certificate.context() is not first
