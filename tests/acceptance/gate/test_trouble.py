"""The database away, credentials taken back, tenants suspended: always 4yz where it is our trouble, and soon noticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from accounts.audit import Actor
from accounts.credentials import Issued, revoke_credential
from accounts.tenants import suspend_tenant
from delivery.models import Message, Worker
from tests.support.gate import LETTER, RunningGate, log_in, message_of
from tests.support.journeys import Cast
from tests.support.loop_thread import LoopThread
from tests.support.severable import SeverableSocket
from tests.support.waiting import until
from tests.support.wire import Said, Wire

INTERNALS = ("Error", "psycopg", "SELECT", "/tmp", "socket", "relation", "Traceback", "pool")


@pytest.fixture
def cable(cast: Cast, var: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeverableSocket]:
    """The gate's only way to the database; what the test itself does goes the ordinary way."""
    database = settings.DATABASES["default"]
    cable = SeverableSocket(var, target_folder=str(database["HOST"]), port=str(database.get("PORT", "")))
    with LoopThread() as loop:
        loop.run(cable.join())
        monkeypatch.setitem(settings.DATABASES, "default", {**database, "HOST": str(var)})
        cable.loop = loop  # type: ignore[attr-defined]
        yield cable


def sever(cable: SeverableSocket) -> None:
    cable.loop.run(cable.sever())  # type: ignore[attr-defined]


def mend(cable: SeverableSocket) -> None:
    cable.loop.run(cable.join())  # type: ignore[attr-defined]


def is_our_trouble(said: Said) -> bool:
    return said.code in (421, 451, 454) and not any(word in said.text for word in INTERNALS)


def code_of_mail_within_5_seconds(wire: Wire, *, not_any_more: int) -> int:
    deadline = time.monotonic() + 5
    while (said := wire.say(b"MAIL FROM:<alice@acme.example>")).code == not_any_more and time.monotonic() < deadline:
        wire.say(b"RSET")
        time.sleep(0.2)
    return said.code


def test_with_the_database_away_every_step_is_answered_4yz_and_it_recovers_by_itself(
    cable: SeverableSocket, login: Issued, start_gate: Callable[..., RunningGate]
) -> None:
    gate = start_gate()
    with gate.encrypted() as at_auth, gate.logged_in(login) as at_mail, gate.logged_in(login) as at_data:
        at_data.envelope(b"alice@acme.example", b"bob@example.com")
        at_data.say(b"DATA")

        sever(cable)
        at_data.send(LETTER + b".\r\n")
        assert is_our_trouble(at_data.reply())
        assert is_our_trouble(log_in(at_auth, login))
        assert is_our_trouble(at_mail.say(b"MAIL FROM:<alice@acme.example>"))
        until(lambda: not gate.gate.store.is_ready, what="noticing")
        with Wire(gate.address) as at_connect:
            said = at_connect.reply()
            assert said.code == 421 and is_our_trouble(said)
        assert is_our_trouble(log_in(at_auth, login))
        assert is_our_trouble(at_mail.say(b"MAIL FROM:<alice@acme.example>"))
        assert not Message.objects.exists()

        mend(cable)
        until(lambda: gate.gate.store.is_ready, seconds=30, what="recovering")
        for session in (at_mail, at_data):
            session.envelope(b"alice@acme.example", b"bob@example.com")
            assert session.content(LETTER).code == 250
    assert Message.objects.count() == 2


def test_it_takes_no_mail_on_a_database_that_could_lose_it(cast: Cast, certificate_file: Path, login: Issued) -> None:
    # The tests' own server trades durability for speed, which is just what must be noticed.
    with LoopThread() as loop:
        gate = RunningGate.start(loop, certificate_file)
        with Wire(gate.address) as wire:
            assert wire.everything_left() == b"421 4.3.0 temporary local problem, try again later\r\n"
        gate.stop()


def test_a_database_that_comes_back_with_other_settings_is_given_no_mail(
    cable: SeverableSocket, login: Issued, start_gate: Callable[..., RunningGate], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = start_gate()
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        assert wire.content(LETTER).code == 250
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        wire.say(b"DATA")

        # Sooner than the gate looks at the settings by itself: the mail is committed over a new connection.
        sever(cable)
        monkeypatch.undo()  # the settings are those of the tests' own server from now on, which runs without fsync
        database = settings.DATABASES["default"]
        monkeypatch.setitem(settings.DATABASES, "default", {**database, "HOST": str(cable.folder)})
        mend(cable)
        wire.send(LETTER + b".\r\n")

        assert is_our_trouble(wire.reply())
    assert Message.objects.count() == 1


def test_a_revoked_credential_sends_nothing_more_in_an_open_session(gate: RunningGate, login: Issued) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        assert wire.content(LETTER).code == 250

        revoke_credential(login.credential, actor=Actor(name="test"))
        assert code_of_mail_within_5_seconds(wire, not_any_more=250) == 550
        assert wire.say(b"MAIL FROM:<alice@acme.example>").code == 530
    assert Message.objects.count() == 1


def test_a_suspended_tenant_is_put_off_in_an_open_session(gate: RunningGate, login: Issued, cast: Cast) -> None:
    with gate.logged_in(login) as wire:
        wire.envelope(b"alice@acme.example", b"bob@example.com")
        assert wire.content(LETTER).code == 250

        suspend_tenant(cast.acme, reason="test", actor=Actor(name="test"))
        assert code_of_mail_within_5_seconds(wire, not_any_more=250) == 450
        assert wire.say(b"MAIL FROM:<alice@acme.example>").text.startswith("4.7.1 ")


def test_it_tells_the_console_that_it_lives(gate: RunningGate) -> None:
    until(lambda: Worker.objects.filter(part="gate").exists(), what="a heartbeat")

    worker = Worker.objects.get(part="gate")
    assert worker.slot == f"{settings.NODE}/gate-1"
    assert worker.figures["sessions"] == 0


def test_a_stopped_gate_leaves_no_row_behind_and_finishes_what_it_took(
    start_gate: Callable[..., RunningGate], login: Issued
) -> None:
    gate = start_gate()
    until(lambda: Worker.objects.filter(part="gate").exists(), what="a heartbeat")
    with gate.logged_in(login) as sending, gate.logged_in(login) as idle:
        sending.envelope(b"alice@acme.example", b"bob@example.com")
        sending.say(b"DATA")
        closing = gate.loop.start(gate.gate.close())

        assert idle.reply().code == 421
        sending.send(LETTER + b".\r\n")
        assert message_of(sending.reply())
        closing.result(10)

    assert not Worker.objects.filter(part="gate").exists()
    with pytest.raises(ConnectionError):
        Wire(gate.address)
