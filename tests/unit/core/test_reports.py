from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.dsn import DsnAction
from delivery.core.reports import Kind, Report, read_report


def notice(text: str, *, sender: str = "MAILER-DAEMON@mx.example", subject: str = "Returned mail") -> bytes:
    return f"From: {sender}\nTo: alice@acme.example\nSubject: {subject}\n\n{text}".encode()


def dsn(fields: str, text: str = "The mail system") -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example\nTo: alice@acme.example\nSubject: Undelivered Mail\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        f"--b\n\n{text}\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n{fields}\n--b--\n"
    ).encode()


def addresses(report: Report) -> list[str]:
    return [row.address for row in report.rows]


@pytest.mark.parametrize(
    "text",
    [
        "<bob@b.example>: host mx.b.example[192.0.2.1] said: 550 5.1.1 User unknown (in reply to RCPT TO command)",
        "Hi. This is the qmail-send program.\n\n<bob@b.example>:\n192.0.2.1 does not like recipient.\n"
        "Remote host said: 550 5.1.1 no such user\nGiving up on 192.0.2.1.\n\n--- Below this line is a copy of the message.\n",
        "The following address(es) failed:\n\n  bob@b.example\n"
        "    SMTP error from remote mail server after RCPT TO:<bob@b.example>:\n"
        "    host mx.b.example [192.0.2.1]: 550 5.1.1 unknown user\n",
        "   ----- Transcript of session follows -----\n... while talking to mx.b.example.:\n>>> RCPT To:<bob@b.example>\n"
        "<<< 550 5.1.1 <bob@b.example>... User unknown\n",
        "There was an error delivering your mail to <bob@b.example>.\n\nmx.b.example [192.0.2.1] did not like our RCPT TO:\n"
        "550 5.1.1 <bob@b.example>: Recipient address rejected: User unknown\n\nMessage headers follow.\n\nReceived: x\n",
        '"bob@b.example":\nSMTP error from remote server after RCPT command:\nhost: mx.b.example\n'
        "5.1.1 <bob@b.example>... User Unknown\n",
    ],
)
def test_a_dead_mailbox_is_found_in_the_prose_of_many_hosts(text: str) -> None:
    report = read_report(notice(text))

    assert addresses(report) == ["bob@b.example"]
    assert (report.rows[0].class_word, report.rows[0].is_hard) == ("bad_mailbox", True)


def test_every_recipient_of_a_notice_gets_the_reason_of_its_own() -> None:
    text = (
        "<bob@b.example>:\nRemote host said: 550 5.1.1 User unknown [RCPT_TO]\n\n"
        "<carol@b.example>:\nRemote host said: 552 5.2.2 Mailbox full [RCPT_TO]\n"
    )

    report = read_report(notice(text))

    assert [(row.address, row.class_word) for row in report.rows] == [
        ("bob@b.example", "bad_mailbox"),
        ("carol@b.example", "mailbox_full"),
    ]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("550 : User unknown", "recipient_filter"),
        ("550 <bob@b.example>: User unknown", "recipient_filter"),
        ("550 5.2.1 <bob@b.example>... User unknown", "recipient_filter"),
        ("450 4.1.1 <bob@b.example>: User unknown (in reply to RCPT TO command)", "bad_mailbox"),
        ("550 5.2.1 The account is disabled (in reply to RCPT TO command)", "inactive"),
        ("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "ip_block"),
        ("550 Nope (in reply to end of DATA command)", "unclassified"),
        ("550 5.0.0 <bob@b.example>... User unknown (in reply to RCPT TO command)", "bad_mailbox"),
    ],
)
def test_an_address_that_may_be_alive_is_never_called_dead(said: str, word: str) -> None:
    report = read_report(dsn("", f"<bob@b.example>: host mx.b.example said: {said}"))

    assert [(row.address, row.class_word, row.is_hard) for row in report.rows] == [("bob@b.example", word, False)]


def test_a_notice_that_contradicts_the_reply_leaves_the_address_alive() -> None:
    fields = (
        "Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <bob@b.example>... User Unknown"
    )

    doubtful = read_report(dsn(fields, "Your message was automatically rejected: not enough disk space"))
    plain = read_report(dsn(fields))

    assert (doubtful.rows[0].is_hard, plain.rows[0].is_hard) == (False, True)


