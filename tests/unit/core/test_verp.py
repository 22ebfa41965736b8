from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from accounts.identifiers import uuid7
from delivery.core.mailbox import Mailbox, parse_mailbox
from delivery.core.verp import BounceTag, make_bounce_mailbox, read_bounce_mailbox

KEY, OLD_KEY = b"k" * 32, b"o" * 32
EXPIRES = date(2026, 12, 8)


def test_a_tag_names_its_recipient_and_its_last_day() -> None:
    recipient_id = uuid7()

    mailbox = make_bounce_mailbox(recipient_id, "bounce.acme.example", key=KEY, expires_on=EXPIRES)

    assert read_bounce_mailbox(mailbox, keys=[KEY]) == BounceTag(recipient_id, EXPIRES)
    assert len(mailbox.local_part) <= 64
    assert parse_mailbox(mailbox.quoted) == mailbox


def test_a_tag_survives_hosts_that_change_its_case() -> None:
    mailbox = make_bounce_mailbox(uuid7(), "bounce.acme.example", key=KEY, expires_on=EXPIRES)

    shouted = Mailbox(mailbox.local_part.upper(), mailbox.domain)

    assert read_bounce_mailbox(shouted, keys=[KEY]) == read_bounce_mailbox(mailbox, keys=[KEY])


def test_a_tag_made_with_a_former_key_is_read_while_that_key_is_kept() -> None:
    mailbox = make_bounce_mailbox(uuid7(), "bounce.acme.example", key=OLD_KEY, expires_on=EXPIRES)

    assert read_bounce_mailbox(mailbox, keys=[KEY, OLD_KEY]) is not None
    assert read_bounce_mailbox(mailbox, keys=[KEY]) is None


def test_no_character_of_a_tag_can_be_changed() -> None:
    mailbox = make_bounce_mailbox(uuid7(), "bounce.acme.example", key=KEY, expires_on=EXPIRES)
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"

    for index in range(2, len(mailbox.local_part)):
        following = alphabet[(alphabet.index(mailbox.local_part[index]) + 1) % 32]
        forged = mailbox.local_part[:index] + following + mailbox.local_part[index + 1 :]
        assert read_bounce_mailbox(Mailbox(forged, mailbox.domain), keys=[KEY]) is None


@given(st.text(max_size=64))
def test_foreign_local_parts_are_nobody(local_part: str) -> None:
    assert read_bounce_mailbox(Mailbox(local_part, "bounce.acme.example"), keys=[KEY]) is None
    assert read_bounce_mailbox(Mailbox("b-" + local_part, "bounce.acme.example"), keys=[KEY]) is None
