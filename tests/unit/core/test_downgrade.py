from __future__ import annotations

import email
import email.policy
import time
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.content import check_lines, display_text, read_header_section
from delivery.core.downgrade import MAX_DEPTH, MAX_PARTS, NotConvertible, to_7bit, with_ascii_header

JAPANESE = "拝啓　時下ますますご清栄のこととお慶び申し上げます。\r\n\r\n①から⑳まで、株式会社アクメ\r\n"
FRENCH = "Bonjour, voici le résumé de la journée et rien de plus pour aujourd'hui. Merci!\r\n"


def crlf(text: str, charset: str = "utf-8") -> bytes:
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode(charset)


def leaves(content: bytes) -> list[tuple[str, bytes]]:
    """Media type and decoded octets of every part that has no parts, as an independent parser reads them."""
    return [(part.get_content_type(), _decoded(part)) for part in _walk(email.message_from_bytes(content))]


def _walk(part: Message) -> list[Message]:
    payload = part.get_payload()
    if isinstance(payload, list):
        return [leaf for child in payload for leaf in _walk(child)]
    return [part]


def _decoded(part: Message) -> bytes:
    decoded = part.get_payload(decode=True)
    assert isinstance(decoded, bytes)
    return decoded


def subject_of(content: bytes) -> bytes | None:
    return read_header_section(content).first_value("subject")


def encoding_of(content: bytes) -> bytes | None:
    return read_header_section(content).first_value("content-transfer-encoding")


def refusal(content: bytes, convert=to_7bit) -> str:
    with pytest.raises(NotConvertible) as caught:
        convert(content)
    return str(caught.value)


# Leaves


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "cp932", "euc-jp", "iso-8859-1", "windows-1252"])
@pytest.mark.parametrize("label", ["8bit", "8BIT", "binary", "7bit", None])
def test_text_is_encoded_and_decodes_to_what_it_was(charset: str, label: str | None) -> None:
    text = JAPANESE.replace("①から⑳", "一から二十") if charset not in ("iso-8859-1", "windows-1252") else FRENCH
    encoding = f"Content-Transfer-Encoding: {label}\n" if label else ""
    header = f"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n{encoding}\n"
    content = crlf(header) + text.encode(charset)

    converted = to_7bit(content)

    assert converted.isascii()
    check_lines(converted)
    assert leaves(converted) == leaves(content) == [("text/plain", text.encode(charset))]
    assert max(map(len, converted.split(b"\r\n"))) <= 76
    section = read_header_section(converted)
    assert section.first_value("content-type") == f"text/plain; charset={charset}".encode()
    assert len(section.all("content-transfer-encoding")) == 1


def test_text_that_is_mostly_ascii_stays_readable() -> None:
    content = crlf("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n" + FRENCH)

    converted = to_7bit(content)

    assert encoding_of(converted) == b"quoted-printable"
    assert b"voici le r=C3=A9sum=C3=A9 de la journ=C3=A9e" in converted


def test_japanese_text_becomes_base64_because_that_is_shorter() -> None:
    content = crlf("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n" + JAPANESE)

    assert encoding_of(to_7bit(content)) == b"base64"


def test_data_becomes_base64() -> None:
    octets = b"\x89PNG" + b"abcd" * 50 + b"\r\n"
    content = crlf("MIME-Version: 1.0\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\n") + octets

    converted = to_7bit(content)

    assert encoding_of(converted) == b"base64"
    assert leaves(converted) == [("image/png", octets)]


@pytest.mark.parametrize(
    ("body", "charset"),
    [("こんにちは\r\n".encode(), b"utf-8"), ("こんにちは\r\n".encode("shift_jis"), b"unknown-8bit")],
)
def test_a_body_without_any_label_gets_one(body: bytes, charset: bytes) -> None:
    converted = to_7bit(b"Subject: hello\r\n\r\n" + body)

    section = read_header_section(converted)
    assert section.first_value("mime-version") == b"1.0"
    assert section.first_value("content-type") == b"text/plain; charset=" + charset
    assert leaves(converted) == [("text/plain", body)]


def test_fields_keep_their_order_and_bytes() -> None:
    content = crlf("X-One:  1\nContent-Transfer-Encoding:   8bit\nx-TWO: 2\n\t3\n\néé\n")

    converted = to_7bit(content)

    assert converted.startswith(
        b"X-One:  1\r\nContent-Transfer-Encoding: base64\r\nx-TWO: 2\r\n\t3\r\nMIME-Version: 1.0\r\n"
    )


