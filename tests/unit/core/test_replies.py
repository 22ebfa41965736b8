from __future__ import annotations

import re

import pytest

from delivery.core import replies
from delivery.core.replies import OwnReply, Rejection

OWN_REPLIES = {name: value for name, value in vars(replies).items() if isinstance(value, OwnReply)}


@pytest.mark.parametrize("name", OWN_REPLIES)
def test_each_reply_is_short_ascii_with_an_agreeing_status(name: str) -> None:
    reply = OWN_REPLIES[name]

    assert reply.text.isascii() and reply.text.isprintable() and 0 < len(reply.text) <= 60
    assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", reply.enhanced) or reply.code == 354
    assert reply.code == 354 or reply.enhanced[0] == str(reply.code)[0]
    assert (reply.code < 400) or reply.reason


def test_trouble_of_ours_is_never_permanent() -> None:
    for reply in OWN_REPLIES.values():
        if reply.reason in ("local_trouble", "shutting_down", "storage_short", "timeout"):
            assert reply.is_transient


def test_a_reference_is_named_at_the_end() -> None:
    assert replies.LOCAL_TROUBLE.with_reference("4f2a").line == (
        "451 4.3.0 temporary local problem, try again later (reference 4f2a)"
    )


def test_a_rejection_takes_its_reason_from_the_reply_unless_told() -> None:
    assert Rejection(replies.AUTHOR_NOT_VERIFIED, detail="b.example").reason == "author_not_verified"
    assert Rejection(replies.AUTHOR_NOT_VERIFIED, reason="lapsed").reason == "lapsed"


def test_what_a_rejection_tells_the_log_is_not_in_its_text() -> None:
    rejection = Rejection(replies.SENDING_TOO_FAST, detail="tenant 7, 500 a day")

    assert str(rejection) == "450 4.7.1 sending too fast, try again later"
