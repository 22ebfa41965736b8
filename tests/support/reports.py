"""Mails that come back, as receiving hosts write them."""

from __future__ import annotations


def dsn(
    recipient: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "550 5.1.1 <{recipient}>: user unknown",
    original: str = "",
) -> bytes:
    said = diagnostic.format(recipient=recipient)
    first = f"Original-Recipient: rfc822;{original}\n" if original else ""
    return f"""From: Mail Delivery System <MAILER-DAEMON@mx.far.test>
To: bounces@bounce.relay.test
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Your message could not be delivered to {recipient}: {said}

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.test

{first}Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {said}

--b--
""".replace("\n", "\r\n").encode()


def complaint(bounce_mailbox: str, *, feedback_type: str = "abuse", named: str = "") -> bytes:
    original = f"Original-Rcpt-To: {named}\n" if named else ""
    return_path = f"Return-Path: <{bounce_mailbox}>\n" if bounce_mailbox else ""
    return f"""From: feedback@far.test
To: fbl@bounce.relay.test
Subject: FW: Hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: {feedback_type}
User-Agent: FBL/1.0
Version: 1
{original}
--b
Content-Type: message/rfc822

{return_path}From: shop@acme.example
Subject: Hello

Hello
--b--
""".replace("\n", "\r\n").encode()


def vacation(author: str) -> bytes:
    return f"""From: {author}
To: bounces@bounce.relay.test
Subject: Out of office
Auto-Submitted: auto-replied

I am away until Monday.
""".replace("\n", "\r\n").encode()
