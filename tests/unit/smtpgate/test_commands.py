"""Commands: whole lines ending in CRLF, one reply each, and nothing of ours shown when something breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.desk import Desk


def test_it_lists_its_extensions(desk: Desk) -> None:
    with desk.connect() as wire:
        said = wire.greet()

        assert said.lines == [
            "relay.test",
            "PIPELINING",
            "SIZE 200000",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "DSN",
            "STARTTLS",
        ]


def test_it_serves_a_client_that_says_helo(desk: Desk) -> None:
    with desk.connect() as wire:
        wire.reply()

        assert wire.say(b"HELO old.test") == (250, ["relay.test"])
        assert [said.code for said in wire.envelope(b"alice@acme.test", b"bob@example.com")] == [250, 250]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"NOOP", 250),
        (b"noop and more", 250),
        (b"RSET", 250),
        (b"RSET now", 501),
        (b"VRFY bob", 252),
        (b"EXPN staff", 502),
        (b"HELP", 214),
        (b"EHLO", 501),
        (b"EHLO a\tb", 501),
        (b"AUTH PLAIN", 502),
        (b"BDAT 5", 500),
        (b"ETRN x", 500),
        (b"", 500),
        (b" NOOP", 500),
        (b"RCPT TO:<bob@example.com>", 503),
        (b"DATA", 503),
        (b"STARTTLS now", 501),
    ],
)
def test_it_answers_each_command_by_the_book(desk: Desk, command: bytes, code: int) -> None:
    with desk.greeted() as wire:
        assert wire.say(command).code == code


def test_it_says_goodbye_and_closes(desk: Desk) -> None:
    with desk.greeted() as wire:
        assert wire.say(b"QUIT").code == 221
        assert wire.everything_left() == b""


def test_it_asks_for_ehlo_before_a_mail(desk: Desk) -> None:
    with desk.connect() as wire:
        wire.reply()

        assert wire.say(b"MAIL FROM:<alice@acme.test>").code == 503


def test_it_refuses_a_mail_within_a_mail(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.envelope(b"alice@acme.test")

        assert wire.say(b"MAIL FROM:<alice@acme.test>").code == 503


def test_it_refuses_data_when_every_recipient_was_refused(desk: Desk) -> None:
    with desk.greeted() as wire:
        assert [said.code for said in wire.envelope(b"alice@acme.test", b"nobody@example.com")] == [250, 550]

        assert wire.say(b"DATA").code == 554


def test_it_forgets_the_transaction_at_ehlo_and_rset(desk: Desk) -> None:
    with desk.greeted() as wire:
        for command in (b"EHLO client.test", b"RSET"):
            wire.envelope(b"alice@acme.test", b"bob@example.com")
            wire.say(command)

            assert wire.say(b"DATA").code == 503


def test_it_takes_the_null_reverse_path_for_nobody_and_not_for_two_characters(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.envelope(b"", b"bob@example.com")
        wire.content(b"Subject: report\r\n\r\n")

    assert desk.taken[0].mail.reverse_path is None


@pytest.mark.parametrize(
    "path",
    [
        b"<a\rb@c.test>",
        b"<a\0b@c.test>",
        b"<(x)a@c.test>",
        b"<@h.test,@i.test:a@c.test>",
        b"a@c.test",
        b"< a@c.test >",
        b"<a@c.test>SIZE=1",
        b"<a@c.test:25>",
        b"<a@[127.0.0.1]>",
        b"<a@localhost>",
        b"<x>",
        b"<" + b"x" * 65 + b"@c.test>",
    ],
)
def test_it_refuses_paths_outside_the_grammar(desk: Desk, path: bytes) -> None:
    with desk.greeted() as wire:
        assert wire.say(b"MAIL FROM:" + path).code // 100 == 5
        wire.say(b"MAIL FROM:<alice@acme.test>")
        assert wire.say(b"RCPT TO:" + path).code // 100 == 5
        # The session goes on as if nothing had been said.
        assert wire.say(b"RCPT TO:<bob@example.com>").code == 250


def test_it_keeps_every_byte_of_an_address_and_its_parameters(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.say(b"MAIL FROM:<Alice+x@acme.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=abc+2B1")
        wire.say(b'RCPT TO:<"e f"@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;e@example.com')
        wire.content(b"Subject: x\r\n\r\n")

    mail, recipient = desk.taken[0].mail, desk.taken[0].recipients[0]
    assert mail.reverse_path is not None
    assert mail.reverse_path.address == "Alice+x@acme.test"
    assert (mail.size, mail.body, mail.ret, mail.envid) == (100, "8BITMIME", "HDRS", "abc+1")
    assert recipient.mailbox.quoted == '"e f"@example.com'
    assert recipient.notify == {"SUCCESS", "DELAY"}
    assert recipient.orcpt == "rfc822;e@example.com"


# ---------------------------------------------------------------- lines


def test_it_takes_no_command_that_ends_in_a_bare_line_feed(desk: Desk) -> None:
    with desk.connect() as wire:
        wire.reply()
        wire.send(b"EHLO x\nMAIL FROM:<a@acme.test>\n")

        assert [wire.reply().code, wire.reply().code] == [500, 500]
        assert wire.say(b"MAIL FROM:<a@acme.test>").code == 503


def test_it_sees_no_second_command_behind_a_bare_carriage_return(desk: Desk) -> None:
    with desk.greeted() as wire:
        assert wire.say(b"NOOP\rQUIT").code == 500
        assert wire.say(b"NOOP").code == 250


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"options"])
def test_no_web_page_can_make_a_browser_send_mail(desk: Desk, method: bytes) -> None:
    with desk.connect() as wire:
        wire.reply()

        wire.send(method + b" / HTTP/1.1\r\nHost: relay.test\r\n\r\nEHLO evil\r\nMAIL FROM:<alice@acme.test>\r\n")

        assert wire.reply().code == 500
        assert wire.everything_left() == b""


def test_it_refuses_nul_in_a_command(desk: Desk) -> None:
    with desk.greeted() as wire:
        assert wire.say(b"NOOP \0").code == 500


@pytest.mark.parametrize(
    ("command", "fits"),
    [
        (b"NOOP " + b"x" * 505, True),
        (b"NOOP " + b"x" * 506, False),
        (b"RCPT TO:<bob@example.com> ORCPT=rfc822;" + b"x" * 400, True),
        (b"MAIL FROM:<a@acme.test> " + b"x" * 2040, False),
        (b"NOOP " + b"x" * 300_000, False),
    ],
)
def test_it_bounds_the_length_of_a_command_and_goes_on(desk: Desk, command: bytes, fits: bool) -> None:
    with desk.greeted() as wire:
        wire.envelope(b"alice@acme.test")

        assert wire.say(command).code == (250 if fits else 500)
        assert wire.say(b"NOOP").code == 250


def test_it_does_not_let_one_session_lengthen_the_commands_of_others(desk: Desk) -> None:
    with desk.greeted() as wire, desk.greeted() as other:
        for _ in range(40):
            wire.say(b"EHLO client.test")

        for session in (wire, other):
            assert session.say(b"MAIL FROM:<a@acme.test> " + b"x" * 2040).lines == ["5.5.2 command line too long"]


def test_it_answers_pipelined_commands_in_order(desk: Desk) -> None:
    with desk.greeted() as wire:
        wire.send(
            b"MAIL FROM:<alice@acme.test>\r\nRCPT TO:<bob@example.com>\r\nRCPT TO:<nobody@example.com>\r\nDATA\r\n"
        )
        assert [wire.reply().code for _ in range(4)] == [250, 250, 550, 354]
        wire.send(b"Subject: x\r\n\r\nhello\r\n.\r\nRSET\r\nQUIT\r\n")

        assert [wire.reply().code for _ in range(3)] == [250, 250, 221]
        assert desk.contents == [b"Subject: x\r\n\r\nhello\r\n"]


def test_it_delivers_to_those_it_took_when_there_are_too_many_recipients(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(max_recipients=100)
    with desk.greeted(seconds=30) as wire:
        wire.say(b"MAIL FROM:<alice@acme.test>")
        wire.send(b"".join(b"RCPT TO:<r%d@example.com>\r\n" % number for number in range(10_000)))
        codes = [wire.reply().code for _ in range(10_000)]

        assert codes == [250] * 100 + [452] * 9_900
        assert wire.content(b"Subject: x\r\n\r\n").code == 250
    assert len(desk.taken[0].recipients) == 100


# ---------------------------------------------------------------- trouble


def test_it_answers_451_with_a_reference_and_shows_nothing_of_what_broke(desk: Desk) -> None:
    with desk.greeted() as wire:
        desk.fails_with = RuntimeError("SELECT secret FROM /var/lib")
        said = wire.say(b"MAIL FROM:<alice@acme.test>")

        assert said.code == 451
        assert "4.3.0" in said.text and "reference" in said.text
        assert not any(word in said.text for word in ("RuntimeError", "SELECT", "/var", "Error"))
        desk.fails_with = None
        assert wire.say(b"MAIL FROM:<alice@acme.test>").code == 250


@pytest.mark.parametrize("error", [OSError("disk on fire"), ConnectionResetError("the database"), TimeoutError()])
def test_it_is_as_good_as_new_after_trouble_with_a_content(desk: Desk, error: Exception) -> None:
    with desk.in_data() as wire:
        desk.fails_with = error
        wire.send(b"Subject: x\r\n\r\n.\r\n")

        assert wire.reply().code == 451
        desk.fails_with = None
        assert [said.code for said in wire.envelope(b"alice@acme.test", b"bob@example.com")] == [250, 250]
        assert wire.content(b"Subject: y\r\n\r\n").code == 250


def test_it_greets_with_421_while_it_cannot_take_mail(desk: Desk) -> None:
    desk.is_available = False
    with desk.connect() as wire:
        assert wire.everything_left() == b"421 4.3.0 temporary local problem, try again later\r\n"
