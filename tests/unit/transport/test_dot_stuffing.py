from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.transport.dot_stuffing import BLOCK_OCTETS, DotStuffer, UnsafeContent, blocks_of, size_of


def stuffed(*chunks: bytes) -> bytes:
    stuffer = DotStuffer()
    return b"".join(map(stuffer.stuff, chunks)) + stuffer.ending()


def unstuffed(wire: bytes) -> bytes:
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines[:-2]) + b"\r\n"


def test_dots_at_the_beginning_of_lines_are_doubled():
    assert stuffed(b".a\r\n..b\r\nc.\r\n.\r\n") == b"..a\r\n...b\r\nc.\r\n..\r\n.\r\n"


def test_a_missing_final_line_ending_is_added():
    assert stuffed(b"a") == b"a\r\n.\r\n"
    assert stuffed(b"") == b".\r\n"


@pytest.mark.parametrize("cut", range(1, 9))
def test_dots_are_doubled_across_the_borders_of_chunks(cut):
    content = b"a\r\n.\r\n.b"

    assert stuffed(content[:cut], b"", content[cut:]) == b"a\r\n..\r\n..b\r\n.\r\n"


@given(st.lists(st.sampled_from([b".", b"..", b"\r\n", b"a", b"\r\n.\r\n", b"\r\n.."])), st.data())
def test_the_receiver_gets_back_what_was_given_wherever_it_is_cut(parts, data):
    content = b"".join(parts) + b"\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    chunks = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    wire = stuffed(*chunks)

    assert unstuffed(wire) == content
    assert wire.count(b"\r\n.\r\n") + wire.startswith(b".\r\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb\r\n",
        b"a\rb\r\n",
        b"\r\n\r.\r\n",
        b"a\r\r\n",
        b"a\n\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"a\r",
        b"\n",
    ],
)
def test_what_is_no_strict_smtp_is_refused_wherever_it_is_cut(content):
    for cut in range(len(content) + 1):
        with pytest.raises(UnsafeContent):
            stuffed(content[:cut], content[cut:])


@given(st.text(alphabet="\r\n.a", max_size=12), st.integers(0, 12))
def test_it_refuses_exactly_what_has_bare_line_endings(text, cut):
    content = text.encode()
    rest = content.replace(b"\r\n", b"")
    is_strict = b"\r" not in rest and b"\n" not in rest
    # Removing the pairs must not make new ones: \r\r\n\n is not strict.
    is_strict = is_strict and not any(bare in content.replace(b"\r\n", b" ") for bare in (b"\r", b"\n"))

    try:
        stuffed(content[:cut], content[cut:])
    except UnsafeContent:
        assert not is_strict
    else:
        assert is_strict


def test_large_chunks_are_cut_into_blocks():
    content = [b"h" * 10, memoryview(b"b" * (2 * BLOCK_OCTETS + 1)), bytearray(b"c")]

    blocks = list(blocks_of(content))

    assert [len(block) for block in blocks] == [10, BLOCK_OCTETS, BLOCK_OCTETS, 1, 1]
    assert b"".join(blocks) == b"".join(content)
    assert size_of(content) == 2 * BLOCK_OCTETS + 12
