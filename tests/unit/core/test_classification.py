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
from delivery.core.dialogue import find_said
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up
from delivery.core.verdicts import Circumstances, judge_reported

SAMPLES = [(rule, reply, group) for rule in RULES for reply, group in rule.sample_replies()]


REPORT_SAMPLES = [
    (rule, sample, group)
    for rule in RULES
    for group in [min(rule.groups, default="")]
    for sample in rule.report_samples()
]


def said(phase: Phase, line: str) -> Reply:
    return from_lines(phase, [line.encode()])


@pytest.mark.parametrize(
    ("rule", "reply", "group"), SAMPLES, ids=[f"{rule.id}-{index}" for index, (rule, _, _) in enumerate(SAMPLES)]
)
def test_every_sample_is_decided_by_its_own_rule(rule: Rule, reply: Reply, group: str) -> None:
    assert classify(reply, group).rule == rule.id


@pytest.mark.parametrize(
    ("rule", "sample", "group"),
    REPORT_SAMPLES,
    ids=[f"{rule.id}-{index}" for index, (rule, _, _) in enumerate(REPORT_SAMPLES)],
)
def test_every_sample_of_a_report_is_decided_by_its_own_rule(rule: Rule, sample: str, group: str) -> None:
    verdict = judge_reported(
        [find_said(sample)], status="", circumstances=Circumstances(provider_group=group, context=sample)
    )

    assert verdict.classification.rule == rule.id


def test_what_a_report_tells_never_suspends_a_path() -> None:
    for rule in RULES:
        if rule.is_for_reports:
            assert rule.classification.action in (Action.FAIL, Action.FAIL_AND_COUNT, Action.FAIL_AND_SUPPRESS), rule.id


def test_rules_for_reports_are_not_asked_in_a_session() -> None:
    for rule, reply, group in SAMPLES:
        assert not rule.is_for_reports
        assert not classify(reply, group).rule.startswith("reported-")


