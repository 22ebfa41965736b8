from __future__ import annotations

import json

from delivery.transport.transcript import MAX_ENTRIES, MAX_OCTETS, Transcript


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_entries_have_milliseconds_direction_and_text():
    clock = Clock()
    transcript = Transcript(clock=clock)

    transcript.note("connecting")
    clock.now += 0.013
    transcript.received([b"220-hello", b"220 there"])
    clock.now += 1
    transcript.sent(b"EHLO me.test")
    transcript.content_sent(4096)

    assert transcript.to_json() == [
        [0, "*", "connecting"],
        [13, "<", "220-hello\n220 there"],
        [1013, ">", "EHLO me.test"],
        [1013, ">", "(content, 4,096 octets)"],
    ]


def test_a_long_reply_is_cut_and_says_so():
    transcript = Transcript()

    transcript.received([b"250 " + b"x" * 10_000])

    [[_, _, text]] = transcript.to_json()
    assert text.startswith("250 xxx")
    assert text.endswith("… (10,004 octets)")
    assert len(text) < 2100


def test_the_number_of_entries_is_bounded():
    transcript = Transcript()

    for number in range(1000):
        transcript.sent(b"NOOP %d" % number)

    entries = transcript.to_json()
    assert len(entries) == MAX_ENTRIES
    assert entries[-1][1:] == ["*", "(the rest is not kept)"]


def test_the_size_is_bounded():
    transcript = Transcript()

    for _ in range(150):
        transcript.received([b"250 " + b"y" * 1500])

    assert len(json.dumps(transcript.to_json())) < MAX_OCTETS + 2000


def test_what_cannot_be_stored_or_shown_is_replaced():
    transcript = Transcript()

    transcript.received([b"550 a\x00b\x1b[31m \xff\xfe ok \xe2\x80\xae", "550 日本語".encode()])

    [[_, _, text]] = transcript.to_json()
    assert text == "550 a�b�[31m �� ok �\n550 日本語"
