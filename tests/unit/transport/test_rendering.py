from __future__ import annotations

import asyncio
import email
from datetime import UTC, datetime

import dkim
import pytest

from delivery.core.downgrade import NotConvertible
from delivery.transport.rendering import Dressing, LoadedContent, Rendering, Transform, render_for
from delivery.transport.session import Delivery
from delivery.transport.signing import DkimSigner, generate_key, public_record
from tests.support.smtp_client import deliver, open_session
from tests.support.smtp_peer import EXTENSIONS, SmtpPeer

PEM = generate_key()
SIGNER = DkimSigner("acme.example", "rw1", PEM)
NOW = datetime.now(tz=UTC)
TEXT = "拝啓　時下ますますご清栄のこととお慶び申し上げます。\r\n"

ASCII = b"From: alice@acme.example\r\nSubject: hello\r\n\r\nhello\r\n"
BODY_8BIT = ASCII.replace(
    b"\r\n\r\nhello\r\n", b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)
BODY_8BIT += TEXT.encode()
HEADER_8BIT = ASCII.replace(b"hello\r\n\r\n", "ご請求書\r\n\r\n".encode())
BOTH_8BIT = BODY_8BIT.replace(b"Subject: hello", "Subject: ご請求書".encode())
ADDRESS_8BIT = HEADER_8BIT.replace(b"alice@", "アリス@".encode())
UNCONVERTIBLE = BODY_8BIT.replace(b"text/plain", b"multipart/mixed")


def verifies(content: bytes) -> bool:
    return bool(dkim.verify(content, dnsfunc=lambda name, timeout=5: public_record(PEM).encode()))


async def sent(
    content: bytes,
    *missing: str,
    needs_smtputf8: bool = False,
    recipient: str = "bob@acme.test",
) -> tuple[Rendering, Delivery, list[bytes], list[bytes]]:
    """Rendered for a hop that lacks some extensions and handed to it: what it said, the MAIL commands and contents."""
    async with SmtpPeer(extensions=[name for name in EXTENSIONS if name not in missing]) as peer:
        session = await open_session(peer)
        rendering = await render_for(
            LoadedContent(content),
            dressing=Dressing((SIGNER,)),
            now=NOW,
            has_8bitmime=session.has_8bitmime,
            has_smtputf8=session.has_smtputf8,
            needs_smtputf8=needs_smtputf8,
            is_ascii_envelope=recipient.isascii(),
        )
        delivery = await deliver(
            session, rendering.chunks, body=rendering.body, smtputf8=rendering.smtputf8, recipient=recipient
        )
        session.close()
        mails = [command for command in peer.connections[0].commands if command.startswith(b"MAIL")]
        return rendering, delivery, mails, peer.connections[0].contents


@pytest.mark.parametrize("content", [ASCII, BODY_8BIT, HEADER_8BIT, BOTH_8BIT])
@pytest.mark.parametrize("needs_smtputf8", [True, False])
async def test_a_hop_that_takes_everything_gets_the_message_as_it_is(content, needs_smtputf8):
    rendering, delivery, mails, contents = await sent(content, needs_smtputf8=needs_smtputf8)

    assert delivery.reply.code == 250
    assert rendering.note is None
    assert contents[0].endswith(content)
    assert (b"SMTPUTF8" in mails[0]) is needs_smtputf8
    assert (b"BODY=8BITMIME" in mails[0]) is not content.isascii()
    assert verifies(contents[0])


