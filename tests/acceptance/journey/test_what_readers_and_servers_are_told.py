"""Seen from outside: readers unsubscribe with one click, and a mail server behind us gets its reports."""

from __future__ import annotations

import email
import re
import urllib.request
from email.message import EmailMessage
from email.policy import default

from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled
from tests.support.waiting import until


def mails_to(stack: Stack, recipient: str) -> list[EmailMessage]:
    """What the sandbox took for a mailbox, by its Delivered-To or To field."""
    found = []
    for path in sorted((stack.var / "sandbox" / "inbox").rglob("*.eml")):
        parsed = email.message_from_bytes(path.read_bytes(), policy=default)
        if recipient in str(parsed["To"]):
            found.append(parsed)
    return found


def send(stack: Stack, sender: Sender, author: str, recipient: str, *, options: list[str] | None = None) -> None:
    with stack.smtp(sender.username, sender.secret) as client:
        content = f"From: {author}\r\nTo: {recipient}\r\nSubject: Hello\r\n\r\nHello\r\n"
        client.sendmail(author, [recipient], content, rcpt_options=options or [])


def test_a_reader_unsubscribes_with_one_click_and_gets_no_more(stack: Stack, acme: Sender) -> None:
    issued = stack.relay(
        "credential", "issue", "--tenant", acme.slug, "--kind", "smtp", "--name", "news", "--stream", "bulk"
    )
    news = Sender(acme.slug, acme.domain, issued["username"], issued["secret"])
    reader = "reader-of-news@accept.sandbox.test"
    send(stack, news, f"news@{acme.domain}", reader)
    settled(stack, acme.slug, [reader], seconds=30)
    (mail,) = mails_to(stack, reader)
    web, mailto = re.findall(r"<([^>]+)>", mail["List-Unsubscribe"])

    # As mail programs do: no cookie, no page before.
    for _ in range(2):
        request = urllib.request.Request(web, data=b"List-Unsubscribe=One-Click", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers.get("Set-Cookie") is None

    (row,) = [one for one in stack.relay("suppression", "list", "--tenant", acme.slug) if one["address"] == reader]
    assert (row["scope"], row["reason"]) == ("stream", "unsubscribe")
    assert mailto.startswith("mailto:u-")
    send(stack, news, f"news@{acme.domain}", reader)
    until(
        lambda: (
            "suppressed"
            in {
                one["state"]
                for one in stack.relay("message", "list", "--tenant", acme.slug)
                if one["recipient"] == reader
            }
        ),
        seconds=20,
        what="the second mail to be kept back",
    )
    # Receipts go on.
    send(stack, acme, f"shop@{acme.domain}", reader)
    until(lambda: stack.inbox_copies()[reader] == 2, seconds=20, what="the receipt")


def test_a_server_that_keeps_its_reverse_path_gets_its_reports(stack: Stack, acme: Sender) -> None:
    domain = "office.inbox.sandbox.test"
    stack.relay("domain", "add", "--tenant", acme.slug, "--name", domain, "--assume-verified")
    stack.relay("domain", "update", "--name", domain, "--keep-reverse-path", "on")
    author, unknown, fine = (
        f"alice@{domain}",
        "nobody-at-all@unknown-user.sandbox.test",
        "somebody@vacation.sandbox.test",
    )

    send(stack, acme, author, unknown)
    send(stack, acme, author, fine, options=["NOTIFY=SUCCESS"])
    until(lambda: len(mails_to(stack, author)) >= 3, seconds=40, what="two reports and an automatic reply")

    told = {}
    for mail in mails_to(stack, author):
        if mail.get_content_type() == "multipart/report":
            status = next(part for part in mail.walk() if part.get_content_type() == "message/delivery-status")
            group = status.get_payload()[1]
            told[group["Final-Recipient"]] = (group["Action"], group["Status"][:1], mail["Auto-Submitted"])
    assert told == {
        f"rfc822; {unknown}": ("failed", "5", "auto-replied"),
        f"rfc822; {fine}": ("relayed", "2", "auto-replied"),
    }
    # Nobody answered a report: neither we nor the one who is on holiday.
    assert stack.inbox_copies()[author] == 3
    assert stack.inbox_copies()[fine] == 1