def test_what_the_peer_said_beats_what_the_reporting_host_made_of_it() -> None:
    fields = (
        "Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.1.1\n"
        "Diagnostic-Code: smtp; 550 5.7.1 IP address blacklisted by recipient"
    )

    report = read_report(dsn(fields))

    assert (report.rows[0].class_word, report.rows[0].is_hard) == ("ip_block", False)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("delayed", Kind.BOUNCE),
        ("failed", Kind.BOUNCE),
        ("relayed", Kind.DELIVERED),
        ("delivered", Kind.DELIVERED),
        ("expanded", Kind.DELIVERED),
    ],
)
def test_actions_are_told_apart(action: str, kind: Kind) -> None:
    status = {"delayed": "4.4.1", "failed": "5.1.1"}.get(action, "2.1.5")

    report = read_report(dsn(f"Final-Recipient: rfc822; bob@b.example\nAction: {action}\nStatus: {status}"))

    assert [(row.kind, row.action) for row in report.rows] == [(kind, DsnAction(action))]
    assert report.rows[0].is_hard is (action == "failed")


def test_a_warning_in_prose_is_a_delay() -> None:
    text = "THIS IS A WARNING MESSAGE ONLY.\n\n<bob@b.example>: host mx.b.example said: 550 5.1.1 User unknown\n"

    (row,) = read_report(notice(text, subject="Delivery Status Notification (Delay)")).rows

    assert (row.action, row.is_hard) == (DsnAction.DELAYED, False)


@pytest.mark.parametrize(
    "header",
    [
        "Subject: Automatic reply: your mail",
        "Subject: 不在のお知らせ",
        "Subject: =?iso-2022-jp?B?GyRCSVQ6XxsoQg==?=",
        "Subject: Abwesenheitsnotiz",
        "Subject: x\nAuto-Submitted: auto-replied (vacation)",
        "Subject: x\nX-Autoreply: yes",
        "Subject: x\nPrecedence: auto_reply",
    ],
)
def test_an_automatic_reply_is_no_bounce(header: str) -> None:
    text = "I cannot be reached. Your message was not delivered to anybody; write to carol@b.example: she can help.\n"

    report = read_report(f"From: Bob <bob@b.example>\nTo: alice@acme.example\n{header}\n\n{text}".encode())

    assert [(row.kind, row.class_word, row.is_hard) for row in report.rows] == [(Kind.AUTO_REPLY, "auto_reply", False)]


@pytest.mark.parametrize(
    "content",
    [
        b"From: Bob <bob@b.example>\nSubject: Re: Undelivered Mail Returned to Sender\n\n"
        b"Hello,\n> <carol@b.example>: host said: 550 5.1.1 User unknown\nis that so?\n",
        b"From: Bob <bob@b.example>\nSubject: Lunch\n\nMy mail to dave@b.example failed. Call 550 1234.\n",
        b"",
        b"\r\n\r\n",
    ],
)
def test_mail_of_people_is_other(content: bytes) -> None:
    report = read_report(content)

    assert [(row.kind, row.class_word, row.is_hard) for row in report.rows] == [(Kind.OTHER, "", False)]


QUOTED = "I get this:\n<bob@b.example>: host mx.b.example said: 550 5.1.1 User unknown\n"


