"""Subjects in the charsets of old Japanese programs: read and found in the send log, and kept to the byte in the mail."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.test import Client

from accounts.credentials import Issued
from delivery.models import Message
from tests.support.gate import RunningGate, message_of, stored_content
from tests.support.journeys import Cast

SUBJECT = "髙橋様 ①月分の領収書ﾃﾞｽ"
PLAIN = "ご請求の領収書"


def _word(charset: str, octets: bytes) -> bytes:
    return b"=?%s?B?%s?=" % (charset.encode(), base64.b64encode(octets))


def _q_word(charset: str, octets: bytes) -> bytes:
    return b"=?%s?Q?%s?=" % (charset.encode(), b"".join(b"=%02X" % octet for octet in octets))


UTF8 = SUBJECT.encode()
WRITTEN: dict[str, tuple[bytes, str]] = {
    "ISO-2022-JP words": (_word("ISO-2022-JP", PLAIN.encode("iso-2022-jp")), PLAIN),
    # ① as many programs write it, beyond the charset they name (NEC row 13).
    "ISO-2022-JP words, vendors' characters": (
        _word("ISO-2022-JP", b"\x1b$B-!7n$NNN<}=q\x1b(B"),
        "①月の領収書",
    ),
    "ISO-2022-JP as it is": (PLAIN.encode("iso-2022-jp"), PLAIN),
    "Shift_JIS words": (_q_word("Shift_JIS", SUBJECT.encode("cp932")), SUBJECT),
    "Shift_JIS as it is": (SUBJECT.encode("cp932"), SUBJECT),
    "EUC-JP words": (_word("euc-jp", PLAIN.encode("euc-jp")), PLAIN),
    "UTF-8 words that cut a character": (_word("utf-8", UTF8[:4]) + b"\r\n " + _word("utf-8", UTF8[4:]), SUBJECT),
    "UTF-8 as it is": (UTF8, SUBJECT),
}


@pytest.fixture
def find_in_log(cast: Cast) -> Callable[[str], str]:
    reader = Client(headers={"accept-language": "ja"})
    reader.force_login(cast.alice)

    def find(words: str) -> str:
        page = reader.get(f"/t/acme/messages/?subject={quote(words)}")
        assert page.status_code == 200
        return page.content.decode()

    return find


def test_subjects_of_every_charset_are_read_found_and_left_as_they_were(
    gate: RunningGate, login: Issued, cast: Cast, find_in_log: Callable[[str], str]
) -> None:
    accepted: dict[str, Message] = {}
    with gate.logged_in(login) as wire:
        for name, (octets, _shown) in WRITTEN.items():
            content = b"From: alice@acme.example\r\nSubject: " + octets + b"\r\n\r\nbody\r\n"
            wire.envelope(b"alice@acme.example", b"bob@example.com")
            said = wire.content(content)
            assert said.code == 250, (name, said.text)
            accepted[name] = message_of(said)
            assert stored_content(accepted[name]).endswith(content), name

    assert {name: message.subject for name, message in accepted.items()} == {
        name: shown for name, (_octets, shown) in WRITTEN.items()
    }
    found = find_in_log("領収書")
    assert [name for name, message in accepted.items() if str(message.pk) not in found] == []
    # Compatible characters are one: ① is found as 1, ﾃﾞｽ as デス.
    narrowed = find_in_log("1月分 デス")
    assert {name for name, message in accepted.items() if str(message.pk) in narrowed} == {
        name for name, (_octets, shown) in WRITTEN.items() if shown == SUBJECT
    }
