"""Rules that operators add while everything runs, and the replies that no rule knew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from accounts.refusals import NotFound, Refused
from delivery import reply_rules
from delivery.core.live_rules import Draft
from delivery.models import ReplyRule, UnmatchedReply
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer

OLIVIA = Actor("olivia@relay.example", is_operator=True)
SAID = "550 the oracle is displeased with number 4711"
DRAFT = Draft(
    name="oracle",
    groups=(),
    phases=(),
    codes=(),
    enhanced=(),
    text="oracle is displeased",
    reply_class="policy",
    action="fail",
    scope="message",
    sample=f"rcpt {SAID}",
    note="seen in November",
)


def add(**changes: Any) -> ReplyRule:
    return reply_rules.add_rule(replace(DRAFT, **changes), actor=OLIVIA)


# ---------------------------------------------------------------- in a running engine


async def test_a_rule_counts_within_a_moment_and_so_does_its_end(world: World, settings: Any):
    settings.SWEEP_SECONDS = 0.1
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=[SAID]), room.engine():
        first = await room.send("a@far.test")
        assert (await room.until_state(first, "deferred")).rule == "unclassified"

        rule = await in_thread(add)
        second = await _judged_by(room, "oracle")
        assert (second.state, second.reply_class) == ("bounced", "policy")

        await room.until("SELECT bool_or(hits >= 1 AND last_hit_at IS NOT NULL) FROM delivery_replyrule")
        await in_thread(reply_rules.set_enabled, rule, False, actor=OLIVIA)
        assert (await _judged_by(room, "unclassified")).state == "deferred"


async def _judged_by(room: Room, rule: str) -> Any:
    """The engine hears of a change by a notification; until then it may judge a mail by what it knew."""
    for _attempt in range(50):
        message_id = await room.send("b@far.test")
        recipient = await room.until_state(message_id, "bounced", "deferred")
        if recipient.rule == rule:
            return recipient
    raise AssertionError(f"no mail was judged by {rule}")


async def test_replies_that_no_rule_knew_are_counted_by_what_they_say(world: World, settings: Any):
    settings.SWEEP_SECONDS = 0.1
    script = {"rcpt": ["550 <a@far.test> oracle 17 is displeased", "550 <b@far.test> oracle 4 is displeased"]}
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port, **script), room.engine():
        for local_part in "ab":
            await room.until_state(await room.send(f"{local_part}@far.test"), "deferred")
        await room.until("SELECT sum(count) >= 2 FROM delivery_unmatchedreply")

    (group,) = await in_thread(reply_rules.unmatched)
    assert (group.count, group.phase, group.text) == (2, "rcpt", "550 <address> oracle 0 is displeased")
    assert "far.test" not in group.example


# ---------------------------------------------------------------- as people change them


def names() -> list[str]:
    return [rule.name for rule in reply_rules.rules()]


def test_a_new_rule_is_asked_first_and_rules_can_be_reordered(db: None) -> None:
    add()
    add(name="second", text="displeased", sample="rcpt 550 displeased")
    third = add(name="third", codes=("571",), text="", sample="rcpt 571 no")
    assert names() == ["third", "second", "oracle"]

    reply_rules.move_rule(third, to=2, actor=OLIVIA)
    assert names() == ["second", "third", "oracle"]
    reply_rules.move_rule(third, to=99, actor=OLIVIA)
    assert names() == ["second", "oracle", "third"]
    reply_rules.move_rule(third, to=0, actor=OLIVIA)
    assert names() == ["third", "second", "oracle"]
    moved = AuditEntry.objects.filter(action="reply_rule.move").latest("id")
    assert (moved.before, moved.after) == ({"place": 3}, {"place": 1})


def test_a_removed_rule_can_be_restored_for_a_while(db: None) -> None:
    rule = add()
    reply_rules.remove_rule(rule, actor=OLIVIA)
    assert names() == []
    assert reply_rules.in_force().rules == ()
    with pytest.raises(NotFound):
        reply_rules.remove_rule(rule, actor=OLIVIA)

    reply_rules.restore_rule(reply_rules.find_rule("oracle", is_removed=True), actor=OLIVIA)
    assert names() == ["oracle"]

    reply_rules.remove_rule(rule, actor=OLIVIA)
    ReplyRule.objects.update(removed_at=timezone.now() - timedelta(days=31))
    with pytest.raises(Refused):
        reply_rules.restore_rule(rule, actor=OLIVIA)
    assert reply_rules.forget_old() == 1


def test_every_change_is_in_the_audit_log(db: None) -> None:
    rule = add()
    reply_rules.change_rule(rule, replace(DRAFT, action="retry"), actor=OLIVIA)
    reply_rules.set_enabled(rule, False, actor=OLIVIA)
    reply_rules.set_enabled(rule, False, actor=OLIVIA)
    reply_rules.set_enabled(rule, True, actor=OLIVIA)
    reply_rules.remove_rule(rule, actor=OLIVIA)

    entries = list(AuditEntry.objects.filter(action__startswith="reply_rule.").order_by("id"))
    assert [entry.action.partition(".")[2] for entry in entries] == ["add", "change", "disable", "enable", "remove"]
    assert (entries[1].before, entries[1].after) == ({"action": "fail"}, {"action": "retry"})
    assert entries[0].actor_name == "olivia@relay.example"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text": "("}, "text"), ({"name": "google-ip-reputation"}, "name"), ({"sample": "rcpt 550 nothing"}, "sample"),
        ({"codes": ("999",)}, "codes"), ({"scope": "x"}, "scope"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_used_is_refused_at_its_field(db: None, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        add(**changes)

    assert refused.value.field == field
    assert not ReplyRule.objects.exists()


def test_a_name_is_given_once(db: None) -> None:
    add()

    with pytest.raises(Refused) as refused:
        add()

    assert refused.value.field in {"name", "sample"}


def test_a_group_is_ignored_with_a_reason_and_heeded_again(db: None) -> None:
    group = UnmatchedReply.objects.create(key=b"k" * 16, phase="eod", text="550 hm", example="550 hm", count=3)
    with pytest.raises(Refused):
        reply_rules.ignore_unmatched(group, reason=" ", actor=OLIVIA)

    reply_rules.ignore_unmatched(group, reason="one host, mended", actor=OLIVIA)
    assert reply_rules.unmatched() == []
    assert len(reply_rules.unmatched(with_ignored=True)) == 1

    reply_rules.heed_unmatched(group, actor=OLIVIA)
    assert reply_rules.unmatched() == [group]


def test_a_rule_made_from_a_group_takes_it_off_the_list(db: None) -> None:
    group = UnmatchedReply.objects.create(key=b"k" * 16, phase="rcpt", text="550 hm", example="550 hm", count=3)

    reply_rules.add_rule(DRAFT, actor=OLIVIA, unmatched=group)

    assert reply_rules.unmatched() == []