@pytest.mark.parametrize(
    ("head", "text", "kind"),
    [
        ("From: x-bounces@lists.example\nSubject: [x] delivery failed\nList-Id: <x.lists.example>", QUOTED, Kind.OTHER),
        ("From: x-request@lists.example\nSubject: x Digest, Vol 3, Issue 2", QUOTED, Kind.OTHER),
        (
            "From: Postmaster <postmaster@a.example>\nSubject: Returned mail\nList-Unsubscribe: <https://a.example/>",
            QUOTED,
            Kind.OTHER,
        ),
        (
            "From: Mail System <postmaster@a.example>\nSubject: Quarantine summary: 2 messages",
            "These messages were not delivered to you:\n\n  shop@b.example   Buy now\n  win@b.example    You won\n",
            Kind.OTHER,
        ),
        (
            "Return-Path: <>\nFrom: Help <help@b.example>\nSubject: [#1] Error sending invoice",
            "We have received your request about 'delivery failed' and will answer bob@b.example soon.\n",
            Kind.OTHER,
        ),
        (
            "Return-Path: <>\nFrom: Bob <bob@b.example>\nSubject: Re: Hello\nAuto-Submitted: auto-replied",
            "I am away. Your mail has not been delivered to anybody. Write to carol@b.example.\n",
            Kind.AUTO_REPLY,
        ),
        (
            "From: MAILER-DAEMON@mx.example\nSubject: Successful Mail Delivery Report",
            "Your message was successfully delivered to the destination(s) listed below.\n\n<bob@b.example>: 250 2.0.0 Ok\n",
            Kind.DELIVERED,
        ),
        (
            "From: MAILER-DAEMON@mx.example\nSubject: Delivery Notification: Delivery has been successful",
            "Your message has been delivered to the following recipients:\n\n  Recipient address: bob@b.example\n",
            Kind.DELIVERED,
        ),
    ],
)
def test_other_mail_of_machines_is_no_bounce(head: str, text: str, kind: Kind) -> None:
    report = read_report(f"{head}\nTo: alice@acme.example\n\n{text}".encode())

    assert report.kind is kind
    assert not any(row.is_hard for row in report.rows)


def test_a_report_that_somebody_forwards_kills_nobody() -> None:
    text = (
        "Look:\n> Final-Recipient: rfc822; bob@b.example\n> Action: failed\n> Status: 5.1.1\n"
        "> Diagnostic-Code: smtp; 550 5.1.1 User unknown\n"
    )

    report = read_report(notice(text, sender="Carol <carol@acme.example>", subject="Fwd: Returned mail"))

    assert not any(row.is_hard for row in report.rows)


def test_what_only_the_last_resort_finds_is_never_hard() -> None:
    content = notice("It did not work: user unknown, delivery failed 550 5.1.1\n")

    report = read_report(content, find_addresses=lambda sender, subject, text: ["bob@b.example"])

    assert [(row.address, row.is_hard) for row in report.rows] == [("bob@b.example", False)]


def test_the_provider_is_asked_for_by_the_host_that_refused() -> None:
    fields = (
        "Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.5.0\nRemote-MTA: dns; mx.docomo.ne.jp\n"
        "Diagnostic-Code: smtp; 550 Unknown user bob@b.example"
    )

    report = read_report(dsn(fields), provider_of=lambda host: "docomo" if host.endswith("docomo.ne.jp") else "")

    assert (report.rows[0].rule, report.rows[0].is_hard) == ("docomo-reported-unknown", False)


def test_a_notice_in_json_is_read() -> None:
    text = (
        '{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"bob@b.example","status":"5.1.1",'
        '"diagnosticCode":"smtp; 550 5.1.1 user unknown"}]}}'
    )

    report = read_report(notice(text, sender="no-reply@service.example", subject="Notification"))

    assert [(row.address, row.class_word, row.is_hard) for row in report.rows] == [
        ("bob@b.example", "bad_mailbox", True)
    ]


FIELDS = "Final-Recipient: rfc822; bob@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user"


def with_html(html: str, charset: str = "utf-8") -> bytes:
    head = notice("", subject="Undeliverable").replace(b"\n\n", b"\n")
    head += f"Content-Type: text/html; charset={charset}\nContent-Transfer-Encoding: base64\n\n".encode()
    return head + base64.encodebytes(html.encode(charset))


