from __future__ import annotations

import time
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.core.content import read_header_section
from delivery.transport.signing import (
    VALIDITY,
    DkimSigner,
    body_hash,
    generate_key,
    public_record,
    relaxed_body,
)

PEM = generate_key()
SIGNER = DkimSigner("acme.example", "rw1", PEM)

HEADER = (
    b"From: Alice <alice@acme.example>\r\n"
    b"To: bob@globex.example\r\n"
    b"Subject: hello\r\n"
    b"Date: Tue, 24 Nov 2026 05:32:07 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\n"
)


def signed(content: bytes, *, now: datetime | None = None) -> bytes:
    section = read_header_section(content)
    moment = now if now is not None else datetime.now(UTC)
    return SIGNER.sign(section.fields, body_hash(content[section.body_start :]), now=moment) + content


def on_the_wire(text: bytes) -> bytes:
    """A last line without its end gets one from the framing of SMTP (RFC 5321 §4.1.1.4)."""
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def verifies(content: bytes) -> bool:
    def look_up(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"rw1._domainkey.acme.example."
        return public_record(PEM).encode()

    return bool(dkim.verify(on_the_wire(content), dnsfunc=look_up))


BODIES = {
    "plain": b"hello\r\n",
    "empty": b"",
    "only blank lines": b"\r\n\r\n\r\n",
    "only blanks": b"  \t \r\n \r\n",
    "trailing blanks": b"a \t\r\nb  \r\n\r\n \r\n\r\n",
    "runs of blanks": b"a  \t b\r\n   c\r\n\t\td\r\n",
    "no trailing CRLF": b"hello\r\nworld",
    "no trailing CRLF but a blank": b"hello\r\nworld \t",
    "dots at line starts": b".\r\n..\r\n.hidden\r\n...\r\n",
    "8-bit Japanese": "本文です。\r\n①㈱ テスト　全角\r\n".encode(),
    "Shift_JIS": "本文です。表示\r\n".encode("shift_jis"),
    "long lines": b"x" * 998 + b"\r\n" + b"y z" * 300 + b"\r\n",
    "blank lines within": b"\r\n\r\na\r\n\r\n\r\nb\r\n\r\n",
}

HEADERS = {
    "usual": HEADER,
    "folded From": HEADER.replace(b"From: Alice ", b"From:\r\n =?UTF-8?B?5bGx55Sw?=\r\n\t=?UTF-8?B?5aSq6YOO?=\r\n "),
    "blanks around": b"FROM :  x\r\n".replace(b" :", b":") + b"subject:   many   blanks \t \r\nTo:\r\n a@b.example\r\n",
    "very long": HEADER + b"References: " + b"\r\n ".join(b"<%d@acme.example>" % n for n in range(2000)) + b"\r\n",
    "raw 8-bit": HEADER.replace(b"hello", "お知らせ".encode()),
    "bulk": HEADER
    + b"List-Unsubscribe: <https://acme.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    + b"Feedback-ID: a:b:c:acme\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    + b"Content-Transfer-Encoding: 8bit\r\nSender: alice@acme.example\r\nReceived: a\r\nReceived: b\r\n",
    "doubled Content-Type": HEADER + b"Content-Type: text/plain\r\nX: y\r\nContent-Type: text/html\r\n",
    "From alone": b"From: alice@acme.example\r\n",
    "empty values": HEADER.replace(b"Subject: hello", b"Subject:"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_an_independent_verifier_accepts_every_body(body: bytes) -> None:
    assert verifies(signed(HEADER + b"\r\n" + body))


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_an_independent_verifier_accepts_every_header(header: bytes) -> None:
    assert verifies(signed(header + b"\r\nhello\r\n"))


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize(
    "field",
    [
        b"From: mallory@evil.example", b"Subject: changed", b"To: victim@globex.example", b"Cc: victim@globex.example",
        b"Reply-To: mallory@evil.example", b"Date: Tue, 24 Nov 2026 06:00:00 +0000", b"Message-ID: <2@evil.example>",
        b"MIME-Version: 1.0", b"Content-Type: text/html", b"Content-Transfer-Encoding: base64",
        b"List-Unsubscribe: <https://evil.example/>", b"List-Unsubscribe-Post: x", b"Feedback-ID: x",
    ],
)  # fmt: skip
def test_no_field_that_matters_can_be_added(field: bytes, present: bool) -> None:
    name = field.partition(b":")[0]
    header = (
        HEADERS["bulk"] + b"Cc: c@acme.example\r\nReply-To: alice@acme.example\r\n"
        if present
        else HEADERS["From alone"]
    )
    content = header + b"\r\nhello\r\n"
    message = signed(content)
    end_of_signature = len(message) - len(content)
    assert (name.lower() + b":" in header.lower()) == (present or name == b"From")

    on_top = field + b"\r\n" + message
    below_the_signature = message[:end_of_signature] + field + b"\r\n" + message[end_of_signature:]
    at_the_end = message.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n", 1)

    assert verifies(message)
    assert not verifies(on_top)
    assert not verifies(below_the_signature)
    assert not verifies(at_the_end)


def test_trace_fields_may_be_added_on_the_way() -> None:
    assert verifies(b"Received: from relay by mx\r\n" + signed(HEADER + b"\r\nhello\r\n"))


def test_a_changed_body_fails() -> None:
    assert not verifies(signed(HEADER + b"\r\nhello\r\n").replace(b"\r\n\r\nhello", b"\r\n\r\nHello"))


def test_a_signature_expires_after_a_week() -> None:
    now = datetime.now(UTC)

    content = HEADER + b"\r\nhello\r\n"

    assert verifies(signed(content, now=now - VALIDITY / 2))
    assert not verifies(signed(content, now=now - VALIDITY * 2))


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_the_field_is_folded_within_76_characters(header: bytes) -> None:
    content = header + b"\r\nhello\r\n"
    field = signed(content).removesuffix(content)

    lines = field.removesuffix(b"\r\n").split(b"\r\n")

    assert lines[0].startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=acme.example; s=rw1;")
    assert all(line.startswith(b"\t") for line in lines[1:])
    assert all(len(line) <= 76 for line in lines[1:])


def test_a_long_domain_and_selector_fit() -> None:
    signer = DkimSigner("d" * 60 + "." + "e" * 60 + ".example", "s" * 60, PEM)

    field = signer.sign(read_header_section(HEADER + b"\r\n").fields, body_hash(b""), now=datetime.now(UTC))

    assert all(len(line) <= 140 for line in field.split(b"\r\n"))
    assert len(read_header_section(field + b"\r\n").fields) == 1


def test_the_public_record_belongs_to_the_key() -> None:
    record = public_record(PEM)

    assert record.startswith("v=DKIM1; k=rsa; p=MIIBIjAN")
    assert record == public_record(PEM)
    assert record != public_record(generate_key())


def test_only_rsa_keys_sign() -> None:
    foreign = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    with pytest.raises(ValueError):
        DkimSigner("acme.example", "rw1", foreign)


def test_bare_line_endings_are_text() -> None:
    assert relaxed_body(b"a\n\r\n\r\n") == b"a\n\r\n"
    assert relaxed_body(b"a\r\r\n\r\n") == b"a\r\r\n"


@settings(deadline=None)
@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"."]), max_size=30))
def test_the_relaxed_body_is_what_the_verifier_makes_of_it(pieces: list[bytes]) -> None:
    body = b"".join(pieces)

    assert relaxed_body(body) == dkim.canonicalization.Relaxed.canonicalize_body(on_the_wire(body))


@pytest.mark.parametrize(
    "line", [b"x" * 76 + b"\r\n", b"aaa bbb  cc\t dd\r\n", b" \r\n", b"\r\n", b" " * 998 + b"\r\n"]
)
def test_25_megabytes_are_hashed_in_a_moment(line: bytes) -> None:
    body = memoryview(line * (25 * 2**20 // len(line)))

    started = time.process_time()
    body_hash(body)

    assert time.process_time() - started < 1.5
