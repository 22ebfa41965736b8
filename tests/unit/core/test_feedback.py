from __future__ import annotations

import base64
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.feedback import find_bounce_mailboxes, read_feedback
from delivery.core.mime import read_mail
from delivery.core.reports import Kind, read_report
from delivery.core.verp import make_bounce_mailbox, read_bounce_mailbox

KEY = b"k" * 32
RECIPIENT = UUID("01890000-0000-7000-8000-000000000001")
BOUNCE_MAILBOX = make_bounce_mailbox(RECIPIENT, "bounce.relay.example", key=KEY, expires_on=date(2030, 1, 1))


def report(fields: str, enclosed: str = "To: undisclosed\nSubject: x\n\nx\n") -> bytes:
    return (
        "From: fbl@provider.example\nSubject: FW: x\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\n\n'
        f"--b\nContent-Type: text/plain\n\nThis is a complaint.\n--b\nContent-Type: message/feedback-report\n\n{fields}\n"
        f"--b\nContent-Type: message/rfc822\n\n{enclosed}\n--b--\n"
    ).encode()


@pytest.mark.parametrize(
    ("fields", "feedback_type"),
    [
        ("Feedback-Type: abuse\nVersion: 1\n", "abuse"),
        ("Version: 1\nFeedback-Type: Fraud\n", "fraud"),
        ("Feedback-Type: opt-out\n", "opt-out"),
        ("Feedback-Type:auth-failure\n", "auth-failure"),
        ("feedback-type: not-spam\n", "not-spam"),
        ("Version: 1\n", "abuse"),
        ("", "abuse"),
    ],
)
def test_the_type_of_a_complaint_is_read(fields: str, feedback_type: str) -> None:
    found = read_report(report(fields))

    assert found.kind is Kind.COMPLAINT
    assert [row.feedback_type for row in found.rows] == [feedback_type]


def test_recipients_come_from_the_report_before_the_enclosed_mail() -> None:
    fields = "Feedback-Type: abuse\nOriginal-Rcpt-To: <bob@acme.example>\nOriginal-Rcpt-To: carol@acme.example\n"

    found = read_feedback(read_mail(report(fields, "To: dave@acme.example\n\nx")))

    assert found is not None
    assert found.recipients == ("bob@acme.example", "carol@acme.example")


def test_a_redacted_recipient_leaves_one_row_without_an_address() -> None:
    found = read_report(report("Feedback-Type: abuse\n", "To: <Undisclosed Recipients>\n\nx"))

    assert [(row.address, row.class_word, row.is_hard) for row in found.rows] == [("", "complaint", False)]


def test_a_complaint_without_a_feedback_report_is_known_by_its_subject_and_the_enclosed_mail() -> None:
    content = (
        b"From: staff@provider.example\nSubject: complaint about message from 192.0.2.1\n"
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n"
        b"X-HmXmrOriginalRecipient: bob@acme.example\nTo: x@acme.example\nSubject: y\n\nz\n--b--\n"
    )

    found = read_report(content)

    assert [(row.kind, row.address, row.feedback_type) for row in found.rows] == [
        (Kind.COMPLAINT, "bob@acme.example", "abuse")
    ]


def test_the_fields_may_stand_in_plain_text() -> None:
    content = (
        b"From: fbl@provider.example\nSubject: x\nContent-Type: text/plain\n\n"
        b"Feedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\nOriginal-Rcpt-To: bob@acme.example\n"
    )

    assert read_report(content).kind is Kind.COMPLAINT


@pytest.mark.parametrize(
    "enclosed",
    [
        f"Return-Path: <{BOUNCE_MAILBOX.address}>\nTo: redacted\n\nx",
        f"To: redacted\nX-Envelope-From: {BOUNCE_MAILBOX.address.upper()}\n\nx",
        f"Received: from x by y\n\tfor z; (envelope-from\n\t<{BOUNCE_MAILBOX.address}>)\n\nx",
        f"To: redacted\n\nReported: {BOUNCE_MAILBOX.address}\n",
        "Content-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(f"Return-Path: <{BOUNCE_MAILBOX.address}>".encode()).decode(),
    ],
)
def test_our_own_bounce_mailbox_is_found_anywhere(enclosed: str) -> None:
    found = read_report(report("Feedback-Type: abuse\n", enclosed))

    tags = [read_bounce_mailbox(mailbox, keys=[KEY]) for mailbox in found.bounce_mailboxes]
    assert [tag.recipient_id for tag in tags if tag] == [RECIPIENT]


def test_a_forged_bounce_mailbox_is_a_candidate_that_no_key_has_signed() -> None:
    forged = "b-" + "a" * 48 + "@bounce.relay.example"

    found = find_bounce_mailboxes(forged.encode(), read_mail(forged.encode()))

    assert [mailbox.address for mailbox in found] == [forged]
    assert read_bounce_mailbox(found[0], keys=[KEY]) is None


@given(st.binary())
def test_nothing_makes_it_raise(fields: bytes) -> None:
    content = report("@@").replace(b"@@", fields)

    read_feedback(read_mail(content))
    find_bounce_mailboxes(content, read_mail(content))
