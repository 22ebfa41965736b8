from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.dsn import MAX_RECIPIENTS, DsnAction, read_address, read_delivery_status, read_status

WELL_FORMED = """Reporting-MTA: dns; mx.example.test
Original-Envelope-Id: m-1

Final-Recipient: rfc822; bob@acme.example
Original-Recipient: rfc822;robert@acme.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; in.acme.example
Diagnostic-Code: smtp; 550 5.1.1 <bob@acme.example>:
    User unknown
"""


def test_a_well_formed_report_is_read_with_every_field() -> None:
    status = read_delivery_status(WELL_FORMED)

    assert (status.reporting_host, status.envelope_id) == ("mx.example.test", "m-1")
    (bob,) = status.recipients
    assert (bob.address, bob.original) == ("bob@acme.example", "robert@acme.example")
    assert (bob.action, bob.status, bob.remote_host) == (DsnAction.FAILED, "5.1.1", "in.acme.example")
    assert bob.diagnostic == "550 5.1.1 <bob@acme.example>: User unknown"


@pytest.mark.parametrize(
    "text",
    [
        WELL_FORMED.replace("\n\n", "\n"),
        WELL_FORMED.replace("\n", "\n\n").replace("\n\n    User", "\n    User"),
        WELL_FORMED.replace("rfc822; bob@acme.example", "<bob@acme.example>"),
        WELL_FORMED.replace("rfc822; bob", "RFC822;bob"),
        WELL_FORMED.replace(
            "Final-Recipient: rfc822; bob@acme.example\n", "X-Actual-Recipient: rfc822; bob@acme.example\n"
        ),
        WELL_FORMED.replace("Final-Recipient", "final-recipient"),
        WELL_FORMED.replace("Diagnostic-Code: smtp; ", "Diagnostic-Code: "),
        WELL_FORMED.replace("    User unknown", "User unknown"),
        "\n".join(f"> {line}" for line in WELL_FORMED.splitlines()),
        "Dear sender, this is what happened:\n\n" + WELL_FORMED + "\nYours, the mail system\n",
    ],
)
def test_defects_do_not_hide_the_recipient(text: str) -> None:
    (bob,) = read_delivery_status(text).recipients

    assert (bob.address, bob.action, bob.status) == ("bob@acme.example", DsnAction.FAILED, "5.1.1")
    assert bob.diagnostic.startswith("550 5.1.1")


def test_several_recipients_are_told_apart_without_blank_lines() -> None:
    text = (
        "Final-Recipient: rfc822; a@acme.example\nAction: failed\nStatus: 5.1.1\n"
        "Final-Recipient: rfc822; b@acme.example\nAction: delayed\nStatus: 4.2.2\n"
    )

    first, second = read_delivery_status(text).recipients

    assert (first.address, first.action) == ("a@acme.example", DsnAction.FAILED)
    assert (second.address, second.action) == ("b@acme.example", DsnAction.DELAYED)


def test_fields_may_come_in_any_order() -> None:
    text = (
        "Diagnostic-Code: smtp; 550 no\nStatus: 5.1.1\nFinal-Recipient: rfc822; a@acme.example\nAction: failed\n\n"
        "Diagnostic-Code: smtp; 552 full\nStatus: 5.2.2\nFinal-Recipient: rfc822; b@acme.example\nAction: failed\n"
    )

    first, second = read_delivery_status(text).recipients

    assert (first.address, first.diagnostic) == ("a@acme.example", "550 no")
    assert (second.address, second.diagnostic) == ("b@acme.example", "552 full")


@pytest.mark.parametrize(
    ("word", "action"),
    [
        ("failed", DsnAction.FAILED),
        ("Failed (permanent)", DsnAction.FAILED),
        ("delayed", DsnAction.DELAYED),
        ("relayed", DsnAction.RELAYED),
        ("deliverable", DsnAction.DELIVERED),
        ("expanded", DsnAction.EXPANDED),
        ("whatever", None),
    ],
)
def test_actions_are_told_apart(word: str, action: DsnAction | None) -> None:
    (one,) = read_delivery_status(f"Final-Recipient: rfc822; a@acme.example\nAction: {word}\n").recipients

    assert one.action is action


def test_the_comment_of_the_status_stands_in_for_a_missing_diagnostic() -> None:
    text = "Final-Recipient: rfc822; a@acme.example\nAction: failed\nStatus: 4.2.2 (Over quota)\n"

    (one,) = read_delivery_status(text).recipients

    assert (one.status, one.diagnostic) == ("4.2.2", "Over quota")


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822; Bob@ACME.example", "Bob@acme.example"),
        ("rfc822;<bob@acme.example>", "bob@acme.example"),
        ("RFC822; bob..b.@docomo.ne.jp", "bob..b.@docomo.ne.jp"),
        ("rfc822; =?utf-8?B?44GC?=@acme.example", "=?utf-8?B?44GC?=@acme.example"),
        ("rfc822; bob", ""),
        ("", ""),
    ],
)
def test_an_address_is_taken_out_of_its_field(value: str, address: str) -> None:
    assert read_address(value) == address


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.1.1", "5.1.1"),
        ("550 5.01.001 x", "5.1.1"),
        ("10.5.1.1", ""),
        ("192.0.2.5", ""),
        ("2.1.5 ok", "2.1.5"),
        ("", ""),
    ],
)
def test_a_status_is_no_part_of_an_ip_address(text: str, status: str) -> None:
    assert read_status(text) == status


def test_an_endless_report_has_a_bounded_number_of_recipients() -> None:
    text = "".join(f"Final-Recipient: rfc822; a{number}@acme.example\n" for number in range(50_000))

    assert len(read_delivery_status(text).recipients) == MAX_RECIPIENTS


@given(st.text() | st.lists(st.sampled_from([*WELL_FORMED.splitlines(), "", " ", ":", "x: y", ">"])).map("\n".join))
def test_nothing_makes_it_raise(text: str) -> None:
    read_delivery_status(text)
    read_address(text)
