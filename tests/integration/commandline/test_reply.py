from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from delivery.models import ReplyRule, UnmatchedReply

Relay = Callable[..., Any]
RULE = (
    "--text", "oracle is displeased", "--class", "policy", "--action", "fail", "--scope", "message",
    "--sample", "rcpt 550 the oracle is displeased", "--json",
)  # fmt: skip


@pytest.fixture
def oracle(db: None, relay: Relay) -> dict[str, Any]:
    added = relay("reply", "rule", "add", "oracle", *RULE)
    assert added.code == 0, added.err
    return added.document  # type: ignore[no-any-return]


def test_a_rule_is_added_and_asked(oracle: dict[str, Any], relay: Relay) -> None:
    asked = ("reply", "classify", "--phase", "rcpt", "550 The ORACLE is displeased", "--json")

    assert (oracle["place"], oracle["decides_instead_of"]) == (1, [])
    assert relay(*asked, "--live").document == {
        "class": "policy", "action": "fail", "scope": "message", "rule": "oracle",
    }  # fmt: skip
    assert relay(*asked).document["rule"] == "unclassified"


def test_rules_are_listed_moved_switched_removed_and_restored(oracle: dict[str, Any], relay: Relay) -> None:
    relay(
        "reply",
        "rule",
        "add",
        "second",
        *RULE[:2],
        *RULE[2:8],
        "--code",
        "571",
        "--sample",
        "eod 571 oracle is displeased",
    )

    def names() -> list[str]:
        return [row["name"] for row in relay("reply", "rule", "list", "--json").document]

    assert names() == ["second", "oracle"]
    assert relay("reply", "rule", "move", "second", "--to", "2", "--json").document["place"] == 2
    assert relay("reply", "rule", "disable", "oracle", "--json").document["changed"]
    assert relay("reply", "rule", "show", "oracle", "--json").document["enabled"] is False
    assert relay("reply", "rule", "enable", "oracle", "--json").document["changed"]
    assert relay("reply", "rule", "remove", "oracle").code == 0
    assert names() == ["second"]
    assert [row["name"] for row in relay("reply", "rule", "list", "--removed", "--json").document] == ["oracle"]
    assert relay("reply", "rule", "restore", "oracle").code == 0
    assert names() == ["oracle", "second"]


def test_a_bad_rule_is_refused_with_a_sentence(db: None, relay: Relay) -> None:
    refused = relay("reply", "rule", "add", "oracle", "--text", "(", *RULE[2:])

    assert refused.code == 1
    assert refused.document["error"] == "rule_pattern"
    assert not ReplyRule.objects.exists()


def test_unmatched_replies_are_listed_ignored_and_made_into_a_rule(db: None, relay: Relay) -> None:
    group = UnmatchedReply.objects.create(key=b"k" * 16, phase="rcpt", text="550 hm", example="550 hm", count=3)

    (row,) = relay("reply", "unmatched", "list", "--json").document
    assert (row["id"], row["count"], row["text"]) == (group.pk, 3, "550 hm")

    relay("reply", "unmatched", "ignore", str(group.pk), "--reason", "one host")
    assert relay("reply", "unmatched", "list", "--json").document == []
    assert len(relay("reply", "unmatched", "list", "--ignored", "--json").document) == 1

    relay("reply", "unmatched", "heed", str(group.pk))
    relay("reply", "rule", "add", "oracle", *RULE, "--unmatched", str(group.pk))
    assert not UnmatchedReply.objects.exists()
