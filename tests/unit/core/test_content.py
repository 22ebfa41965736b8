from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.content import (
    MAX_HEADER_FIELDS,
    MAX_HEADER_OCTETS,
    Author,
    ContentError,
    author_of,
    check_lines,
    display_text,
    read_header_section,
)
from delivery.core.mailbox import Mailbox

ALICE = Mailbox("alice", "acme.example")


def content_with(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\nhello\r\n"


def author_in(*lines: bytes) -> Author:
    return author_of(read_header_section(content_with(*lines)))


def reason_for(content: bytes) -> str:
    with pytest.raises(ContentError) as caught:
        section = read_header_section(content)
        author_of(section)
    return caught.value.reason


# The header section.


def test_fields_keep_their_bytes_and_the_body_its_place() -> None:
    content = b"Subject: one\r\n\ttwo\r\nX-Empty:\r\nsubject:three\r\n\r\nbody\r\n\r\nmore"

    section = read_header_section(content)

    assert [field.raw for field in section.fields] == [
        b"Subject: one\r\n\ttwo\r\n",
        b"X-Empty:\r\n",
        b"subject:three\r\n",
    ]
    assert [field.name for field in section.all("SUBJECT")] == ["Subject", "subject"]
    assert section.first_value("subject") == b"one\ttwo"
    assert section.first_value("x-empty") == b""
    assert section.first_value("from") is None
    assert content[section.body_start :] == b"body\r\n\r\nmore"


def test_a_content_may_begin_with_its_body() -> None:
    section = read_header_section(b"\r\nbody\r\n")

    assert section.fields == ()
    assert section.body_start == 2


@pytest.mark.parametrize(
    "content",
    [
        b"", b"Subject: no blank line\r\n", b"hello\r\n\r\n", b"Subject: x\r\nno colon\r\n\r\n", b" Subject: x\r\n\r\n",
        b"Sub ject: x\r\n\r\n", b"From : a@b.example\r\n\r\n", b": x\r\n\r\n", b"Fr\x00om: x\r\n\r\n", b"S\xc3\xbc: x\r\n\r\n",
        b"From alice Tue Nov 24 2026\r\nSubject: x\r\n\r\n", b"Subject: x\n\r\n\r\n", b"Subject: x\rFrom: y\r\n\r\n",
    ],
)  # fmt: skip
def test_a_malformed_header_section_is_refused(content: bytes) -> None:
    assert reason_for(content) == "header_malformed"


def test_a_huge_header_section_is_refused() -> None:
    line = b"X: " + b"x" * 900 + b"\r\n"

    assert reason_for(line * (MAX_HEADER_OCTETS // len(line) + 1) + b"\r\n") == "header_too_large"
    assert reason_for(b"X: y\r\n" * (MAX_HEADER_FIELDS + 1) + b"\r\n") == "header_too_large"


def test_the_body_is_not_searched_for_the_end_of_the_header() -> None:
    content = b"X: " + b"x" * (30 * 2**20)

    started = time.process_time()
    assert reason_for(content) == "header_too_large"

    assert time.process_time() - started < 0.5


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(junk: bytes) -> None:
    for content in (
        junk,
        junk + b"\r\n\r\nbody",
        b"From: " + junk + b"\r\n\r\n",
        b"From: " + junk + b"<a@b.example>\r\n\r\n",
    ):
        try:
            section = read_header_section(content)
            assert b"".join(field.raw for field in section.fields) == content[: max(section.body_start - 2, 0)]
            author_of(section)
        except ContentError as error:
            assert error.reply.is_permanent


# Lines.


@pytest.mark.parametrize("length", [0, 1, 997, 998])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_lines_up_to_998_octets_pass(length: int, end: bytes) -> None:
    check_lines(b"short\r\n" + b"x" * length + b"\r\n" + b"y" * length + end)


@pytest.mark.parametrize("length", [999, 1000, 10_000, 1_000_000])
@pytest.mark.parametrize("before", [b"", b"short\r\n", b"z" * 998 + b"\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"\r\nshort\r\n"])
def test_a_longer_line_is_refused_wherever_it_stands(length: int, before: bytes, after: bytes) -> None:
    with pytest.raises(ContentError) as caught:
        check_lines(before + b"x" * length + after)

    assert caught.value.reason == "line_too_long"


@pytest.mark.parametrize("bad", [b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\n", b"a\n.\r\nb", b"\r.\r", b"\r\n.\r"])
def test_bare_line_endings_are_refused(bad: bytes) -> None:
    with pytest.raises(ContentError) as caught:
        check_lines(b"a\r\n" + bad + b"b\r\n")

    assert caught.value.reason == "bare_line_ending"


def test_nul_is_refused() -> None:
    with pytest.raises(ContentError) as caught:
        check_lines(b"a\r\n\0b\r\n")

    assert caught.value.reason == "nul_in_content"


@given(st.lists(st.integers(0, 1100), max_size=12))
def test_lines_are_judged_as_a_plain_loop_would(lengths: list[int]) -> None:
    content = b"\r\n".join(b"x" * length for length in lengths)

    try:
        check_lines(content)
        passed = True
    except ContentError:
        passed = False

    assert passed == all(length <= 998 for length in lengths)


@pytest.mark.parametrize("line", [b"x" * 76 + b"\r\n", b"\r\n", b"x" * 998 + b"\r\n"])
def test_25_megabytes_are_checked_in_a_moment(line: bytes) -> None:
    content = line * (25 * 2**20 // len(line))

    started = time.process_time()
    check_lines(content)

    assert time.process_time() - started < 1.0


# The author.


@pytest.mark.parametrize(
    "value",
    [
        b"alice@acme.example", b"<alice@acme.example>", b"Alice <alice@acme.example>", b"alice@ACME.example (Alice)",
        b"(work) alice@acme.example", b"J. R. Alice <alice@acme.example> (work)", b'"Alice, Acme" <alice@acme.example>',
        b'"alice@globex.example" <alice@acme.example>', b'"a \\" b" <alice@acme.example>', b'"alice"@acme.example',
        b"=?UTF-8?B?5bGx55Sw?= =?UTF-8?Q?=E5=A4=AA?= <alice@acme.example>", "山田 太郎 <alice@acme.example>".encode(),
        '"山田, 太郎" <alice@acme.example>'.encode(), b"Alice\r\n <alice@acme.example>", b"\r\n\talice@acme.example",
        b"Alice\t <alice@acme.example>  ", b"O'Brien & Sons <alice@acme.example>", b'""<alice@acme.example>',
    ],
)  # fmt: skip
def test_it_finds_the_one_author(value: bytes) -> None:
    assert author_in(b"From: " + value) == Author(ALICE, None)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"alice", b"Alice", b"<>", b"alice@acme.example, bob@acme.example", b"alice@acme.example,",
        b"<bob@globex.example>, <alice@acme.example>", b"<alice@acme.example><bob@globex.example>",
        b"Team: alice@acme.example;", b"undisclosed:;", b"bob@globex.example <alice@acme.example>",
        b"<alice@acme.example> bob@globex.example", b"alice@acme.example(<bob@globex.example>)",
        b"alice@acme.example (bob@globex.example)", b"(a(b)) alice@acme.example", b"(alice@acme.example",
        b"<@globex.example:alice@acme.example>", b"< alice@acme.example>", b"alice @acme.example", b"alice@ acme.example",
        b"alice(x)@acme.example", b"alice@(x)acme.example", b"<alice@acme.example(x)>", b"<alice@acme.example",
        b"alice@acme.example>", b"<<alice@acme.example>>", b'"alice@acme.example', b'Alice"@acme.example',
        b'"bob@globex.example"alice@acme.example', b"alice@acme.example\\, bob@globex.example", b"Alice\\ <alice@acme.example>",
        b"Alice [x] <alice@acme.example>", b"alice@[192.0.2.1]", b"alice@acme.example;", b"alice\0@acme.example",
        b"alice@acme.example\x00@globex.example", b"=?utf-8?b?YWxpY2VAYWNtZS5leGFtcGxl?=",
        b"=?utf-8?q?=3Cbob=40globex.example=3E?= <alice@acme.example>",
        b"=?utf-8?b?PGJvYkBnbG9iZXguZXhhbXBsZT4s?= <alice@acme.example>",
        b"=?utf-8?q?x?=@acme.example", b"alice@acme", b"alice@acme..example", b"alice@\xff.example",
        b"Alice <alice@acme.example> <bob@globex.example>", b"alice@acme.example\r\n ,bob@globex.example",
        b"alice@acme.example\x01", b"\x1b$B;3ED\x1b(B <alice@acme.example>",
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_refused(value: bytes) -> None:
    assert reason_for(content_with(b"From: " + value)) in ("from_not_single", "header_malformed")


def test_there_must_be_one_from_field() -> None:
    assert reason_for(content_with(b"Subject: x")) == "from_not_single"
    assert reason_for(content_with(b"From: alice@acme.example", b"FROM: alice@acme.example")) == "from_not_single"


@pytest.mark.parametrize(
    "name",
    [b"Date", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc", b"Message-ID", b"In-Reply-To", b"References", b"SUBJECT"],
)
def test_a_repeated_singleton_is_refused(name: bytes) -> None:
    content = content_with(b"From: alice@acme.example", name + b": a@acme.example", name.lower() + b": a@acme.example")

    assert reason_for(content) == "field_repeated"


def test_fields_that_may_repeat_do() -> None:
    author = author_in(b"Received: a", b"Received: b", b"From: alice@acme.example", b"Comments: x", b"Comments: y")

    assert author.mailbox == ALICE


def test_the_sender_is_read_with_the_same_care() -> None:
    assert author_in(b"From: alice@acme.example", b"Sender: Bob <bob@acme.example>").sender == Mailbox(
        "bob", "acme.example"
    )
    for value in (b"", b"bob@acme.example, charlie@globex.example", b"bob"):
        assert reason_for(content_with(b"From: alice@acme.example", b"Sender: " + value)) == "sender_malformed"


def test_misplaced_dots_and_international_domains_are_read() -> None:
    assert author_in(b"From: <a..b@docomo.ne.jp>").mailbox == Mailbox("a..b", "docomo.ne.jp")
    assert author_in("From: Ü <ü@bücher.example>".encode()).mailbox == Mailbox("ü", "xn--bcher-kva.example")


@pytest.mark.parametrize("piece", [b'"', b"(", b"<", b"a ", b"a@", b"=?utf-8?q?=3C", b"\\", b"()", b'""', b" \t"])
def test_hostile_from_fields_cost_no_time(piece: bytes) -> None:
    section = read_header_section(b"From: " + b"\r\n ".join([piece * 100] * 200) + b"\r\n\r\n")

    started = time.process_time()
    with pytest.raises(ContentError):
        author_of(section)

    assert time.process_time() - started < 1.0


# Text for people.


def encoded(text: str, charset: str) -> bytes:
    return b"=?%s?B?%s?=" % (charset.encode(), base64.b64encode(text.encode(charset)))


@pytest.mark.parametrize("charset", ["utf-8", "iso-2022-jp", "shift_jis", "euc-jp"])
def test_japanese_is_decoded_from_every_usual_charset(charset: str) -> None:
    assert display_text(b"Re: " + encoded("請求書のご案内", charset)) == "Re: 請求書のご案内"


def test_characters_cut_in_two_between_encoded_words_are_mended() -> None:
    octets = "請求書".encode()
    words = [b"=?UTF-8?B?" + base64.b64encode(part) + b"?=" for part in (octets[:4], octets[4:])]

    assert display_text(b"\r\n ".join(words)) == "請求書"


def test_raw_8_bit_text_is_decoded() -> None:
    assert display_text("お知らせ".encode()) == "お知らせ"
    assert display_text("お知らせ".encode("shift_jis")) == "お知らせ"
    assert display_text("お知らせ".encode("iso-2022-jp")) == "お知らせ"


def test_vendor_characters_of_iso_2022_jp_are_read() -> None:
    assert display_text(b"=?iso-2022-jp?B?" + base64.b64encode(b"\x1b$B-!-j\x1b(B") + b"?=") == "①㈱"
    assert display_text(b"\x1b(I1\x1b(B") == "ｱ"


def test_the_q_encoding_is_decoded() -> None:
    assert display_text(b"=?iso-8859-1?Q?Caf=E9_cr=E8me?= and =?UTF-8*fr?q?th=C3=A9?=") == "Café crème and thé"


def test_blanks_between_encoded_words_vanish_and_others_stay() -> None:
    assert display_text(b"a =?utf-8?q?b?= =?utf-8?q?c?= d") == "a bc d"


def test_controls_and_reordering_marks_are_removed() -> None:
    assert display_text(b"=?utf-8?q?a=0D=0AX:_b=00=E2=80=AEc?=") == "a X: b c"


@pytest.mark.parametrize(
    "value",
    [
        b"=?x-unknown?B?YWJj?=", b"=?unicode_escape?B?YWJj?=", b"=?idna?B?YWJj?=", b"=?utf-8?B?YWJ?=", b"=?utf-8?B?YWJjZ?=",
        b"=?utf-8?B?Y W J j?=",
    ],
)  # fmt: skip
def test_odd_encoded_words_still_say_something(value: bytes) -> None:
    assert display_text(value).startswith("ab")


@given(st.binary(max_size=300))
def test_any_bytes_become_one_line_of_text(junk: bytes) -> None:
    for value in (
        junk,
        b"=?utf-8?Q?" + junk + b"?=",
        b"=?iso-2022-jp?B?" + base64.b64encode(junk) + b"?=",
        b"\x1b$B" + junk,
    ):
        text = display_text(value)

        assert "\n" not in text and "\r" not in text and "\0" not in text
        text.encode()
