"""What the writer writes, the standard library's reader reads back, and no line can be smuggled in."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.core.compose import Attachment, ComposeError, Composition, Named, compose, substitute
from delivery.core.content import author_of, check_lines, read_header_section
from delivery.core.mailbox import parse_mailbox

SHOP = Named(parse_mailbox("shop@acme.example"), "アクメ商店")
TARO = Named(parse_mailbox("taro@example.jp"), "髙橋 太郎")


def _written(**parts: Any) -> bytes:
    return compose(Composition(**{"author": SHOP, "boundary": "=_b", "to": [TARO], "text": "Hello", **parts}))


def _read(content: bytes) -> EmailMessage:
    check_lines(content)
    section = read_header_section(content)
    assert author_of(section).mailbox.address == "shop@acme.example"
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    return message


def _text(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


TEXTS = [
    "plain\nlines\n",
    "ご注文ありがとうございます。\n.先頭が点の行です。\n",
    "Zürich\n" + "a" * 2000 + "\n",
    "trailing blank \nFrom the start\n=3D\t\n",
    "a" * 998 + "\n",
    "bell \x07 and nul \x00 and nel \x85 and \u2028\n",
    "😀" * 400 + "\n",
    "\r\nmixed\rline\nends\r\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back_as_they_were(text: str) -> None:
    message = _read(_written(text=text, html=f"<p>{text}</p>\n"))

    assert _text(message, "plain") == text.replace("\r\n", "\n").replace("\r", "\n")
    assert _text(message, "html") == f"<p>{text}</p>\n".replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "Your order",
        "ご注文の確認 #1234",
        "とても長い件名" * 40,
        "word " * 60 + "end",
        "x" * 3000,
        "=?utf-8?B?aG9nZQ==?= as text",
        " leading and trailing ",
        "two  blanks   and more",
        "𠮷野家😀" * 30,
    ],
)
def test_subjects_come_back_as_they_were(subject: str) -> None:
    content = _written(subject=subject)

    assert _read(content)["Subject"] == subject
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))


@pytest.mark.parametrize(
    "name",
    [
        "Acme",
        "Doe, Jo",
        'say "hi" \\',
        "髙橋 太郎",
        "とても長い名前" * 20,
        "O'Neil (shop)",
        "=?utf-8?Q?x?=",
        "a.b@c",
        "名前, 株式会社",
    ],
)
def test_names_come_back_as_they_were(name: str) -> None:
    content = _written(to=[Named(TARO.mailbox, name), SHOP], cc=[Named(TARO.mailbox)], reply_to=[SHOP])
    message = _read(content)

    # The newer reader puts blanks between encoded words of a phrase; the older one follows RFC 2047 §6.2.
    raw = message_from_bytes(content, policy=policy.compat32)["To"].replace("\r\n", "")
    assert [(str(make_header(decode_header(shown))), address) for shown, address in getaddresses([raw])] == [
        (name, "taro@example.jp"),
        ("アクメ商店", "shop@acme.example"),
    ]
    assert message["Cc"].addresses[0].addr_spec == "taro@example.jp"
    assert message["Bcc"] is None


@pytest.mark.parametrize(
    "filename",
    ["a.pdf", "two words.pdf", 'q"uote.txt', "請求書.pdf", "とても長い請求書の名前" * 9 + ".pdf", "x" * 200, ""],
)
def test_files_come_back_as_they_were(filename: str) -> None:
    content = bytes(range(256)) * 9
    logo = Attachment(b"\x89PNG", "logo.png", "image/png", content_id="logo@acme")
    csv = Attachment("値".encode(), "", 'text/csv; charset="utf-8"')

    message = _read(_written(html="<img src='cid:logo@acme'>", attachments=[Attachment(content, filename), logo, csv]))

    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed", "multipart/related", "multipart/alternative", "text/plain", "text/html", "image/png",
        "application/octet-stream", "text/csv",
    ]  # fmt: skip
    first, second = (
        message.iter_attachments()
        if message.get_content_type() != "multipart/mixed"
        else list(message.iter_parts())[1:]
    )
    assert (first.get_filename() or "") == filename
    assert first.get_content() == content
    assert second.get_content().strip() == "値"
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo@acme>", "inline")


def test_own_fields_are_kept_and_encoded() -> None:
    headers = [
        ("X-Campaign", "春の"),
        ("List-Unsubscribe", "<https://acme.example/u?1>, <mailto:u@acme.example>"),
        ("References", "<a@b.example> <c@d.example>"),
    ]

    message = _read(_written(headers=headers))

    assert [(name, message[name]) for name, _ in headers] == headers


BREAKS = ["\r", "\n", "\r\n", "\0", "\x85", "\u2028", "\u2029", "\x0b", "\x1b", "\ud800"]


@pytest.mark.parametrize("breaking", BREAKS)
@pytest.mark.parametrize(
    ("part", "make"),
    [
        ("subject", lambda text: {"subject": text}),
        ("from", lambda text: {"author": Named(SHOP.mailbox, text)}),
        ("to", lambda text: {"to": [Named(TARO.mailbox, text)]}),
        ("cc", lambda text: {"cc": [Named(TARO.mailbox, text)]}),
        ("reply_to", lambda text: {"reply_to": [Named(TARO.mailbox, text)]}),
        ("headers.X-A", lambda text: {"headers": [("X-A", text)]}),
        ("headers", lambda text: {"headers": [(text, "value")]}),
        ("attachments", lambda text: {"attachments": [Attachment(b"", text)]}),
        ("attachments", lambda text: {"attachments": [Attachment(b"", "a", f"text/plain; x={text}")]}),
        ("attachments", lambda text: {"attachments": [Attachment(b"", "a", content_id=text)]}),
    ],
)
def test_nothing_can_end_a_header_line(part: str, make: Any, breaking: str) -> None:
    with pytest.raises(ComposeError) as refused:
        _written(**make(f"a{breaking}Bcc: victim@example.org"))

    assert refused.value.part == part


@pytest.mark.parametrize(
    "name", ["From", "bcc", "Content-Type", "DKIM-Signature", "X-Relay-Stream", "Received", "", "a:b", "a b", "é"]
)
def test_fields_of_ours_cannot_be_set(name: str) -> None:
    with pytest.raises(ComposeError):
        _written(headers=[(name, "value")])


def test_a_message_needs_a_body() -> None:
    with pytest.raises(ComposeError):
        _written(text=None)


def test_variables_are_filled_in_and_escaped_in_html() -> None:
    variables = {"name": "<太郎>", "id": "1"}

    assert substitute("Hi {{name}}, {{ id }} {{", variables, part="text") == "Hi <太郎>, 1 {{"
    assert substitute("Hi {{name}}", variables, part="html", is_html=True) == "Hi &lt;太郎&gt;"
    with pytest.raises(ComposeError):
        substitute("{{nobody}}", variables, part="text")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
# The reader of the standard library takes other blanks than ours for line ends when it folds; a header has none of them.
LINE_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)


@settings(max_examples=150, deadline=None)
@given(subject=LINE_TEXT, name=LINE_TEXT, text=ANY_TEXT, filename=LINE_TEXT)
def test_whatever_is_written_is_strict(subject: str, name: str, text: str, filename: str) -> None:
    content = _written(
        subject=subject, to=[Named(TARO.mailbox, name)], text=text, attachments=[Attachment(b"x", filename)]
    )

    check_lines(content)
    section = read_header_section(content)
    assert [field.name for field in section.fields] == ["From", "To", "Subject", "MIME-Version", "Content-Type"]
    message = message_from_bytes(content, policy=policy.default)
    parts = list(message.iter_parts())  # type: ignore[attr-defined]
    assert parts[0].get_content().replace("\r\n", "\n") == text.replace("\r\n", "\n").replace("\r", "\n")
