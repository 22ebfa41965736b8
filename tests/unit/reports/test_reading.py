from __future__ import annotations

import pytest

from delivery.core.reports import Kind
from delivery.reports.reading import find_addresses, provider_of, read_returned, read_returned_file

REPORT = (
    b"From MAILER-DAEMON Thu Apr  9 23:34:45 2015\nFrom: MAILER-DAEMON@mx.example\nSubject: Returned mail\n\n"
    b"<%s>: host mx.b.example said: 550 5.1.1 User unknown (in reply to RCPT TO command)\n"
)


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("aspmx.l.google.com", "google"),
        ("x.mail.protection.outlook.com", "office365"),
        ("docomo.ne.jp", "docomo"),
        ("DOCOMO.ne.jp.", "docomo"),
        ("notdocomo.ne.jp", ""),
        ("acme.example", ""),
        ("", ""),
    ],
)
def test_providers_are_known_by_their_hosts_and_domains(host: str, group: str) -> None:
    assert provider_of(host) == group


def test_an_mbox_is_read_mail_by_mail() -> None:
    reports = read_returned_file(REPORT % b"bob@b.example" + b"\n" + REPORT % b"carol@b.example")

    assert [row.address for report in reports for row in report.rows] == ["bob@b.example", "carol@b.example"]


def test_the_library_is_asked_for_what_we_cannot_read_and_is_never_believed() -> None:
    text = "The user(s) below are unknown to us.\n\nJOB FAILED\n"
    content = b"From: MAILER-DAEMON@mx.example\nSubject: Returned mail: undeliverable\n\n" + text.encode()

    assert not any(row.is_hard for row in read_returned(content).rows)


@pytest.mark.parametrize("text", ["", "\x00", "é" * 1000, "a@b.example " * 5000])
def test_the_library_may_stumble(text: str) -> None:
    assert list(find_addresses(text, text, text)) == list(find_addresses(text, text, text))


def test_other_mail_is_other() -> None:
    assert read_returned(b"From: bob@b.example\nSubject: Lunch\n\nAt noon?\n").kind is Kind.OTHER
