from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.mime import MAX_DEPTH, MAX_PARTS, MAX_TEXT_OCTETS, decode_charset, read_mail, strip_markup

REPORT = (
    b'Subject: x\r\nContent-Type: multipart/report; boundary="b"\r\n\r\npreamble\r\n--b\r\n\r\nnotice\r\n'
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: returned\r\n\r\nbody\r\n--b--\r\nepilogue\r\n"
)


def depth_of(part: object, depth: int = 0) -> int:
    children = part.children  # type: ignore[attr-defined]
    return max((depth_of(child, depth + 1) for child in children), default=depth)


@pytest.mark.parametrize(
    "content",
    [
        REPORT,
        REPORT.replace(b"\r\n", b"\n"),
        b"From daemon Thu Jan  1 00:00:00 1970\n" + REPORT.replace(b"\r\n", b"\n"),
        REPORT.replace(b"--b", b"----b").replace(b'boundary="b"', b'boundary="--b"'),
        REPORT.replace(b"--b--\r\nepilogue\r\n", b""),
        REPORT.replace(b'; boundary="b"', b"").replace(b"--b", b"--boundary"),
    ],
)
def test_the_parts_of_a_report_are_found(content: bytes) -> None:
    mail = read_mail(content)

    assert [part.media_type for part in mail.walk()] == [
        "multipart/report", "text/plain", "message/rfc822", "text/plain",
    ]  # fmt: skip
    assert mail.children[0].text().strip() == "notice"
    returned = mail.children[1].children[0]
    assert returned.is_enclosed and returned.first("subject") == "returned"


@pytest.mark.parametrize(
    ("octets", "label"),
    [
        ("不在です".encode("iso2022_jp"), "iso-2022-jp"),
        ("不在です".encode("iso2022_jp"), ""),
        ("不在です".encode("cp932"), "Shift_JIS"),
        ("不在です".encode("euc_jp"), "EUC-JP"),
        ("不在です".encode("euc_jp"), "iso-2022-jp"),
        ("不在です".encode(), "utf-8"),
        ("不在です".encode(), "no-such-charset"),
        ("不在です".encode(), "rot13"),
    ],
)
def test_japanese_is_read_whatever_it_is_labelled(octets: bytes, label: str) -> None:
    assert decode_charset(octets, label) == "不在です"


def test_parts_and_depth_are_bounded() -> None:
    wide = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 10_000
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 1000

    assert len(list(read_mail(wide).walk())) <= MAX_PARTS + 1
    assert depth_of(read_mail(deep)) <= MAX_DEPTH


def test_a_decoded_text_is_bounded() -> None:
    content = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=41" * 1_000_000

    assert len(read_mail(content).text()) <= MAX_TEXT_OCTETS


def test_markup_is_taken_off() -> None:
    html = "<style>a{}</style><p>Your mail &lt;a@acme.example&gt;<br>was <b>rejected</b></p>"

    assert strip_markup(html).split() == ["Your", "mail", "<a@acme.example>", "was", "rejected"]


@given(st.binary() | st.lists(st.sampled_from(REPORT.splitlines(keepends=True))).map(b"".join))
def test_nothing_makes_it_raise(content: bytes) -> None:
    for part in read_mail(content).walk():
        strip_markup(part.text())
