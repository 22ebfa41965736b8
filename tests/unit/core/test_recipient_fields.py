from __future__ import annotations

import pytest

from delivery.core.content import read_header_section
from delivery.core.mailbox import Mailbox
from delivery.core.recipient_fields import FeedbackId, Unsubscribe, recipient_fields, sender_id

HOW = Unsubscribe("https://relay.example/unsubscribe/abc/", Mailbox("u-abc", "bounce.relay.example"))
FEEDBACK = FeedbackId("bulk", "acme.example", "acme", "relay.example")
PLAIN = "From: shop@acme.example"


def added(*fields: str, is_signed: bool = True, **what: object) -> list[str]:
    """Names of the fields that are added above these."""
    section = read_header_section("\r\n".join([PLAIN, *fields, "", ""]).encode())
    block = recipient_fields(section, is_signed=is_signed, **what)  # type: ignore[arg-type]
    return [field.name for field in read_header_section(block + b"\r\n").fields]


def test_nothing_is_added_where_nothing_is_wanted() -> None:
    assert added() == []


def test_unsubscribing_goes_with_its_one_click_field_only_under_a_signature() -> None:
    assert added(unsubscribe=HOW) == ["List-Unsubscribe", "List-Unsubscribe-Post"]
    assert added(unsubscribe=HOW, is_signed=False) == ["List-Unsubscribe"]


@pytest.mark.parametrize(
    "own",
    [
        "LIST-UNSUBSCRIBE: <mailto:leave@acme.example>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        # The client's own signature says that there is none: adding one would break it.
        "DKIM-Signature: v=1; d=acme.example; h=From:List-Unsubscribe:\r\n\tSubject; b=x",
        "DKIM-Signature: v=1; h = from : list-unsubscribe-post ; b=x",
    ],
)
def test_what_the_client_wrote_or_sealed_stays(own: str) -> None:
    assert added(own, unsubscribe=HOW) == []


def test_a_clients_signature_that_says_nothing_of_it_is_no_hindrance() -> None:
    assert added("DKIM-Signature: v=1; bh=x; h=From:Subject; b=list-unsubscribe", unsubscribe=HOW) != []


def test_feedback_fields_are_added_beside_and_not_doubled() -> None:
    assert added(feedback_id=FEEDBACK, feedback_token="f-abc") == ["Feedback-ID", "X-Feedback-Token"]
    assert added("Feedback-ID: a:b:c:own", feedback_id=FEEDBACK) == []


def test_the_feedback_id_has_four_parts_whatever_is_in_them() -> None:
    odd = FeedbackId("a:b c", "", "x" * 100, "relay.example")

    assert odd.value == f"a-b-c:-:{'x' * 63}:relayexample"


@pytest.mark.parametrize(
    ("domain", "expected"), [("a.jp", "ajpxx"), ("feedback.relay.example", "feedbackrelayex"), ("relay.jp", "relayjp")]
)
def test_the_sender_id_has_5_to_15_characters(domain: str, expected: str) -> None:
    assert sender_id(domain) == expected
