"""Every refusal of the lists is understood in the report that a program writes about it."""

from __future__ import annotations

import pytest

from delivery.reports.reading import read_returned
from tests.unit.core.wordings import COUNTS_AS, Wording, read_wordings

LISTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")
WORDINGS = [wording for name in LISTS for wording in read_wordings(name)]


@pytest.mark.parametrize("wording", WORDINGS, ids=[f"{one.form} {one.text[:60]}" for one in WORDINGS])
def test_a_refusal_is_understood(wording: Wording) -> None:
    rows = read_returned(wording.report).rows

    assert [(row.address, row.kind.value) for row in rows] == [(wording.recipient, "bounce")]
    assert COUNTS_AS.get(rows[0].class_word, rows[0].class_word) == wording.class_word
    assert wording.is_dead or not rows[0].is_hard


def test_most_dead_mailboxes_are_called_dead() -> None:
    dead = [wording for wording in WORDINGS if wording.class_word == "bad_mailbox"]

    called = [wording for wording in dead if read_returned(wording.report).rows[0].is_hard]

    assert len(called) >= 0.7 * len(dead)
