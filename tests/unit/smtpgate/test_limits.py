"""Nobody takes more than his share: connections, commands, errors, time; and the end of a process cuts nobody's mail."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from smtpgate.boundary import loggable
from smtpgate.throttle import Connections, LoginFailures, neighbourhood
from tests.support.desk import LIMITS, Desk
from tests.support.waiting import until
from tests.support.wire import Closed, Wire


def test_it_turns_away_a_crowd_from_one_address_and_serves_the_next(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(connections_per_address=5)
    with ExitStack() as crowd:
        for _ in range(5):
            crowd.enter_context(desk.greeted())
        for _ in range(20):
            with desk.connect() as excess:
                assert excess.reply().code == 421
                assert excess.everything_left() == b""

        started = time.monotonic()
        with desk.connect(source="127.0.0.2") as other:
            assert other.reply().code == 220
        assert time.monotonic() - started < 10
    until(lambda: desk.boundary.session_count == 0, what="the crowd leaving")
    desk.greeted().close()


def test_a_crowd_of_unfinished_handshakes_keeps_nobody_else_out(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(connections_per_address=5)
    with ExitStack() as crowd:
        for _ in range(20):
            crowd.enter_context(Wire(desk.implicit_address))

        with Wire(desk.implicit_address, source="127.0.0.2", is_implicit_tls=True) as other:
            assert other.greet().code == 250


def test_it_is_full_at_some_point(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(connections=3)
    with desk.greeted(), desk.greeted(), desk.greeted(), desk.connect(source="127.0.0.2") as excess:
        assert excess.reply().code == 421


def test_it_hangs_up_after_too_many_errors(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(errors=5)
    with desk.greeted() as wire:
        assert [wire.say(b"NONSENSE").code for _ in range(5)] == [500] * 5
        assert wire.reply().text == "4.7.0 too many errors, closing connection"
        assert wire.everything_left() == b""


def test_it_forgives_errors_once_a_mail_was_taken(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(errors=3)
    with desk.greeted() as wire:
        for _ in range(4):
            wire.say(b"NONSENSE")
            wire.envelope(b"alice@acme.test", b"nobody@example.com", b"bob@example.com")
            assert wire.content(b"x\r\n").code == 250


def test_it_closes_a_silent_session_with_421(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(command_seconds=0.3)
    with desk.greeted() as wire:
        assert wire.everything_left() == b"421 4.4.2 timeout, closing connection\r\n"


def test_it_closes_a_session_that_sends_a_command_octet_by_octet(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(command_seconds=0.4)
    with desk.greeted() as wire:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 8:
                wire.send(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 8


def test_it_closes_a_session_that_only_keeps_itself_alive(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(command_seconds=0.4, unproductive_seconds=0.8)
    with desk.greeted() as wire:
        started = time.monotonic()
        with pytest.raises((OSError, Closed)):
            while time.monotonic() - started < 8:
                assert wire.say(b"NOOP").code == 250 or wire.everything_left() == b""
                time.sleep(0.05)
        assert time.monotonic() - started < 8


def test_it_closes_a_session_of_idle_talk(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(idle_commands=10)
    with desk.greeted() as wire:
        assert [wire.say(b"NOOP").code for _ in range(10)] == [250] * 9 + [421]


def test_it_makes_room_when_it_is_nearly_full(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(connections=5, stress_command_seconds=0.3)
    with ExitStack() as crowd:
        longest_silent, *_others = [crowd.enter_context(desk.greeted()) for _ in range(5)]

        assert longest_silent.everything_left() == b"421 4.4.2 timeout, closing connection\r\n"


def test_it_hangs_up_on_a_client_that_never_reads(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(command_seconds=0.5, idle_commands=10**9, commands_per_session=10**9)
    with desk.greeted() as wire, pytest.raises(OSError):
        wire._socket.settimeout(0.2)
        started = time.monotonic()
        while time.monotonic() - started < 20:
            try:
                wire.send(b"NOOP\r\n" * 10_000)
            except TimeoutError:
                if desk.boundary.session_count == 0:
                    raise
    until(lambda: desk.boundary.session_count == 0, what="leaving")


# ---------------------------------------------------------------- the end of a process


def test_draining_ends_idle_sessions_and_lets_those_in_data_finish(desk: Desk) -> None:
    with desk.greeted() as idle, desk.in_data() as sending:
        drained = desk.loop.start(desk.boundary.drain())

        assert idle.reply().code == 421
        assert idle.everything_left() == b""
        sending.send(b"Subject: x\r\n\r\n")
        time.sleep(0.05)
        assert not drained.done()
        sending.send(b".\r\n")
        assert sending.reply().code == 250
        assert sending.reply().code == 421
        drained.result(5)
    assert desk.contents == [b"Subject: x\r\n\r\n"]


def test_draining_has_an_end(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(drain_seconds=0.3)
    with desk.in_data() as sending:
        desk.loop.run(desk.boundary.drain(), seconds=5)

        assert sending.everything_left().startswith(b"421 4.3.2")
    assert desk.taken == []


def test_a_draining_process_lets_nobody_in(desk: Desk) -> None:
    desk.loop.run(desk.boundary.drain())

    with desk.connect() as wire:
        assert wire.reply().code == 421


# ---------------------------------------------------------------- counting


def test_failed_logins_are_answered_later_and_later() -> None:
    failures = LoginFailures(replace(LIMITS, login_delay_seconds=0.5, login_delay_maximum_seconds=8))

    delays = [failures.note("192.0.2.1", now=100) for _ in range(7)]

    assert delays == [0.5, 1, 2, 4, 8, 8, 8]
    assert failures.note("192.0.2.2", now=100) == 0.5


def test_failed_logins_of_an_address_are_forgotten_over_the_window() -> None:
    failures = LoginFailures(replace(LIMITS, login_failures_per_address=10, login_window_seconds=600))
    for _ in range(10):
        failures.note("192.0.2.1", now=100)

    assert failures.are_too_many("192.0.2.1", now=100)
    assert not failures.are_too_many("192.0.2.2", now=100)
    assert not failures.are_too_many("192.0.2.1", now=161)
    assert failures.note("192.0.2.1", now=800) == LIMITS.login_delay_seconds


def test_the_addresses_of_an_ipv6_network_count_as_one_peer() -> None:
    assert neighbourhood("2001:db8:1:2:3::4") == neighbourhood("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert neighbourhood("192.0.2.1") == "192.0.2.1"


def test_connections_are_counted_out_again() -> None:
    connections = Connections(replace(LIMITS, connections_per_address=1))

    assert connections.enter("192.0.2.1")
    assert not connections.enter("192.0.2.1")
    connections.leave("192.0.2.1")
    assert connections.enter("192.0.2.1")
    assert connections.count == 1


def test_what_peers_say_cannot_forge_a_line_of_the_log() -> None:
    assert loggable(b"x\r\n2026-01-01 accepted\x1b[2J") == "x\\r\\n2026-01-01 accepted\\x1b[2J"
    assert loggable("ö\u202e") == "\\xf6\\u202e"
    assert len(loggable(b"x" * 10_000)) == 200
