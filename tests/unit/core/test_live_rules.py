from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from delivery.core.classification import Action, classify
from delivery.core.live_rules import (
    NO_LIVE_RULES,
    Draft,
    LiveRules,
    RuleFault,
    changed_samples,
    check_sample,
    compile_rule,
    grouped_text,
    read_sample,
    without_addresses,
)
from delivery.core.outcome import judge
from delivery.core.reply import Origin, Phase, made_up
from delivery.core.retry import DEFAULT_SCHEDULE
from delivery.core.states import RecipientState

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
DRAFT = Draft(
    name="acme-quota",
    groups=(),
    phases=("eod",),
    codes=("55",),
    enhanced=(),
    text="acme quota (?:used|spent)",
    reply_class="mailbox_full",
    action="fail_and_count",
    scope="recipient",
    sample="eod 552 5.2.2 ACME quota used",
)
SAID = read_sample(DRAFT.sample)


def rules(*drafts: Draft) -> LiveRules:
    return LiveRules(tuple(compile_rule(draft) for draft in drafts))


def test_a_live_rule_decides_before_ours() -> None:
    decided = rules(DRAFT).classify(SAID, "google")

    assert (decided.rule, decided.reply_class, decided.action) == ("acme-quota", "mailbox_full", "fail_and_count")
    assert classify(SAID, "google").rule != "acme-quota"


def test_the_first_of_several_that_fit_decides() -> None:
    other = replace(DRAFT, name="other", reply_class="policy")

    assert rules(other, DRAFT).classify(SAID, "").rule == "other"
    assert rules(DRAFT, other).classify(SAID, "").rule == "acme-quota"


@pytest.mark.parametrize(
    "narrower",
    [
        {"groups": ("docomo",)}, {"phases": ("rcpt",)}, {"codes": ("450",)}, {"enhanced": ("5.7.*",)},
        {"text": "nothing of the kind"}, {"enhanced": ("none",)},
    ],
)  # fmt: skip
def test_every_part_of_a_rule_must_fit(narrower: dict[str, object]) -> None:
    assert rules(replace(DRAFT, **narrower)).classify(SAID, "google") == classify(SAID, "google")  # type: ignore[arg-type]


def test_a_transient_reply_never_fails_whatever_a_rule_says() -> None:
    broad = replace(DRAFT, codes=("4", "5"), action="fail_and_suppress")
    reply = read_sample("eod 452 4.2.2 ACME quota used")

    outcome = judge(
        reply, provider_group="", attempts=1, accepted_at=NOW, schedule=DEFAULT_SCHEDULE, now=NOW, rules=rules(broad)
    )

    assert outcome.state is RecipientState.DEFERRED
    assert outcome.classification is not None
    assert outcome.classification.action is Action.RETRY


def test_judge_follows_a_live_rule() -> None:
    asked = {"provider_group": "", "attempts": 1, "accepted_at": NOW, "schedule": DEFAULT_SCHEDULE, "now": NOW}
    reply = read_sample("eod 550 gibberish of a new kind")
    rule = replace(DRAFT, codes=(), text="gibberish of a new kind")

    assert judge(reply, **asked).state is RecipientState.DEFERRED  # type: ignore[arg-type]
    assert judge(reply, **asked, rules=rules(rule)).state is RecipientState.BOUNCED  # type: ignore[arg-type]


def test_what_the_network_says_is_not_asked_about() -> None:
    own = made_up(Phase.EOD, 552, "5.2.2", "acme quota used", Origin.OWN)

    assert rules(DRAFT).classify(own, "").rule != "acme-quota"


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"name": "No Name"}, "name", "malformed"),
        ({"name": "google-ip-reputation"}, "name", "taken"),
        ({"name": "add"}, "name", "taken"),
        ({"codes": ("250",)}, "codes", "malformed"),
        ({"codes": ("5500",)}, "codes", "malformed"),
        ({"enhanced": ("5.1",)}, "enhanced", "malformed"),
        ({"phases": ("lunch",)}, "phases", "phase"),
        ({"reply_class": "nonsense"}, "reply_class", "malformed"),
        ({"action": "explode"}, "action", "malformed"),
        ({"scope": "world"}, "scope", "malformed"),
        ({"text": "("}, "text", "pattern"),
        ({"text": "(?=look)"}, "text", "pattern"),
        ({"text": r"(a)\1"}, "text", "pattern"),
        ({"text": ".*"}, "text", "fits_everything"),
        ({"codes": (), "text": ""}, "text", "fits_everything"),
        ({"text": "a" * 301}, "text", "too_long"),
        ({"text": "(?:(?:a{1,30}){1,30}){1,1}b"}, "text", "too_costly"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_the_part_at_fault(changes: dict[str, object], field: str, reason: str) -> None:
    with pytest.raises(RuleFault) as raised:
        compile_rule(replace(DRAFT, **changes))  # type: ignore[arg-type]

    assert (raised.value.field, raised.value.reason) == (field, reason)


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$b", r"(a|aa)+c", r"(.*a){12}z", r"([a-z]+)*\d+x", r"(?:.*.*.*.*x){9}", r"(a?){25}a{25}b"]
)
def test_a_hostile_pattern_stalls_nobody(pattern: str) -> None:
    asked = rules(replace(DRAFT, codes=(), text=pattern))
    reply = made_up(Phase.EOD, 550, None, "a" * 2000, Origin.PEER)

    started = time.process_time()
    asked.classify(reply, "")

    assert time.process_time() - started < 0.1


def test_a_sample_must_be_decided_by_its_own_rule() -> None:
    def fault(sample: str, *before: Draft) -> tuple[str, str]:
        rule = compile_rule(replace(DRAFT, sample=sample))
        with pytest.raises(RuleFault) as raised:
            check_sample(LiveRules((*rules(*before).rules, rule)), rule)
        return raised.value.reason, raised.value.detail

    assert fault("eod 550 something else") == ("does_not_fit", "")
    assert fault("no reply") == ("malformed", "")
    assert fault(DRAFT.sample, replace(DRAFT, name="other")) == ("decided_elsewhere", "other")
    check_sample(rules(DRAFT), compile_rule(DRAFT))


def test_it_is_told_which_known_replies_a_rule_would_decide() -> None:
    greedy = replace(DRAFT, name="greedy", codes=(), text="very low reputation", sample="eod 421 very low reputation")

    changed = changed_samples(NO_LIVE_RULES, rules(greedy))

    assert "google-ip-reputation" in {one.rule for one in changed}
    assert {one.after.rule for one in changed} <= {"greedy"}
    assert [one.rule for one in changed_samples(NO_LIVE_RULES, rules(DRAFT))] == ["acme-quota"]


def test_replies_that_differ_in_ids_numbers_and_addresses_are_one_group() -> None:
    texts = [
        "550 5.7.99 <bob@example.com> refused by rule 17 at 192.0.2.1, session 8f3a9c2e41d7ab",
        "550 5.7.99 <carol@example.net> refused by rule 4 at 198.51.100.3, session 77aa9c2e41d7cd",
    ]

    grouped = {grouped_text(read_sample(f"eod {text}")) for text in texts}

    assert grouped == {"550 5.7.99 <address> refused by rule 0 at ip, session id"}
    assert without_addresses(texts[0]).startswith("550 5.7.99 <address> refused by rule 17")