def test_trailing_blanks_and_long_lines_survive_quoted_printable() -> None:
    text = "a \t\r\n" + "word " * 190 + "\r\né\r\n.\r\n=\r\nlast \r\n"
    content = crlf("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n") + text.encode()

    converted = to_7bit(content)

    assert encoding_of(converted) == b"quoted-printable"
    assert leaves(converted) == [("text/plain", text.encode())]


def test_a_text_without_a_line_end_is_broken_with_crlf() -> None:
    text = ("word " * 60 + "é").encode()
    content = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text

    converted = to_7bit(content)

    check_lines(converted)
    assert leaves(converted) == [("text/plain", text)]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_stray_octets_in_an_encoded_part_do_not_change_what_it_says(encoding: str) -> None:
    body = {"base64": b"aGVs\xe3\x81bG8=\r\n", "quoted-printable": b"hel=6Co \xe3\x81\x82 =\r\nmore\r\n"}[encoding]
    content = f"Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body

    converted = to_7bit(content)

    assert converted.isascii()
    assert encoding_of(converted) == encoding.encode()
    assert leaves(converted) == leaves(content)


# Multiparts

MIXED = """\
From: alice@acme.example
MIME-Version: 1.0
Content-Type: multipart/mixed;
\tboundary="outer b"
Content-Transfer-Encoding: 8bit

preamble
--outer b
Content-Type: multipart/alternative; boundary=inner
Content-Transfer-Encoding: 8bit

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

本文です
--inner
Content-Type: text/html; charset=us-ascii

<p>kept  as it is =20</p>

--inner--

--outer b
Content-Type: application/pdf; name="a.pdf"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="a.pdf"

JVBERi0xLjQK
--outer b

8-bit text without any header: é
--outer b--
epilogue
"""


def test_only_the_8bit_parts_of_a_multipart_change() -> None:
    content = crlf(MIXED)

    converted = to_7bit(content)

    assert leaves(converted) == leaves(content)
    assert converted.isascii()
    expected = MIXED
    for before, after in [
        ("boundary=inner\nContent-Transfer-Encoding: 8bit", "boundary=inner\nContent-Transfer-Encoding: 7bit"),
        ('"outer b"\nContent-Transfer-Encoding: 8bit', '"outer b"\nContent-Transfer-Encoding: 7bit'),
        ("Content-Transfer-Encoding: 8bit\n\n本文です", "Content-Transfer-Encoding: base64\n\n5pys5paH44Gn44GZ"),
        (
            "\n8-bit text without any header: é",
            "Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=utf-8\n\n"
            "8-bit text without any header: =C3=A9",
        ),
    ]:
        expected = expected.replace(before, after)
    assert converted == crlf(expected)


def test_what_nobody_reads_around_the_parts_is_made_ascii() -> None:
    content = crlf("Content-Type: multipart/mixed; boundary=b\n\nprä\n--b\n\nhi é\n--b--\nepilög\n")

    converted = to_7bit(content)

    assert converted.isascii()
    assert leaves(converted) == leaves(content)
    assert converted.endswith(b"\r\n--b--\r\nepil??g\r\n")


def test_a_multipart_without_its_last_boundary_ends_where_the_message_ends() -> None:
    content = crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nplain\n--b\n\nééé\n")

    converted = to_7bit(content)

    # The parser leaves out the last line end in this case, whether it is encoded or not.
    assert [octets.strip() for _, octets in leaves(converted)] == [b"plain", "ééé".encode()]


def test_an_attached_message_is_converted_inside() -> None:
    content = crlf(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n"
        "Content-Transfer-Encoding: 8bit\n\nSubject: 内側\nContent-Type: text/plain; charset=utf-8\n\n"
        + JAPANESE
        + "--b--\n"
    )

    converted = to_7bit(content)

    assert leaves(converted) == leaves(content)
    assert b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: =?utf-8?B?" in converted


def test_a_digest_is_made_of_messages() -> None:
    content = crlf("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\néé\n--b--\n")

    converted = to_7bit(content)

    assert leaves(converted) == leaves(content)
    assert b"Subject: one\r\nMIME-Version: 1.0\r\n" in converted or b"Subject: one\r\nContent-Transfer" in converted


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Content-Type: multipart/mixed\n\nhé\n", "does not name its boundary"),
        ("Content-Type: multipart/mixed; boundary=b\n\nhé\n", "boundary of a multipart"),
        ("Content-Type: multipart\n\nhé\n", "malformed Content-Type"),
        ("Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nhé\n", "is encoded"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nno header é\n\nx\n--b--\n", "header section"),
        ("Content-Type: multipart/signed; boundary=b\n\n--b\n\nhé\n--b--\n", "signed part"),
        ("Content-Type: message/partial; id=a\n\nhé\n", "message/partial"),
        ("Content-Type: text/plain\nContent-Type: text/html\n\nhé\n", "more than one content-type"),
        ("Content-Transfer-Encoding: x-uuencode\n\nhé\n", "not known"),
        ("Message-ID: <é@acme.example>\n\nhello\n", "Message-ID"),
    ],
)
def test_what_cannot_be_read_without_guessing_is_not_converted(content: str, text: str) -> None:
    assert text in refusal(crlf(content))


