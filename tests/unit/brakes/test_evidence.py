"""Replies as operators read them: nobody's address is in them, and the rest stays."""

from __future__ import annotations

import pytest

from delivery.brakes import evidence


@pytest.mark.parametrize(
    ("reply", "masked"),
    [
        ("550 5.1.1 <Alice.Doe@far.test>: no such user", "550 5.1.1 <***>: no such user"),
        ("550 alice.doe@far.test... User unknown", "550 *** User unknown"),
        ('550 "alice doe"@far.test unknown', "550 *** unknown"),
        ("550 alice.doe@[192.0.2.1] and bob@near.test unknown", "550 *** and *** unknown"),
        ("550 see https://far.test/?r=alice.doe%40far.test", "550 see https://far.test/?r=***"),
        ("550 rcpt=花子@例え.test 不明", "550 rcpt=*** 不明"),
        ("550 mailbox alice.doe is full; ALICE.DOE unknown", "550 mailbox *** is full; *** unknown"),
        ("550 5.1.1 no such user here (in reply to RCPT TO)", "550 5.1.1 no such user here (in reply to RCPT TO)"),
    ],
)
def test_addresses_and_the_local_part_are_masked(reply: str, masked: str) -> None:
    assert evidence.mask(reply, "alice.doe@far.test") == masked


def test_brakes_from_before_are_masked_as_they_are_read() -> None:
    sample = {
        "recipient": "r",
        "message": "m",
        "domain": "far.test",
        "class": "bad_mailbox",
        "reply": "550 <a@far.test> no",
    }

    assert evidence.without_addresses({"bad": 1, "samples": [sample]}) == {
        "bad": 1,
        "samples": [{"domain": "far.test", "class": "bad_mailbox", "reply": "550 <***> no"}],
    }
    assert evidence.without_addresses({}) == {}
