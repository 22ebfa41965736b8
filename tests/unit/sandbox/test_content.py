from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.wire import Content, LineTooLongError, Wire


async def received(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The content that arrives in these pieces, and what was left over behind it."""
    wire = Wire()
    content = wire.content()
    read = bytearray()
    for piece in pieces:
        wire.data_received(piece)
        if not content.is_complete and wire.has_input:
            read += await content.read()
    while not content.is_complete:
        read += await content.read()
    return bytes(read), bytes(wire.take(1_000_000))


def stuffed(content: bytes) -> bytes:
    """RFC 5321 §4.5.2, in the plainest way there is."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n...b\r\n.\r\n", b".\r\n..b\r\n"),
        (b"a\r\n\r\n..\r\n.\r\n", b"a\r\n\r\n.\r\n"),
        (b"a\n.\nb\r.\rc\r\n.\r\n", b"a\n.\nb\r.\rc\r\n"),
        (b"a\n.\r\nb\r\n.\nc\r\n.\r\n", b"a\n.\r\nb\r\n\nc\r\n"),
        (b"\0.\r\n.\r\n", b"\0.\r\n"),
    ],
)
def test_only_a_dot_between_two_crlf_ends_the_content(sent: bytes, content: bytes) -> None:
    assert asyncio.run(received([sent])) == (content, b"")


def test_what_follows_the_end_is_left_for_the_next_command() -> None:
    assert asyncio.run(received([b"a\r\n.\r\nQUIT\r\n"])) == (b"a\r\n", b"QUIT\r\n")


@settings(max_examples=300, deadline=None)
@given(
    content=st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"..", b"\xe3\x81\x82"]), max_size=12),
    cuts=st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=40),
)
def test_content_comes_out_as_it_was_however_it_is_cut(content: list[bytes], cuts: list[int]) -> None:
    wanted = b"".join(content) + b"\r\n"
    sent = stuffed(wanted) + b".\r\n"
    pieces = []
    for cut in cuts:
        pieces.append(sent[:cut])
        sent = sent[cut:]
    pieces.append(sent)

    assert asyncio.run(received([piece for piece in pieces if piece])) == (wanted, b"")


def test_a_line_without_end_is_given_up_at_its_limit() -> None:
    async def read() -> None:
        wire = Wire()
        wire.data_received(b"x" * 5000)
        await wire.line()

    with pytest.raises(LineTooLongError):
        asyncio.run(read())


def test_a_content_object_keeps_no_more_than_it_has_to() -> None:
    async def read() -> int:
        wire = Wire()
        content = Content(wire)
        wire.data_received(b"x" * 100_000)
        return len(await content.read())

    assert asyncio.run(read()) == 100_000
