from __future__ import annotations

from typing import Any

from sandbox.scenarios import Moment, behaviour_from
from sandbox.script import Script


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def script(*rules: dict[str, Any], clock: Clock | None = None) -> Script:
    return Script(behaviour_from("scripted", {"rules": list(rules)}), clock=clock or Clock())


def applies(script: Script, recipient: str = "a@x.test", *, peer: str = "127.0.0.1", has_tls: bool = False) -> bool:
    facts = {"peer": peer, "reverse_path": "b@y.test", "recipient": recipient}
    return script.rule_for(Moment.RCPT, facts, has_tls=has_tls) is not None


def test_a_rule_applies_the_given_number_of_times_to_each_recipient() -> None:
    twice = script({"at": "rcpt", "times": 2, "reply": "451 Later"})

    seen = [applies(twice), applies(twice), applies(twice), applies(twice, "other@x.test")]

    assert seen == [True, True, False, True]


def test_greylisting_ends_after_its_seconds_and_not_before() -> None:
    clock = Clock()
    greylist = script({"at": "rcpt", "for_s": 3, "counted_by": ["peer", "recipient"], "reply": "451 Wait"}, clock=clock)
    assert applies(greylist)

    clock.now += 2.9
    assert applies(greylist)
    clock.now += 0.2
    assert not applies(greylist)
    assert applies(greylist, peer="127.0.0.2")


def test_every_nth_occasion_can_be_chosen() -> None:
    third = script({"at": "rcpt", "every": 3, "counted_by": [], "reply": "451 Later"})

    assert [applies(third) for _ in range(6)] == [False, False, True, False, False, True]


def test_a_rule_may_be_for_some_recipients_or_for_sessions_in_the_clear() -> None:
    chosen = script({"at": "rcpt", "recipient": "no*@x.test", "without_tls": True, "reply": "550 No"})

    assert applies(chosen, "nobody@x.test")
    assert not applies(chosen, "nobody@x.test", has_tls=True)
    assert not applies(chosen, "somebody@x.test")


def test_the_next_rule_counts_once_the_first_is_used_up() -> None:
    two = script({"at": "rcpt", "times": 1, "reply": "451 One"}, {"at": "rcpt", "reply": "550 Two"})
    facts = {"peer": "", "reverse_path": "", "recipient": "a@x.test"}

    replies = [two.rule_for(Moment.RCPT, facts, has_tls=False) for _ in range(2)]

    assert [rule.reply for rule in replies if rule] == ["451 One", "550 Two"]
