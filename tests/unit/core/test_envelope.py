from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.envelope import (
    Envelope,
    EnvelopeRecipient,
    EnvelopeSyntaxError,
    MailCommand,
    RcptCommand,
    encode_xtext,
    parse_mail,
    parse_rcpt,
)
from delivery.core.mailbox import Mailbox, parse_mailbox

ALICE = Mailbox("alice", "acme.example")


def refusal(parse: Callable[[bytes], object], argument: bytes) -> str:
    with pytest.raises(EnvelopeSyntaxError) as caught:
        parse(argument)
    return caught.value.reply.line[:9]


@pytest.mark.parametrize(
    "argument",
    [
        b"FROM:<alice@acme.example>",
        b"from:<alice@ACME.example>",
        b"FROM: <alice@acme.example>",
        b"FROM:<alice@acme.example> ",
        b"FROM:<alice@acme.example>\t",
        b'FROM:<"alice"@acme.example>',
    ],
)
def test_it_reads_a_reverse_path(argument: bytes) -> None:
    assert parse_mail(argument) == MailCommand(reverse_path=ALICE)


def test_the_null_reverse_path_is_none() -> None:
    assert parse_mail(b"FROM:<> BODY=8BITMIME") == MailCommand(reverse_path=None, body="8BITMIME")


def test_it_reads_every_parameter_of_mail() -> None:
    command = parse_mail(b"FROM:<alice@acme.example> SIZE=1000 body=8bitmime SMTPUTF8 AUTH=<> RET=hdrs ENVID=QQ+2B314")

    assert command == MailCommand(ALICE, size=1000, body="8BITMIME", smtputf8=True, ret="HDRS", envid="QQ+314")


def test_it_reads_every_parameter_of_rcpt() -> None:
    command = parse_rcpt(b"TO:<bob@globex.example> NOTIFY=success,FAILURE ORCPT=rfc822;Bob+2Bx@globex.example")

    assert command == RcptCommand(
        Mailbox("bob", "globex.example"), frozenset({"SUCCESS", "FAILURE"}), "rfc822;Bob+x@globex.example"
    )


def test_notify_never_stands_alone() -> None:
    assert parse_rcpt(b"TO:<bob@globex.example> NOTIFY=NEVER").notify == frozenset({"NEVER"})
    assert refusal(parse_rcpt, b"TO:<bob@globex.example> NOTIFY=NEVER,DELAY") == "501 5.5.4"


def test_misplaced_dots_of_a_carrier_address_are_taken() -> None:
    assert parse_rcpt(b"TO:<a..b.@docomo.ne.jp>").mailbox.local_part == "a..b."


def test_quotes_may_hold_what_would_otherwise_end_the_path() -> None:
    assert parse_rcpt(b'TO:<"a>b @c"@acme.example>').mailbox == Mailbox("a>b @c", "acme.example")


OUTSIDE_THE_GRAMMAR = [
    b"<a\rb@c.example>", b"<a\nb@c.example>", b"<a\0b@c.example>", b"<(x)a@c.example>", b"<@h,@i:a@c.example>",
    b"a@c.example", b"< a@c.example >", b"<a@c.example >", b"<a@c.example>SIZE=1", b"<a@c.example:25>", b"<a@c.example",
    b"<a@c.example>>", b"<<a@c.example>>", b"  <a@c.example>", b"\t<a@c.example>", b"<a@b@c.example>", b"<x>", b"",
    b'<"a@c.example>', b'<a"b"@c.example>', b"<a@c..example>", b"<a@c.example.>",
    b"<" + b"x" * 65 + b"@c.example>", b"<a@" + b"x" * 64 + b".example>", b"<a@-c.example>", b"<a,b@c.example>",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE_THE_GRAMMAR)
def test_a_path_outside_the_grammar_is_refused(path: bytes) -> None:
    assert refusal(parse_mail, b"FROM:" + path) == "501 5.1.7"
    assert refusal(parse_rcpt, b"TO:" + path) in ("501 5.1.3", "553 5.1.3")


@pytest.mark.parametrize("path", [b"<a@localhost>", b"<a@[127.0.0.1]>", b"<a@[IPv6:::1]>", b"<a@127.0.0.1>"])
def test_a_domain_that_no_mail_is_relayed_to_is_refused(path: bytes) -> None:
    assert refusal(parse_mail, b"FROM:" + path) == "501 5.1.7"
    assert refusal(parse_rcpt, b"TO:" + path) == "553 5.1.3"


def test_a_recipient_may_not_be_empty() -> None:
    assert refusal(parse_rcpt, b"TO:<>") == "501 5.1.3"


@pytest.mark.parametrize("argument", [b"TO:<a@c.example>", b"FROM <a@c.example>", b"FROM", b" FROM:<a@c.example>"])
def test_the_keyword_must_be_right(argument: bytes) -> None:
    assert refusal(parse_mail, argument) == "501 5.1.7"


