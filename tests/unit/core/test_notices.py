from __future__ import annotations

import pytest

from delivery.core.content import read_header_section
from delivery.core.mailbox import Mailbox
from delivery.core.notices import DEFAULT, Notice, is_automatic, notices_of

SHOP = Mailbox("shop", "acme.example")


@pytest.mark.parametrize(
    ("notify", "keeps", "expected"),
    [
        (None, False, Notice.NONE),
        (None, True, DEFAULT),
        (["NEVER"], True, Notice.NONE),
        (["FAILURE"], False, Notice.FAILURE),
        (["DELAY", "SUCCESS"], False, Notice.DELAY | Notice.SUCCESS),
        (["SUCCESS"], True, Notice.SUCCESS),
    ],
)
def test_what_was_asked_counts_and_else_who_manages_bounces(
    notify: list[str] | None, keeps: bool, expected: Notice
) -> None:
    assert notices_of(reverse_path=SHOP, notify=notify, keeps_reverse_path=keeps, is_automatic=False) == expected


def test_nobody_is_told_at_the_null_reverse_path_or_of_what_programs_wrote() -> None:
    asked = ["SUCCESS", "FAILURE", "DELAY"]

    assert not notices_of(reverse_path=None, notify=asked, keeps_reverse_path=True, is_automatic=False)
    assert not notices_of(reverse_path=SHOP, notify=asked, keeps_reverse_path=True, is_automatic=True)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Auto-Submitted: auto-generated", True),
        (b"AUTO-SUBMITTED: Auto-Replied; x=y", True),
        (b"Auto-Submitted: auto-notified(sieve)", True),
        (b"Auto-Submitted: no", False),
        (b"Auto-Submitted: No (a person)", False),
        (b"Precedence: bulk", True),
        (b"Precedence: LIST", True),
        (b"Precedence: junk", True),
        (b"Precedence: first-class", False),
        (b"Precedence:", False),
        (b"List-Id: news", True),
        (b"List-Unsubscribe: <https://acme.example>", False),
        (b"Subject: Auto-Submitted: auto-replied", False),
    ],
)
def test_what_programs_wrote_is_known_by_its_fields(field: bytes, expected: bool) -> None:
    section = read_header_section(b"From: a@b.test\r\n" + field + b"\r\n\r\n")

    assert is_automatic(section) is expected
