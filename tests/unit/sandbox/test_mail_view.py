from __future__ import annotations

from email.message import EmailMessage

import pytest

from sandbox.mail_view import decode_value, html_part, summarize, view


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" plain", "plain"),
        ("生の日本語".encode(), "生の日本語"),
        (b" =?utf-8?B?44GT44KT?=\r\n =?iso-2022-jp?B?GyRCJDMkcxsoQg==?=", "こんこん"),
        ("=?utf-8?q?a_=3D?= 日本".encode(), "a = 日本"),
        (b"\x1b$B$3$s\x1b(B", "こん"),
        (b"=?x-unknown?B?YWJj?=", "abc"),
        (b"=?utf-8?B?!?=", "=?utf-8?B?!?="),
        (b"a\x00b\x1bc \xe2\x80\xaexyz", "a\ufffdb\ufffdc \ufffdxyz"),
    ],
)
def test_header_values_are_decoded_for_people(value: bytes, text: str) -> None:
    assert decode_value(value) == text


def test_a_mail_is_taken_apart() -> None:
    message = EmailMessage()
    message["Subject"] = "件名"
    message["From"] = "株式会社 <a@x.test>"
    message.set_content("本文\n", charset="iso-2022-jp")
    message.add_alternative("<p>本文</p>", subtype="html")
    message.add_attachment(b"123", maintype="image", subtype="png", filename="画像.png")
    content = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))

    seen = view(content)

    assert (seen.text.strip(), seen.has_html) == ("本文", True)
    assert [(part.content_type, part.file_name) for part in seen.parts][2] == ("image/png", "画像.png")
    assert (html_part(content) or "").strip() == "<p>本文</p>"
    assert summarize(content).subject == "件名"
    assert summarize(content).author == "株式会社 <a@x.test>"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no header at all",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff\xfe",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
        + b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 3000,
        b"Content-Type: message/rfc822\r\n\r\n" * 5000,
    ],
)
def test_strange_mail_is_shown_as_well_as_it_goes(content: bytes) -> None:
    view(content)
    html_part(content)
    summarize(content)
