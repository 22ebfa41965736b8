"""DATA: ends at CRLF.CRLF and nowhere else, is kept to the byte, and is bounded in size, memory and patience."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.desk import Desk
from tests.support.waiting import until

SMUGGLING_ENDS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
]


@pytest.mark.parametrize("end", SMUGGLING_ENDS)
def test_it_takes_no_false_end_of_data_for_the_end(desk: Desk, end: bytes) -> None:
    inner = b"MAIL FROM:<smug@b.test>\r\nRCPT TO:<r@d.test>\r\nDATA\r\ny\r\n.\r\n"
    with desk.in_data() as wire:
        wire.send(b"x" + end + inner)

        # One answer, to the one content; the inner commands are text.
        assert wire.reply().code == 250
        assert wire.has_nothing_to_say()
        assert wire.say(b"NOOP").code == 250
    assert len(desk.taken) == 1
    assert desk.contents[0].endswith(b"DATA\r\ny\r\n")


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..\r\n...b\r\n.c\r\n.\r\n", b"a\r\n.\r\n..b\r\nc\r\n"),
        (b"a\r\n\r\n.\r\n", b"a\r\n\r\n"),
        ("件名\r\n本文\r\n.\r\n".encode(), "件名\r\n本文\r\n".encode()),
        ("件名\r\n".encode("shift_jis") + b".\r\n", "件名\r\n".encode("shift_jis")),
    ],
)
def test_it_keeps_the_content_to_the_byte(desk: Desk, sent: bytes, content: bytes) -> None:
    with desk.in_data() as wire:
        wire.send(sent)

        assert wire.reply().code == 250
    assert desk.contents == [content]


def test_it_sees_the_end_wherever_the_packets_are_cut(desk: Desk) -> None:
    sent = b"a\r\n..b\r\n.\r\n"
    with desk.greeted() as wire:
        for cut in range(1, len(sent)):
            wire.envelope(b"alice@acme.test", b"bob@example.com")
            wire.say(b"DATA")
            wire.send(sent[:cut])
            time.sleep(0.005)  # so that the halves travel apart; the result must be the same if they do not
            wire.send(sent[cut:])

            assert wire.reply().code == 250
    assert set(desk.contents) == {b"a\r\n.b\r\n"}


def test_it_sees_the_end_and_every_dot_across_its_own_chunks(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(max_message_bytes=400_000)
    # The end and the stuffed dots fall on every position of the border between chunks.
    with desk.greeted(seconds=30) as wire:
        for shift in range(8):
            body = b"x" * (shift + 1) + b"\r\n" + b"..dot\r\n" * 30_000
            wire.envelope(b"alice@acme.test", b"bob@example.com")
            assert wire.content(body).code == 250
            assert desk.contents[-1] == body.replace(b"\r\n..", b"\r\n.")


def test_it_answers_a_command_sent_behind_the_final_dot(desk: Desk) -> None:
    with desk.in_data() as wire:
        wire.send(b"x\r\n.\r\nNOOP\r\nQUIT\r\n")

        assert [wire.reply().code for _ in range(3)] == [250, 250, 221]


def test_it_still_answers_a_client_that_closed_its_side_after_the_dot(desk: Desk) -> None:
    desk.hold_answers()
    with desk.in_data() as wire:
        wire.send(b"x\r\n.\r\n")
        wire.half_close()
        desk.answer()

        assert wire.reply().code == 250
        assert wire.everything_left() == b""
    assert desk.contents == [b"x\r\n"]


def test_it_finishes_a_content_whose_client_has_gone(desk: Desk) -> None:
    desk.hold_answers()
    with desk.in_data() as wire:
        wire.send(b"x\r\n.\r\n")
        assert wire.has_nothing_to_say()
    desk.answer()

    until(lambda: desk.contents == [b"x\r\n"], what="the commit")
    until(lambda: desk.boundary.session_count == 0, what="leaving")


# ---------------------------------------------------------------- size


def _lines(octets: int) -> bytes:
    whole, rest = divmod(octets, 100)
    content = (b"y" * 98 + b"\r\n") * whole
    return content + (b"z" * (rest - 2) + b"\r\n" if rest >= 2 else b"")


def test_it_takes_a_content_of_exactly_the_limit(desk: Desk) -> None:
    with desk.in_data() as wire:
        wire.send(_lines(200_000) + b".\r\n")

        assert wire.reply().code == 250
    assert len(desk.contents[0]) == 200_000


def test_it_does_not_count_stuffed_dots(desk: Desk) -> None:
    with desk.in_data() as wire:
        wire.send(b"..\r\n" * 66_666 + b".\r\n")

        assert wire.reply().code == 250
    assert len(desk.contents[0]) == 66_666 * 3


@pytest.mark.parametrize("octets", [200_002, 201_000, 390_000])
def test_it_refuses_a_content_beyond_the_limit_and_goes_on(desk: Desk, octets: int) -> None:
    with desk.greeted() as wire:
        wire.say(b"MAIL FROM:<alice@acme.test> SIZE=1")
        wire.say(b"RCPT TO:<bob@example.com>")
        wire.say(b"DATA")
        wire.send(_lines(octets) + b".\r\n")

        assert wire.reply().text == "5.3.4 message too large"
        assert desk.taken == []
        assert wire.say(b"DATA").code == 503
        assert wire.say(b"NOOP").code == 250


def test_it_refuses_an_announced_size_at_once(desk: Desk) -> None:
    with desk.greeted() as wire:
        assert wire.say(b"MAIL FROM:<alice@acme.test> SIZE=99999999999").code == 552


def test_it_hangs_up_on_a_content_without_end(desk: Desk) -> None:
    with desk.in_data() as wire, pytest.raises(ConnectionError):
        for _ in range(1000):
            wire.send(_lines(100_000))
    until(lambda: desk.boundary.session_count == 0, what="leaving")
    assert desk.boundary.memory.used == 0
    assert desk.taken == []


def test_it_keeps_one_endless_line_within_the_same_bounds(desk: Desk) -> None:
    with desk.in_data() as wire, pytest.raises(ConnectionError):
        for _ in range(1000):
            wire.send(b"x" * 100_000)
    until(lambda: desk.boundary.session_count == 0, what="leaving")
    assert desk.boundary.memory.used == 0


def test_it_asks_to_come_back_while_the_memory_for_contents_is_taken(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(content_memory_bytes=250_000)
    with desk.in_data() as first, desk.in_data() as second, desk.greeted() as third:
        first.send(_lines(180_000))
        until(lambda: desk.boundary.memory.used > 120_000, what="reading")
        second.send(_lines(180_000) + b".\r\n")

        assert second.reply().code == 452
        first.send(b"x" * 60_000)
        until(lambda: desk.boundary.memory.used > 225_000 or desk.boundary.memory.used == 0, what="reading on")
        if desk.boundary.memory.used:
            assert third.say(b"MAIL FROM:<alice@acme.test>").code == 452
        first.send(b"\r\n.\r\n")
        first.reply()

        until(lambda: desk.boundary.memory.used == 0, what="giving the memory back")
        assert [said.code for said in second.envelope(b"alice@acme.test", b"bob@example.com")] == [250, 250]
        assert second.content(_lines(180_000)).code == 250


# ---------------------------------------------------------------- time


def test_it_cuts_a_content_that_only_trickles(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(data_seconds=0.3, data_bytes_per_second=10_000)
    with desk.in_data() as wire:
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 8:
                wire.send(b"x")
                time.sleep(0.05)
        assert b"421 4.4.2" in wire.everything_left() or time.monotonic() - started < 8
    until(lambda: desk.boundary.session_count == 0, what="leaving")
    assert desk.taken == []


def test_it_says_421_to_a_content_that_stops(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(data_seconds=0.3)
    with desk.in_data() as wire:
        wire.send(_lines(10_000))

        assert wire.everything_left() == b"421 4.4.2 timeout, closing connection\r\n"


def test_it_never_cuts_a_content_that_comes_at_the_minimum_rate(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(data_seconds=0.4, data_bytes_per_second=4_000)
    with desk.in_data() as wire:
        started = time.monotonic()
        while time.monotonic() - started < 2:  # five times as long as a silent peer would get
            wire.send(_lines(400))
            time.sleep(0.02)
        wire.send(b".\r\n")

        assert wire.reply().code == 250