def test_depth_and_parts_are_bounded() -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(MAX_DEPTH + 1)) + "\nhé\n"
    wide = "Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\né\n" * (MAX_PARTS + 1) + "--b--\n"

    assert "nested" in refusal(crlf(deep))
    assert "parts" in refusal(crlf(wide))


def test_a_large_message_takes_linear_time() -> None:
    line = "あ" * 100 + "\r\n--\r\n"
    content = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n") + line.encode() * 20_000 + b"--b--\r\n"

    began = time.process_time()
    converted = to_7bit(content)

    assert time.process_time() - began < 5
    assert leaves(converted) == leaves(content)


# Header sections


@pytest.mark.parametrize("convert", [to_7bit, with_ascii_header])
@pytest.mark.parametrize(
    "subject",
    [
        "ご請求書",
        "Re: ご請求書 (2024年)",
        "Caffè e più: a long line of words, of which only a few are in need of being encoded, così è",
        "=?utf-8?B?44GC?= い =?utf-8?Q?=E3=81=86?= end",
        "x" * 60 + " é " + "y" * 60,
        "長い" * 120,
    ],
)
def test_a_raw_subject_reads_the_same_when_encoded(convert, subject: str) -> None:
    content = crlf(f"Subject: {subject}\nFrom: a@acme.example\n\nhello\n")

    converted = convert(content)

    assert converted.isascii()
    assert display_text(subject_of(converted) or b"") == display_text(subject_of(content) or b"")
    assert max(map(len, converted.split(b"\r\n"))) <= 78
    assert converted.endswith(b"\r\nFrom: a@acme.example\r\n\r\nhello\r\n")


def test_a_folded_subject_keeps_its_words() -> None:
    content = crlf("Subject: one\n two é\n\tthree\n\nhello\n")

    converted = with_ascii_header(content)

    parsed = email.message_from_bytes(converted, policy=email.policy.default)
    assert str(parsed["subject"]).replace("\t", " ") == "one two é three"


def test_a_subject_that_is_no_utf8_is_labelled_as_unknown() -> None:
    content = b"Subject: " + "請求書".encode("shift_jis") + b"\r\n\r\nhello\r\n"

    assert subject_of(to_7bit(content)) == b"=?unknown-8bit?B?kL+LgY+R?="


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("山田 太郎 <taro@acme.example>", [("山田 太郎", "taro@acme.example")]),
        ('"山田, 太郎" <taro@acme.example>', [("山田, 太郎", "taro@acme.example")]),
        ('"Müller \\"M\\"" <m@acme.example>', [('Müller "M"', "m@acme.example")]),
        ("山田<taro@acme.example>", [("山田", "taro@acme.example")]),
        ("Bob <bob@acme.example>, 花子 <h@acme.example>", [("Bob", "bob@acme.example"), ("花子", "h@acme.example")]),
        ("社員: 山田 <a@acme.example>, b@acme.example;", [("山田", "a@acme.example"), ("", "b@acme.example")]),
    ],
)
def test_display_names_are_encoded_and_addresses_untouched(value: str, expected: list[tuple[str, str]]) -> None:
    content = crlf(f"To: {value}\n\nhello\n")

    converted = to_7bit(content)

    parsed = email.message_from_bytes(converted, policy=email.policy.default)
    found = [(address.display_name, address.addr_spec) for address in parsed["to"].addresses]
    assert found == expected
    assert not parsed["to"].defects


def test_a_long_display_name_takes_several_words() -> None:
    content = crlf(f"To: {'山田' * 40} <taro@acme.example>\n\nhello\n")

    converted = to_7bit(content)

    value = read_header_section(converted).first_value("to") or b""
    assert display_text(value) == "山田" * 40 + " <taro@acme.example>"
    assert max(map(len, converted.split(b"\r\n"))) <= 100


def test_comments_are_encoded() -> None:
    converted = to_7bit(crlf("From: taro@acme.example (山田)\n\nhello\n"))

    assert converted.startswith(b"From: taro@acme.example (=?utf-8?B?5bGx55Sw?=)\r\n")


@pytest.mark.parametrize(
    "value",
    [
        "<ü@acme.example>",
        "ü@acme.example",
        "a@acme.example, Bob <bob@bücher.example>",
        '"ü"@acme.example',
        "Bob <a@acme.example> ü",
        "Bob (a (ü)) <a@acme.example>",
        'ü "unterminated <a@acme.example>',
    ],
)
@pytest.mark.parametrize("convert", [to_7bit, with_ascii_header])
def test_an_address_with_8bit_characters_stands_against_it(convert, value: str) -> None:
    assert "8-bit characters" in refusal(crlf(f"To: {value}\n\nhello\n"), convert)


