from __future__ import annotations

import time

import pytest

from delivery.core.classification import (
    RULES,
    UNCLASSIFIED,
    Action,
    ReplyClass,
    Rule,
    RuleError,
    classify,
    normalise_text,
    read_rules,
)
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up

SAMPLES = [(rule, reply, group) for rule in RULES for reply, group in rule.sample_replies()]


def said(phase: Phase, line: str) -> Reply:
    return from_lines(phase, [line.encode()])


@pytest.mark.parametrize(
    ("rule", "reply", "group"), SAMPLES, ids=[f"{rule.id}-{index}" for index, (rule, _, _) in enumerate(SAMPLES)]
)
def test_every_sample_is_decided_by_its_own_rule(rule: Rule, reply: Reply, group: str) -> None:
    assert classify(reply, group).rule == rule.id


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_a_sample_and_a_source(rule: Rule) -> None:
    assert rule.samples
    assert rule.source


def test_the_same_words_of_docomo_mean_two_things() -> None:
    line = "550 Unknown user a@docomo.ne.jp"

    at_rcpt = classify(said(Phase.RCPT, line), "docomo")
    at_end = classify(said(Phase.EOD, line), "docomo")

    assert (at_rcpt.reply_class, at_rcpt.action) == (ReplyClass.BAD_MAILBOX, Action.FAIL_AND_COUNT)
    assert (at_end.reply_class, at_end.action) == (ReplyClass.RECIPIENT_FILTER, Action.FAIL)


def test_au_leaves_the_address_out_where_it_filters() -> None:
    assert classify(said(Phase.RCPT, "550 : User unknown"), "au").reply_class is ReplyClass.RECIPIENT_FILTER
    assert classify(said(Phase.RCPT, "550 <a@au.com>: User unknown"), "au").reply_class is ReplyClass.BAD_MAILBOX


def test_a_reset_connection_is_a_signal_of_carriers_and_an_accident_elsewhere() -> None:
    reset = made_up(Phase.CONNECT, 421, "4.4.2", "connection reset by peer", Origin.NETWORK)

    assert classify(reset, "au").reply_class is ReplyClass.IP_BLOCK
    assert classify(reset, "google").reply_class is ReplyClass.TRANSIENT


def test_text_beats_status_and_status_beats_code() -> None:
    assert classify(said(Phase.EOD, "550 5.7.1 Rejected as spam"), "").reply_class is ReplyClass.CONTENT
    assert classify(said(Phase.RCPT, "552 5.3.4 sorry"), "").reply_class is ReplyClass.TOO_LARGE
    assert classify(said(Phase.RCPT, "552 sorry"), "").reply_class is ReplyClass.MAILBOX_FULL


def test_rules_of_the_provider_come_first() -> None:
    reply = said(Phase.RCPT, "550 5.4.1 Recipient address rejected: Access denied")

    assert classify(reply, "office365").reply_class is ReplyClass.BAD_MAILBOX
    assert classify(reply, "").reply_class is ReplyClass.POLICY


def test_a_multi_line_reply_is_one_text() -> None:
    reply = from_lines(Phase.RCPT, [b"550-5.7.1 blocked", b"550 5.7.1 using zen.spamhaus.org"])

    assert classify(reply, "").reply_class is ReplyClass.IP_BLOCK


def test_a_transient_reply_never_fails_a_recipient() -> None:
    for rule, reply, group in SAMPLES:
        softer = Reply(
            reply.phase, reply.code - 100 if reply.code >= 500 else reply.code, reply.text, None, reply.origin
        )
        assert not classify(softer, group).action.is_failing, rule.id
    unknown = classify(said(Phase.RCPT, "450 4.1.1 User unknown"), "")
    assert (unknown.reply_class, unknown.action) == (ReplyClass.BAD_MAILBOX, Action.RETRY)


@pytest.mark.parametrize("line", ["550 Nope", "554 Nope", "599 Nope", "550 5.9.9 Nope"])
def test_what_no_rule_knows_is_unclassified_and_tried_again(line: str) -> None:
    assert classify(said(Phase.RCPT, line), "google") == UNCLASSIFIED
    assert UNCLASSIFIED.action is Action.RETRY


def test_our_own_words_are_never_matched() -> None:
    own = made_up(Phase.CONNECT, 421, None, "path suspended: blocked using spamhaus, too many connections", Origin.OWN)

    assert classify(own, "google").reply_class is ReplyClass.TRANSIENT


@pytest.mark.parametrize(
    ("status", "text"), [("5.1.2", "no such domain"), ("5.1.10", "the domain takes no mail (null MX)")]
)
def test_a_dead_domain_fails_and_is_only_counted(status: str, text: str) -> None:
    classification = classify(made_up(Phase.ROUTING, 550, status, text, Origin.DNS), "")

    assert (classification.reply_class, classification.action) == (ReplyClass.BAD_DOMAIN, Action.FAIL_AND_COUNT)


def test_addresses_and_session_ids_do_not_matter() -> None:
    first = normalise_text("<Bob@acme.example>: blocked [192.0.2.7] see 2001:db8::1:2 - a12si3456789plk.13 gsmtp")
    second = normalise_text(
        "<carol@x.example>: Blocked [198.51.100.200] see 2001:db8:0:1::9 - b7si99887766pfx.13 gsmtp"
    )

    assert first == second == "<address>: blocked [ip] see ip - id.13 gsmtp"


def test_an_endless_reply_costs_no_time() -> None:
    started = time.perf_counter()
    for filler in ("user ", "mailbox not ", "a@", "1.", "sender from ", " ", "0:"):
        classify(said(Phase.RCPT, "550 " + filler * 2000), "google")

    assert time.perf_counter() - started < 1.0


def test_a_known_reply_is_classified_from_memory() -> None:
    reply = said(Phase.RCPT, "550 5.1.1 <a@acme.example>: User unknown")
    classify(reply, "")

    started = time.perf_counter()
    for _ in range(10_000):
        classify(reply, "")

    assert time.perf_counter() - started < 1.0


RULE = """
[[rule]]
id = "x"
class = "policy"
action = "fail"
scope = "message"
source = "observed"
samples = []
"""


@pytest.mark.parametrize(
    "text",
    [
        RULE + RULE,
        RULE.replace("policy", "polcy"),
        RULE + 'text = "("',
        RULE + 'enhanced = ["5.1"]',
        RULE + 'phases = ["later"]',
        RULE + "txt = 1",
        RULE.replace('source = "observed"', ""),
    ],
)
def test_a_broken_rule_file_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        read_rules(text)


def test_a_range_of_statuses_is_understood() -> None:
    (rule,) = read_rules(RULE + 'enhanced = ["5.7.606-649", "x.1.*"]')

    assert rule.fits(Origin.PEER, 550, "5.7.606", "") and rule.fits(Origin.PEER, 550, "5.7.649", "")
    assert not rule.fits(Origin.PEER, 550, "5.7.650", "")
    assert rule.fits(Origin.PEER, 450, "4.1.77", "")