@pytest.mark.parametrize("content", [BODY_8BIT, HEADER_8BIT, BOTH_8BIT])
@pytest.mark.parametrize("needs_smtputf8", [True, False])
@pytest.mark.parametrize("missing", [("8BITMIME",), ("8BITMIME", "SMTPUTF8")])
async def test_a_hop_without_8bitmime_gets_7bit_content_that_is_signed_afterwards(content, needs_smtputf8, missing):
    rendering, delivery, mails, contents = await sent(content, *missing, needs_smtputf8=needs_smtputf8)

    assert delivery.reply.code == 250
    assert rendering.note == "converted to 7-bit content for this host"
    assert contents[0].isascii()
    assert b"BODY=" not in mails[0]
    assert (b"SMTPUTF8" in mails[0]) is (needs_smtputf8 and "SMTPUTF8" not in missing)
    assert verifies(contents[0])
    assert email.message_from_bytes(contents[0]).get_payload(decode=True) == (
        b"hello\r\n" if content is HEADER_8BIT else TEXT.encode()
    )


@pytest.mark.parametrize("content", [HEADER_8BIT, BOTH_8BIT])
async def test_a_hop_without_smtputf8_gets_an_ascii_header_section(content):
    rendering, delivery, mails, contents = await sent(content, "SMTPUTF8", needs_smtputf8=True)

    assert delivery.reply.code == 250
    assert rendering.note == "converted to an ASCII header section for this host"
    assert contents[0].partition(b"\r\n\r\n")[0].isascii()
    assert contents[0].endswith(content.partition(b"\r\n\r\n")[2])
    assert b"SMTPUTF8" not in mails[0]
    assert verifies(contents[0])


@pytest.mark.parametrize("content", [ASCII, BODY_8BIT])
async def test_smtputf8_that_was_asked_for_without_need_is_not_passed_on(content):
    rendering, delivery, mails, contents = await sent(content, "SMTPUTF8", needs_smtputf8=True)

    assert delivery.reply.code == 250
    assert rendering.note is None
    assert contents[0].endswith(content)
    assert b"SMTPUTF8" not in mails[0]


@pytest.mark.parametrize(
    ("content", "missing", "options", "enhanced"),
    [
        (UNCONVERTIBLE, ["8BITMIME"], {}, "5.6.3"),
        (ADDRESS_8BIT, ["8BITMIME"], {}, "5.6.3"),
        (ADDRESS_8BIT, ["SMTPUTF8"], {"needs_smtputf8": True}, "5.6.7"),
        (ADDRESS_8BIT, ["SMTPUTF8", "8BITMIME"], {"needs_smtputf8": True}, "5.6.7"),
        (ASCII, ["SMTPUTF8"], {"recipient": "ボブ@acme.test", "needs_smtputf8": True}, "5.6.7"),
        (BODY_8BIT, ["SMTPUTF8", "8BITMIME"], {"recipient": "ボブ@acme.test"}, "5.6.7"),
    ],
)
async def test_what_cannot_be_converted_is_refused_before_anything_is_said(content, missing, options, enhanced):
    rendering, delivery, mails, contents = await sent(content, *missing, **options)

    assert (delivery.reply.code, delivery.reply.enhanced) == (550, enhanced)
    assert mails == contents == []
    is_noted = content in (UNCONVERTIBLE, ADDRESS_8BIT)
    assert (rendering.note or "").startswith("not converted: ") is is_noted


@pytest.mark.parametrize("body", [TEXT.encode(), TEXT.encode() * 2000])
async def test_a_conversion_is_made_once_for_all_recipients(body):
    loaded = LoadedContent(BODY_8BIT + body)
    hop = {"has_8bitmime": False, "has_smtputf8": False, "needs_smtputf8": False, "is_ascii_envelope": True}

    renderings = await asyncio.gather(*(render_for(loaded, dressing=Dressing(), now=NOW, **hop) for _ in range(10)))

    assert len({id(rendering.chunks[0]) for rendering in renderings}) == 1
    assert renderings[0].chunks[0].isascii()
    assert loaded.content == BODY_8BIT + body


def test_a_refusal_is_remembered_too():
    loaded = LoadedContent(UNCONVERTIBLE)

    for _ in range(2):
        with pytest.raises(NotConvertible):
            loaded.converted(Transform.SEVEN_BIT)
    assert loaded.converted(Transform.NONE) is loaded
