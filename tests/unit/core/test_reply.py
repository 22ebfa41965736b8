from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from delivery.core.reply import MAX_TEXT_CHARACTERS, Origin, Phase, Reply, from_lines, made_up


def test_it_joins_a_multi_line_reply_without_codes() -> None:
    reply = from_lines(Phase.RCPT, [b"550-5.1.1 No such user\r\n", b"550 5.1.1 see our help page\r\n"])

    assert reply == Reply(Phase.RCPT, 550, "No such user\nsee our help page", "5.1.1", Origin.PEER)
    assert reply.line == "550 5.1.1 No such user see our help page"
    assert reply.is_permanent and not reply.is_transient and not reply.is_positive


def test_a_bare_code_is_a_reply() -> None:
    assert from_lines(Phase.EOD, [b"250"]) == Reply(Phase.EOD, 250, "", None, Origin.PEER)
    assert from_lines(Phase.EOD, [b"250 "]).text == ""


def test_the_last_line_has_the_code() -> None:
    assert from_lines(Phase.EOD, [b"250-well", b"451 no"]).code == 451


def test_an_enhanced_status_of_another_class_stays_text() -> None:
    reply = from_lines(Phase.RCPT, [b"550 4.7.1 rejected"])

    assert reply.enhanced is None
    assert reply.text == "4.7.1 rejected"


def test_an_ip_address_is_no_enhanced_status() -> None:
    assert from_lines(Phase.RCPT, [b"550 5.1.1.1 is listed"]).enhanced is None


def test_what_is_no_reply_becomes_a_made_up_421() -> None:
    for lines in ([], [b"HTTP/1.1 400 Bad Request"], [b"999 huh"], [b"25x"], [b"250-fine", b""]):
        reply = from_lines(Phase.MAIL, lines)

        assert (reply.code, reply.origin) == (421, Origin.NETWORK)


def test_control_characters_and_endless_texts_do_not_get_in() -> None:
    reply = from_lines(Phase.EOD, [b"554 a\x1b[31m\x00\xe2\x80\xaeb" + b"x" * 10_000])

    assert reply.text.startswith("a [31m b")
    assert len(reply.text) <= MAX_TEXT_CHARACTERS


def test_a_made_up_reply_keeps_who_speaks() -> None:
    reply = made_up(Phase.CONNECT, 421, "4.4.1", "connection timed out\n", Origin.NETWORK)

    assert reply.line == "421 4.4.1 connection timed out"
    assert reply.is_transient


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_become_a_reply_that_can_be_stored(lines: list[bytes]) -> None:
    reply = from_lines(Phase.RCPT, lines)

    assert 200 <= reply.code < 600
    assert not {unicodedata.category(char) for char in reply.line} & {"Cc", "Cs", "Zl", "Zp"}
    reply.text.encode()
