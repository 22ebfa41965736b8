"""The one log stream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from relayweb.processes.stream import LogStream, Output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass


def lines(reader: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in os.read(reader, 65_536).decode().splitlines()]


def test_it_adds_the_part_to_what_a_part_logs(pipe: tuple[int, int]) -> None:
    stream = LogStream(log=pipe[1])

    stream.pass_on("gate-1", '{"event": "accepted", "level": "info", "timestamp": "t", "message_id": "m"}')

    assert lines(pipe[0]) == [
        {"timestamp": "t", "level": "info", "part": "gate-1", "event": "accepted", "message_id": "m"}
    ]


@pytest.mark.parametrize("said", ["Traceback (most recent call last):", '{"no": "event"}', "{broken", "42"])
def test_it_wraps_what_is_no_event(pipe: tuple[int, int], said: str) -> None:
    stream = LogStream(log=pipe[1])

    stream.pass_on("web", said)

    (line,) = lines(pipe[0])
    assert (line["part"], line["event"]) == ("web", said)


def test_it_leaves_out_what_is_below_the_level(pipe: tuple[int, int]) -> None:
    stream = LogStream(log=pipe[1], level="WARNING")

    stream.say("started")
    stream.say("trouble", level="warning")

    assert [line["event"] for line in lines(pipe[0])] == ["trouble"]


def test_it_never_waits_for_a_reader(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])

    for _ in range(100_000):
        output.write_line("x" * 100)

    assert output.has_more
    assert output.dropped > 0


def test_it_goes_on_when_the_reader_has_gone(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    os.close(pipe[0])

    output.write_line("nobody hears this")
    output.write_line("nor this")

    assert not output.has_more


def test_announcements_cannot_move_the_cursor(pipe: tuple[int, int]) -> None:
    stream = LogStream(announcements=pipe[1])

    stream.announce("sign in as \x1b[2Jalice\nor bob")

    assert os.read(pipe[0], 1000) == b"sign in as \\x1b[2Jalice\nor bob\n"
