"""Reports of ours, read by our own reader and by the standard library: whatever strangers said, they keep their form."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email import policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.compose import Named
from delivery.core.content import check_lines, read_header_section
from delivery.core.dsn import DsnAction
from delivery.core.dsn_writing import MOST_RETURNED_OCTETS, Notification, Told, write_notification
from delivery.core.mailbox import Mailbox
from delivery.core.reports import Kind, read_report

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
CONTENT = b"From: shop@acme.example\r\nSubject: hello\r\n\r\nhello\r\n"
BOB = Told("bob@far.test", DsnAction.FAILED, "5.1.1", diagnostic="550 5.1.1 no such user", remote_host="mx.far.test")


def written(*told: Told, returned: bytes | None = CONTENT, **more: object) -> bytes:
    values: dict[str, object] = {
        "author": Named(Mailbox("mailer-daemon", "acme.example"), "Mail Delivery System"),
        "to": Mailbox("shop", "acme.example"),
        "subject": "配信できませんでした",
        "text": "bob@far.test\n",
        "told": told or (BOB,),
        "reporting_host": "relay.test",
        "arrived_at": NOW,
        "boundary": "report-0123456789abcdef",
        "returned": returned,
        **more,
    }
    return write_notification(Notification(**values))  # type: ignore[arg-type]


def types(content: bytes) -> list[str]:
    return [part.get_content_type() for part in email.message_from_bytes(content, policy=policy.default).iter_parts()]


def test_it_has_the_three_parts_of_a_report() -> None:
    assert types(written()) == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    assert types(written(returns_all=True)) == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert types(written(returned=None)) == ["text/plain", "message/delivery-status"]


def test_our_own_reader_finds_what_was_told() -> None:
    eve = Told("eve@far.test", DsnAction.FAILED, "4.4.7")

    report = read_report(written(BOB, eve))

    assert {(row.address, row.kind, row.status) for row in report.rows} == {
        ("bob@far.test", Kind.BOUNCE, "5.1.1"),
        ("eve@far.test", Kind.BOUNCE, "4.4.7"),
    }
    assert report.reporting_host == "relay.test"


def test_a_large_mail_comes_back_as_its_header_section() -> None:
    large = CONTENT + b"x" * 70 + b"\r\n" * (MOST_RETURNED_OCTETS // 2)

    content = written(returned=large, returns_all=True)

    assert types(content)[2] == "text/rfc822-headers"
    assert len(content) < 2000


@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        (DsnAction.FAILED, "", "5.0.0"),
        (DsnAction.FAILED, "2.0.0", "5.0.0"),
        (DsnAction.FAILED, "4.4.7", "4.4.7"),
        (DsnAction.DELAYED, "5.7.1", "4.7.1"),
        (DsnAction.DELAYED, "", "4.0.0"),
        (DsnAction.RELAYED, "2.6.0", "2.6.0"),
        (DsnAction.RELAYED, "x", "2.0.0"),
    ],
)
def test_the_status_fits_the_action(action: DsnAction, status: str, expected: str) -> None:
    assert Told("a@b.test", action, status).field_status == expected


def test_addresses_outside_ascii_are_written_in_ascii() -> None:
    content = written(Told("アリス@far.test", DsnAction.FAILED, "5.1.1"))

    assert "Final-Recipient: utf-8; \\x{30A2}\\x{30EA}\\x{30B9}@far.test" in content.decode()


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=100), st.booleans())
def test_nothing_a_stranger_said_gets_out_of_its_place(said: str, host: str, envid: str, full: bool) -> None:
    told = Told("bob@far.test", DsnAction.FAILED, said, original=f"rfc822;{said}", diagnostic=said, remote_host=host)

    content = written(
        told, subject=said.encode("utf-8", "replace").decode(), text=said.encode("utf-8", "replace").decode(),
        envelope_id=envid, references=envid, returns_all=full,
    )  # fmt: skip

    check_lines(content)
    names = [field.name for field in read_header_section(content).fields]
    assert set(names) <= {
        "From", "To", "Subject", "Auto-Submitted", "References", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    assert len(types(content)) == 3
    assert [row.address for row in read_report(content).rows] == ["bob@far.test"]


def test_eight_bit_mail_is_returned_as_it_is_and_said_to_be() -> None:
    content = written(returned="Subject: ご請求書\r\n\r\nこんにちは\r\n".encode(), returns_all=True)

    assert read_header_section(content).first_value("content-transfer-encoding") == b"8bit"
    assert "こんにちは".encode() in content