@pytest.mark.parametrize(
    "parameter",
    [
        b"SIZE", b"SIZE=", b"SIZE=-1", b"SIZE=1x", b"SIZE=" + b"9" * 21, b"SIZE=1 SIZE=1", b"BODY=BINARYMIME", b"BODY",
        b"SMTPUTF8=1", b"RET=ALL", b"ENVID=", b"ENVID=a+2b", b"ENVID=a+0D+0Ab", b"ENVID=" + b"x" * 101, b"AUTH=", b"=1",
        b" SIZE=1", b"SIZE=1  BODY=7BIT", b"SIZE=1\0", b"SIZE=1\r", b"-X=1", b"RET=FULL\xc3\xa9",
    ],
)  # fmt: skip
def test_a_malformed_parameter_of_mail_is_refused(parameter: bytes) -> None:
    assert refusal(parse_mail, b"FROM:<a@c.example> " + parameter) == "501 5.5.4"


@pytest.mark.parametrize(
    "parameter",
    [
        b"NOTIFY=", b"NOTIFY=SOMETIMES", b"NOTIFY=SUCCESS,", b"ORCPT=", b"ORCPT=rfc822", b"ORCPT=rfc822;",
        b"ORCPT=;a@c.example", b"ORCPT=rfc822;a+0D+0Ab", b"ORCPT=rfc822;" + b"x" * 500, b"ORCPT=rfc822;a=b",
    ],
)  # fmt: skip
def test_a_malformed_parameter_of_rcpt_is_refused(parameter: bytes) -> None:
    assert refusal(parse_rcpt, b"TO:<a@c.example> " + parameter) == "501 5.5.4"


def test_an_unknown_parameter_is_refused_with_555() -> None:
    assert refusal(parse_mail, b"FROM:<a@c.example> HOLDFOR=60") == "555 5.5.4"
    assert refusal(parse_rcpt, b"TO:<a@c.example> SIZE=1") == "555 5.5.4"


def test_non_ascii_needs_smtputf8() -> None:
    path = "<ü@bücher.example>".encode()

    assert refusal(parse_mail, b"FROM:" + path) == "553 5.6.7"
    assert refusal(parse_rcpt, b"TO:" + path) == "553 5.6.7"
    assert parse_mail(b"FROM:" + path + b" SMTPUTF8").reverse_path == Mailbox("ü", "xn--bcher-kva.example")
    assert parse_rcpt(b"TO:" + path, smtputf8=True).mailbox.domain == "xn--bcher-kva.example"


def test_broken_utf8_is_refused_even_with_smtputf8() -> None:
    assert refusal(parse_mail, b"FROM:<a\xff@c.example> SMTPUTF8") == "501 5.1.7"


def test_repeated_recipients_are_merged_in_order_of_first_mention() -> None:
    bob, charlie = Mailbox("bob", "acme.example"), Mailbox("charlie", "globex.example")
    envelope = Envelope(
        ALICE,
        (
            EnvelopeRecipient(bob, notify=frozenset({"NEVER"})),
            EnvelopeRecipient(charlie),
            EnvelopeRecipient(bob, notify=frozenset({"SUCCESS"}), orcpt="rfc822;b@acme.example"),
            EnvelopeRecipient(charlie),
        ),
    )

    assert envelope.merged().recipients == (
        EnvelopeRecipient(bob, notify=frozenset({"SUCCESS"}), orcpt="rfc822;b@acme.example"),
        EnvelopeRecipient(charlie),
    )


def test_merging_counts_the_default_as_failure_and_delay() -> None:
    recipients = (EnvelopeRecipient(ALICE), EnvelopeRecipient(ALICE, notify=frozenset({"SUCCESS"})))

    merged = Envelope(None, recipients).merged()

    assert merged.recipients[0].notify == frozenset({"SUCCESS", "FAILURE", "DELAY"})


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_syntax_error(junk: bytes) -> None:
    for argument in (junk, b"FROM:" + junk, b"FROM:<" + junk + b"@c.example>", b"FROM:<a@c.example> " + junk):
        for parse in (parse_mail, lambda raw: parse_rcpt(b"TO:" + raw[5:], smtputf8=True)):
            try:
                parse(argument)
            except EnvelopeSyntaxError as error:
                assert error.reply.is_permanent


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64))
def test_every_mailbox_survives_the_wire(local_part: str) -> None:
    mailbox = Mailbox(local_part, "acme.example")

    assert parse_rcpt(f"TO:<{mailbox.quoted}>".encode()).mailbox == mailbox
    assert parse_mailbox(mailbox.quoted) == mailbox


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_xtext_survives_the_wire(envid: str) -> None:
    assert parse_mail(f"FROM:<> ENVID={encode_xtext(envid)}".encode()).envid == envid