REPORTED = [
    (
        "550 5.1.1 The email account that you tried to reach does not exist.",
        "bad_mailbox",
    ),
    ("550 5.1.1 <a@example.test> recipient rejected, address unknown (in reply to RCPT TO command)", "bad_mailbox"),
    ("550 No Such User Here (in reply to RCPT TO command)", "bad_mailbox"),
    ("550 sorry, no mailbox here by that name. (#5.1.1)", "bad_mailbox"),
    ("511 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "bad_mailbox"),
    (
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient a@example.test not found by SMTP address lookup",
        "bad_mailbox",
    ),
    ("550 Requested action not taken: mailbox unavailable (in reply to RCPT TO command)", "bad_mailbox"),
    (
        "554 5.1.1 <a@example.test>: Recipient address rejected: undeliverable address: host said: 550 unknown",
        "bad_mailbox",
    ),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "bad_mailbox"),
    ("550 5.1.1 unknown or illegal alias: a@example.test", "bad_mailbox"),
    ("550 Unrouteable address (in reply to RCPT TO command)", "bad_mailbox"),
    ("550 Address rejected (in reply to RCPT TO command)", "bad_mailbox"),
    ("554 30 Sorry, your message to a@aol.example cannot be delivered. This account does not exist", "bad_mailbox"),
    ("550 Recipient unknown (in reply to RCPT TO)", "bad_mailbox"),
    ("553 5.3.0 <a@example.test>... Addressee unknown, relay=[192.0.2.1]", "bad_mailbox"),
    ("550 that user does not have an account here", "bad_mailbox"),
    ("550 5.0.0 <a@example.test>... User account not known (in reply to RCPT TO command)", "bad_mailbox"),
    ("550 Mailbox not found", "bad_mailbox"),
    ("550 5.2.0 No such mailbox (in reply to RCPT TO command)", "bad_mailbox"),
    (
        "550 5.1.1 Invalid recipient. OFR204_416 [416] (in reply to RCPT TO command)",
        "bad_mailbox",
    ),
    ("Recipient's e-mail address was not found in the recipient's e-mail system", "bad_mailbox"),
    ("550 5.1.1 Invalid recipient: <a@example.test> (in reply to RCPT TO)", "bad_mailbox"),
    ("550 #5.1.0 Address rejected.", "bad_mailbox"),
    ("552 5.2.2 Over quota", "mailbox_full"),
    ("452 4.2.2 The email account that you tried to reach is over quota. Please direct", "mailbox_full"),
    ("550 5.7.1 <a@example.test>: The user's mailbox is full", "mailbox_full"),
    ("554 5.2.2 mailbox full;STOREDRV.Deliver.Exception:QuotaExceededException", "mailbox_full"),
    ("552 5.7.0 Requested mail action aborted: exceeded storage allocation", "mailbox_full"),
    ("maildrop: maildir over quota.", "mailbox_full"),
    (
        'can\'t create user output file. Command output: procmail: Quota exceeded while writing "/var/mail/a"',
        "mailbox_full",
    ),
    ("Benutzer hat zuviele Mails auf dem Server: Postfach voll", "mailbox_full"),
    ("account is temporarily over quota", "mailbox_full"),
    ("552 Mailbox limit exceeded for this email address", "mailbox_full"),
    ("550 5.2.3 STOREDRV.Deliver; mailbox full", "mailbox_full"),
    ("552 5.3.4 Message size exceeds file system imposed limit", "too_large"),
    ("552 message size exceeds maximum size", "too_large"),
    ("550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient", "too_large"),
    ("message too large for mailbox", "too_large"),
    ("550 5.2.1 This mailbox has been blocked due to inactivity", "inactive"),
    ("550 Account disabled", "inactive"),
    ("550 5.7.1 Account suspended", "inactive"),
    (
        "554 delivery error: This account has been disabled or discontinued [#102].",
        "inactive",
    ),
    ("550 user is inactive", "inactive"),
    ("551 5.1.6 recipient has moved; please try b@example.test", "inactive"),
    ("550 5.1.1 User no longer active at this address", "inactive"),
    ("Host or domain name not found. Name service error for name=example.test type=A: Host not found", "bad_domain"),
    ("550 5.1.2 <a@example.test>... Host unknown (Name server: example.test: host not found)", "bad_domain"),
    ("Sorry, I couldn't find any host named example.test. (#5.1.2)", "bad_domain"),
    ("all relevant MX records point to non-existent hosts", "bad_domain"),
    ('Unrouteable mail domain "example.test"', "bad_domain"),
    ("550 No such domain at this location", "bad_domain"),
    ("556 5.1.10 domain example.test does not accept mail (nullMX)", "bad_domain"),
    ("Domain example.test does not accept mail (nullMX)", "bad_domain"),
    ("553 sorry, your domain does not exist / no MX: mail server for example.test not found", "bad_domain"),
    ("Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)", "transient"),
    (
        "CNAME lookup failed temporarily. (#4.4.3) This message has been in the queue too long.",
        "transient",
    ),
    ("connect to mx.example.test[192.0.2.1]:25: No route to host", "transient"),
    ("connect to mx.example.test[192.0.2.1]:25: Connection refused", "transient"),
    ("conversation with mx.example.test[192.0.2.1] timed out while receiving the initial server greeting", "transient"),
    ("lost connection with mx.example.test[192.0.2.1] while sending RCPT TO", "transient"),
    (
        "Host or domain name not found. Name service error for name=example.test type=MX: Host not found, try again",
        "transient",
    ),
    ("451 4.3.0 Temporary server error. Please try again later", "transient"),
    ("454 4.4.1 Message expired before delivery", "expired"),
    ("delivery temporarily suspended: connect to mx.example.test[192.0.2.1]:25: Connection timed out", "transient"),
    ("unable to deliver this message after 3 days", "expired"),
    ("550 4.4.7 QUEUE.Expired; message expired", "expired"),
    ("#550 4.4.7 QUEUE.Expired; message expired ##", "expired"),
    ("554 5.4.6 Too many hops", "loop"),
    ("452 4.3.1 Insufficient system resources", "transient"),
    ("451 4.7.1 Greylisting in action, please come back later", "greylist"),
    ("mail for example.test loops back to myself", "loop"),
    ('Command died with status 127: "/usr/bin/prog"', "transient"),
    ("local configuration error", "transient"),
    ("452 4.3.1 Out of memory", "transient"),
    ("421 4.3.2 System not accepting network messages", "transient"),
    ("550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org", "ip_block"),
    ("554 5.7.1 Your IP has been blacklisted", "ip_block"),
    (
        "550 5.7.1 Messages from [192.0.2.1] weren't sent since part of their network is on our block list (S3150).",
        "ip_block",
    ),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints", "ip_block"),
    ("550 Administrative prohibition: host in blacklist", "ip_block"),
    ("554 Refused. You have a reputation problem; see senderscore.org", "ip_block"),
    (
        "550 5.7.1 Likely unsolicited mail, blocked due to very low reputation of the sending IP",
        "ip_block",
    ),
    ("550 Mail from your host is not accepted", "ip_block"),
    ("550 5.7.1 Mail from IP 192.0.2.1 was rejected due to listing in Spamhaus SBL", "ip_block"),
    ("450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]", "reverse_dns"),
    ("550 5.7.25 The IP address sending this message does not have a PTR record", "reverse_dns"),
    ("554 5.7.1 Fix reverse DNS for 192.0.2.1", "reverse_dns"),
    ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "reverse_dns"),
    ("550 5.7.1 Message rejected as spam by Content Filtering.", "content"),
    ("554 5.7.1 Message blocked due to spam content in the message", "content"),
    ("552 5.7.0 This message was blocked because its content presents a potential security issue", "content"),
    ("550 High probability of spam", "content"),
    ("554 rejected due to spam URL in content", "content"),
    ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.", "content"),
    ("5.3.4 554 Mail rejected for policy reasons.", "content"),
    ("Virus found: Eicar-Test-Signature", "content"),
    ("550 5.7.1 Blocked by SpamAssassin", "content"),
    ("554 Transaction failed: attachment type not permitted", "content"),
    ("554 Message rejected: Banned file extension .exe", "content"),
    (
        "550 5.7.26 Unauthenticated email from example.test is not accepted due to domain's DMARC policy",
        "authentication",
    ),
    ("550 5.7.1 SPF check failed", "authentication"),
    ("550 5.7.1 The sending domain fails DKIM verification", "authentication"),
    (
        "550 5.7.515 Access denied, sending domain example.test does not meet the required authentication level",
        "authentication",
    ),
    ("554 5.7.1 <a@example.test>: Relay access denied", "policy"),
    ("550 relaying denied", "policy"),
    ("550 5.7.1 Unable to relay", "policy"),
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "policy"),
    ("550 5.7.1 <b@example.test>: Sender address rejected: Domain not found", "policy"),
    ("553 5.1.8 Domain of sender address does not exist", "policy"),
    ("550 Sender verify failed", "policy"),
    ("550 5.7.1 Client does not have permissions to send as this sender", "policy"),
    ("554 5.7.1 <b@example.test>: Sender address rejected: Access denied", "policy"),
    ("550 5.7.1 The user you are sending to does not accept mail from your address", "recipient_filter"),
    ("550 Blocked by recipient", "recipient_filter"),
    ("550 5.7.1 Recipient not accepting mail from you", "recipient_filter"),
    ("421 4.7.0 Too many connections from your host", "rate_limit"),
    ("452 4.5.3 Too many recipients", "rate_limit"),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", "rate_limit"),
    ("550 5.4.5 Daily user sending quota exceeded", "rate_limit"),
    (
        "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address",
        "rate_limit",
    ),
    ("550 5.7.1 Messages missing a valid Message-ID header are not accepted.", "format"),
    ("500 5.5.1 Command unrecognized", "format"),
    ("554 5.6.0 Message is not RFC 5322 compliant", "format"),
    ("550 5.5.2 Syntax error", "format"),
    ("530 5.7.0 Must issue a STARTTLS command first", "tls"),
    ("TLS is required, but was not offered by host mx.example.test[192.0.2.1]", "tls"),
    ("Server certificate not verified", "tls"),
    ("Cannot start TLS: handshake failure", "tls"),
    ("550 Nope", "unclassified"),
]


@pytest.mark.parametrize(("words", "reply_class"), REPORTED)
def test_common_words_of_reports_are_understood(words: str, reply_class: str) -> None:
    verdict = judge_reported([find_said(words)], status="", circumstances=Circumstances())

    assert verdict.classification.reply_class == reply_class


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
    started = time.process_time()
    for filler in ("user ", "mailbox not ", "a@", "1.", "sender from ", " ", "0:"):
        classify(said(Phase.RCPT, "550 " + filler * 2000), "google")

    assert time.process_time() - started < 1.0


def test_a_known_reply_is_classified_from_memory() -> None:
    reply = said(Phase.RCPT, "550 5.1.1 <a@acme.example>: User unknown")
    classify(reply, "")

    started = time.process_time()
    for _ in range(10_000):
        classify(reply, "")

    assert time.process_time() - started < 1.0


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