def test_file_names_become_extended_parameters() -> None:
    content = crlf(
        'MIME-Version: 1.0\nContent-Type: application/pdf; name="見積書.pdf"; x="a;b"\n'
        'Content-Disposition: attachment; filename="' + "見積書" * 10 + '.pdf"; size=10\n\nhello\n'
    )

    converted = to_7bit(content)

    parsed = email.message_from_bytes(converted, policy=email.policy.default)
    assert parsed.get_filename() == "見積書" * 10 + ".pdf"
    assert parsed["content-type"].params["name"] == "見積書.pdf"
    assert parsed["content-type"].params["x"] == "a;b"
    assert parsed["content-disposition"].params["size"] == "10"
    assert max(map(len, converted.split(b"\r\n"))) <= 78


def test_a_file_name_that_was_given_both_ways_is_kept_in_the_good_one() -> None:
    content = crlf("Content-Disposition: attachment; filename=\"é.txt\"; filename*=utf-8''%C3%A9.txt\n\nhello\n")

    converted = to_7bit(content)

    assert converted.startswith(b"Content-Disposition: attachment;\r\n\tfilename*=utf-8''%C3%A9.txt\r\n")


def test_an_ascii_header_leaves_8bit_bodies_alone() -> None:
    content = crlf(
        "Subject: ご請求書\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n"
        "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nContent-Description: 本文\n\n本文です\n"
        "--b--\n"
    )

    converted = with_ascii_header(content)

    assert converted == content.replace("ご請求書".encode(), b"=?utf-8?B?44GU6KuL5rGC5pu4?=").replace(
        "Description: 本文".encode(), b"Description: =?utf-8?B?5pys5paH?="
    )


# Any message

_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=60
)
_BODIES = st.lists(_TEXTS, max_size=5).map(lambda lines: "\r\n".join(lines).encode())
_ENCODINGS = st.sampled_from(["", "Content-Transfer-Encoding: 8bit\r\n", "Content-Transfer-Encoding: binary\r\n"])
_TYPES = st.sampled_from(["text/plain; charset=utf-8", "text/html", "application/octet-stream", "image/png; name=x"])


def _leaf(media_type: str, encoding: str, body: bytes) -> bytes:
    return f"Content-Type: {media_type}\r\n{encoding}\r\n".encode() + body


def _multipart(children: list[bytes], encoding: str, depth: str) -> bytes:
    boundary = f"=_{depth}".encode()
    parts = b"".join(b"--" + boundary + b"\r\n" + child + b"\r\n" for child in children)
    header = f'Content-Type: multipart/mixed; boundary="=_{depth}"\r\n{encoding}\r\n'.encode()
    return header + parts + b"--" + boundary + b"--\r\n"


_LEAVES = st.builds(_leaf, _TYPES, _ENCODINGS, _BODIES)
_INNER = st.builds(_multipart, st.lists(_LEAVES, min_size=1, max_size=3), _ENCODINGS, st.just("inner"))
_MESSAGES = st.builds(
    _multipart, st.lists(st.one_of(_LEAVES, _INNER), min_size=1, max_size=3), _ENCODINGS, st.just("outer")
) | st.builds(_leaf, _TYPES, _ENCODINGS, _BODIES)


@given(_MESSAGES)
def test_every_message_decodes_to_what_it_was(content: bytes) -> None:
    converted = to_7bit(content)

    assert converted.isascii()
    check_lines(converted)
    assert leaves(converted) == leaves(content)
    assert to_7bit(converted) == converted


@given(st.lists(_TEXTS.map(str.strip).filter(lambda text: "=?" not in text), max_size=4))
def test_every_unstructured_field_reads_the_same(words: list[str]) -> None:
    content = b"Subject: " + " ".join(words).encode() + b"\r\n\r\nhello\r\n"

    converted = with_ascii_header(content)

    assert converted.isascii()
    assert display_text(subject_of(converted) or b"") == display_text(subject_of(content) or b"")


@given(st.binary(max_size=300).map(lambda octets: octets.translate(None, b"\r\n\0")))
def test_no_header_makes_it_fail_otherwise(octets: bytes) -> None:
    for name in (b"To", b"Subject", b"Content-Type", b"Content-Disposition", b"Received"):
        try:
            converted = to_7bit(name + b": " + octets + b"\r\n\r\nhello\r\n")
        except NotConvertible:
            continue
        assert converted.isascii()