@pytest.mark.parametrize(
    "content",
    [
        dsn(FIELDS).replace(b"\n", b"\r\n"),
        dsn(FIELDS).replace(b"\n", b"\r"),
        b"\r\n\r\n" + dsn(FIELDS),
        b"From MAILER-DAEMON Tue Jul  1 10:00:00 2025\n" + dsn(FIELDS),
        dsn(FIELDS)[:-6],
        dsn(FIELDS).replace(b"boundary=b", b"boundary=another"),
        dsn(FIELDS).replace(b"; boundary=b", b""),
        dsn(FIELDS).replace(b"message/delivery-status", b"message/global-delivery-status"),
        dsn(FIELDS).replace(b"message/delivery-status", b"text/plain; name=details.txt"),
        dsn(FIELDS.replace("rfc822;", "utf-8;")),
        dsn(FIELDS.replace("rfc822; bob@b.example", 'rfc822; "bob"@b.example')),
        dsn(FIELDS.replace("rfc822; bob@b.example", "RFC822 ;\n  Bob <bob@b.example>")),
        dsn(FIELDS.replace("Final-Recipient: rfc822;", "Original-Recipient: rfc822;")),
        dsn("Original-Recipient: rfc822; bob@b.example\n" + FIELDS.replace("rfc822; bob@b.example", "x400; c=jp; s=bob")),
        dsn(FIELDS.replace("rfc822; bob@b.example", "unknown; c=jp"), "<bob@b.example>: 550 5.1.1 no such user\n"),
        with_html("<p>Your mail to <b>bob@b.example</b> was not delivered:</p><p>550 5.1.1 User unknown</p>"),
        with_html("<p>Your mail to &lt;bob&#64;b.example&gt; was not delivered:</p><p>550 5.1.1 User unknown</p>"),
        with_html("<p>Your mail to <b>bob@b.example</b> was not delivered:</p><p>550 5.1.1 User unknown</p>", "utf-16"),
        notice("<bob@b.example>: 550 5.1.1 ユーザーが存在しません\n").decode().encode("euc-jp"),
        notice("配信できません\n宛先：bob@b.example\n550 5.1.1 ユーザーが存在しません\n").decode().encode("iso-2022-jp"),
    ],
)  # fmt: skip
def test_a_dead_mailbox_is_found_whatever_is_wrong_with_the_report(content: bytes) -> None:
    report = read_report(content)

    assert addresses(report) == ["bob@b.example"]
    assert (report.rows[0].class_word, report.rows[0].is_hard) == ("bad_mailbox", True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Failed recipients: bob@b.example; carol@b.example\nuser unknown\n", ["bob@b.example", "carol@b.example"]),
        ("These failed:\n\n  bob@b.example, carol@b.example\n\nuser unknown\n", ["bob@b.example", "carol@b.example"]),
        (
            "These failed:\n 1. bob@b.example (unknown)\n 2. carol@b.example (full)\n",
            ["bob@b.example", "carol@b.example"],
        ),
        ("Delivery failed: <mailto:bob@b.example> 550 unknown user\n", ["bob@b.example"]),
        ("rcpt=bob@b.example error=550 5.1.1 unknown user\n", ["bob@b.example"]),
        ("【宛先】bob@b.example\n【理由】ユーザー不明\n", ["bob@b.example"]),
        ("Recipient address: bob@daemon\nOriginal address: bob@b.example\nReason: Over quota\n", ["bob@b.example"]),
        ("Your mail could not be delivered.\n", ["dave@b.example"]),
    ],
)
def test_addresses_are_found_however_they_are_listed(text: str, found: list[str]) -> None:
    report = read_report(notice(text, subject="Undeliverable: dave@b.example"))

    assert addresses(report) == found


def test_a_reason_below_several_addresses_is_about_all_of_them_unless_it_names_one() -> None:
    common = read_report(notice("These failed:\n\n  bob@b.example\n  carol@b.example\n\nMailbox full\n"))
    single = read_report(notice("  bob@b.example\n  carol@b.example\n    550 5.1.1 <carol@b.example> User unknown\n"))

    assert [row.class_word for row in common.rows] == ["mailbox_full", "mailbox_full"]
    assert [row.is_hard for row in single.rows] == [False, True]


def test_a_reply_stands_for_what_is_named_after_it_alone() -> None:
    before = read_report(notice("Not delivered because of\n\n550 5.1.1 User unknown\n\nTo:\n  bob@b.example\n"))
    behind = read_report(notice("<bob@b.example>: something odd\n\n<carol@b.example>:\n550 5.1.1 User unknown\n"))

    assert [(row.address, row.is_hard) for row in before.rows] == [("bob@b.example", True)]
    assert [(row.address, row.is_hard) for row in behind.rows] == [("bob@b.example", False), ("carol@b.example", True)]


def test_what_touches_an_address_is_no_part_of_it() -> None:
    report = read_report(notice("您发往bob@b.example的邮件被退回，无法送达。\n退信原因：用户不存在\n", subject="退信"))

    assert addresses(report) == ["bob@b.example"]


def test_an_original_address_in_xtext_is_no_other_address() -> None:
    fields = (
        "Original-Recipient: rfc822; bob+2Bnews@b.example\nFinal-Recipient: rfc822; bob+news@b.example\n"
        "Action: failed\nStatus: 5.1.1"
    )

    (row,) = read_report(dsn(fields)).rows

    assert (row.address, row.original) == ("bob+news@b.example", "")


def test_the_words_behind_the_reason_say_nothing() -> None:
    text = (
        "The following address(es) failed:\n\n  bob@b.example\n    host mx.b.example [192.0.2.1]: 550 5.1.1 User unknown\n\n"
        "This mail was checked for viruses and spam by a filter. Over quota? Order more space!\n"
    )

    (row,) = read_report(notice(text)).rows

    assert row.class_word == "bad_mailbox"


HEAD = b"From: MAILER-DAEMON@mx.example\r\nSubject: Delivery failure\r\n"
BOMBS = {
    "10,000 parts": HEAD
    + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n\r\nundeliverable <a@b.test>: 550 no\r\n" * 10_000,
    "nested 1,000 deep": HEAD
    + b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(1000)),
    "enclosed 1,000 deep": HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 1000,
    "same boundary": HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 20_000,
    "line of 50 MB": HEAD + b"\r\n" + b"undeliverable " * (50 * 1024 * 1024 // 14),
    "only at signs": HEAD + b"\r\n" + b"@" * 5_000_000,
    "addresses": HEAD + b"\r\n" + b"<a@b.test>: 550 5.1.1 unknown\r\n" * 200_000,
    "different addresses": HEAD
    + b"\r\n"
    + b"".join(b"<a%d@b.test>: 550 user host %d\r\n" % (n, n) for n in range(50_000)),
    "header fields": HEAD + b"X: a\r\n" * 200_000 + b"\r\nx",
    "folded field": HEAD + b"X: a\r\n" + b" a\r\n" * 500_000 + b"\r\nx",
    "status fields": HEAD
    + b"Content-Type: message/delivery-status\r\n\r\n"
    + b"".join(
        b"Final-Recipient: rfc822;a%d@b.test\r\nAction: failed\r\nDiagnostic-Code: smtp; 550 %d user host domain\r\n\r\n"
        % (n, n)
        for n in range(20_000)
    ),
    "words": HEAD
    + b"Content-Type: message/delivery-status\r\n\r\n"
    + b"".join(
        b"Final-Recipient: rfc822;a%d@b.test\r\nAction: failed\r\nDiagnostic-Code: smtp; 550 %s%d\r\n\r\n"
        % (n, b"user a@b.test your ip " * 50, n)
        for n in range(200)
    ),
    "markup": HEAD + b"Content-Type: text/html\r\n\r\n" + b"<" * 4_000_000,
    "quoted-printable": HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=41" * 1_000_000,
    "JSON": HEAD + b'\r\n{"notificationType":' + b"[" * 3_000_000,
    "transcript": HEAD + b"\r\n" + b"<<< 550-x\r\n" * 300_000,
    "bounce mailboxes": HEAD + b"\r\n" + (b"b-" + b"a" * 48 + b"@b.test ") * 80_000,
    "zeros": b"\0" * 3_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_no_bomb_takes_a_second(bomb: bytes) -> None:
    started = time.process_time()
    report = read_report(bomb)

    assert time.process_time() - started < 1.0
    assert len(report.rows) <= 100


LINES = [
    *notice("<bob@b.example>: 550 5.1.1 no\n>>> RCPT TO:<bob@b.example>\n<<< 550 no\n").splitlines(keepends=True),
    *dsn("Final-Recipient: rfc822; bob@b.example\nAction: failed\n").splitlines(keepends=True),
    b"\n", b"--b\n", b"Content-Type: message/rfc822\n", b"Content-Transfer-Encoding: base64\n", b"\xff\x1b$B\n",
]  # fmt: skip


@given(st.binary() | st.lists(st.sampled_from(LINES)).map(b"".join))
def test_nothing_makes_it_raise(content: bytes) -> None:
    read_report(content)
