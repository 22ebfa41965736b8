"""Refusals as hosts word them, and the reports that programs write about them.

A row of the lists beside this file is `class form | words`: what must come out, which program reports it, and what was
said. A `!` behind the class: the address is dead for good. A rest without a code is what the program itself concluded.
The words are those of real hosts, with names and addresses of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RECIPIENT = "bob@b.example"
ORIGINAL = (
    "Received: from acme.example by mx.acme.example; Tue, 1 Jul 2025 10:00:00 +0900\nFrom: alice@acme.example\n"
    "To: bob@b.example\nSubject: Hello\nMessage-ID: <1@acme.example>\n\nHello\n"
)
DEAD = frozenset({"bad_mailbox", "bad_domain"})
# Classes only we have; collections of samples put them under these.
COUNTS_AS = {"greylist": "transient", "loop": "transient", "expired": "transient"}


@dataclass(frozen=True)
class Wording:
    class_word: str
    is_dead: bool
    form: str
    text: str

    @property
    def report(self) -> bytes:
        form, _, step = self.form.partition("@")[0].partition(":")
        return _FORMS[form](self.text, step).replace(b"b.example", self.domain.encode())

    @property
    def domain(self) -> str:
        """Behind an `@` of the form: whose mailbox it is."""
        return self.form.partition("@")[2] or "b.example"

    @property
    def recipient(self) -> str:
        return RECIPIENT.replace("b.example", self.domain)


def read_wordings(name: str) -> list[Wording]:
    lines = Path(__file__).with_name(f"{name}.txt").read_text("utf-8").splitlines()
    return [_read(line) for line in lines if line.strip() and not line.startswith("#")]


def _read(line: str) -> Wording:
    head, _, text = line.partition(" | ")
    word, form = head.split()
    return Wording(
        word.rstrip("!"), word.endswith("!") or word in DEAD, form, text.replace("\\n", "\n").replace("\\t", "\t")
    )


_STEPS = {
    "mail": "MAIL FROM command",
    "rcpt": "RCPT TO command",
    "data": "DATA command",
    "eod": "end of DATA command",
}


def _postfix(text: str, step: str) -> bytes:
    reason = {
        "own": text,
        "helo": f"host mx.b.example[192.0.2.9] refused to talk to me: {text}",
    }.get(step, f"host mx.b.example[192.0.2.9] said: {text} (in reply to {_STEPS.get(step, '')})")
    prose = (
        "This is the mail system at host mx.acme.example.\n\nI'm sorry to have to inform you that your message could not\n"
        "be delivered to one or more recipients. It's attached below.\n\n"
        "For further assistance, please send mail to postmaster.\n\n"
        f"                   The mail system\n\n<{RECIPIENT}>: {reason}\n"
    )
    diagnostic = f"X-Postfix; {text}" if step == "own" else f"smtp; {text}"
    return _report("Undelivered Mail Returned to Sender", prose, _status_of(text, step), diagnostic)


def _exim(text: str, step: str) -> bytes:
    steps = {
        "connect": "SMTP error from remote mail server after initial connection:\n    host mx.b.example [192.0.2.9]: ",
        "mail": "SMTP error from remote mail server after MAIL FROM:<alice@acme.example>:\n    host mx.b.example [192.0.2.9]: ",
        "rcpt": f"SMTP error from remote mail server after RCPT TO:<{RECIPIENT}>:\n    host mx.b.example [192.0.2.9]: ",
        "eod": "SMTP error from remote mail server after end of data:\n    host mx.b.example [192.0.2.9]: ",
        "own": "",
    }
    prose = (
        "This message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to "
        "one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n"
        f"  {RECIPIENT}\n    {steps[step]}{text}\n\n"
        f"------ This is a copy of the message, including all the headers. ------\n\n{ORIGINAL}"
    )
    head = f"X-Failed-Recipients: {RECIPIENT}\nAuto-Submitted: auto-replied\n"
    return _prose("Mail delivery failed: returning message to sender", prose, head)


def _qmail(text: str, step: str) -> bytes:
    reason = {
        "own": text,
        "rcpt": f"192.0.2.9 does not like recipient.\nRemote host said: {text}\nGiving up on 192.0.2.9.",
        "eod": f"192.0.2.9 failed after I sent the message.\nRemote host said: {text}",
    }[step]
    prose = (
        "Hi. This is the qmail-send program at mx.acme.example.\nI'm afraid I wasn't able to deliver your message to the "
        "following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        f"<{RECIPIENT}>:\n{reason}\n\n--- Below this line is a copy of the message.\n\n{ORIGINAL}"
    )
    return _prose("failure notice", prose)


def _sendmail(text: str, step: str) -> bytes:
    commands = {"mail": "MAIL From:<alice@acme.example>", "rcpt": f"RCPT To:<{RECIPIENT}>", "eod": "DATA"}
    transcript = text
    if step in commands:
        transcript = f"... while talking to mx.b.example.:\n>>> {commands[step]}\n<<< {text}"
    prose = (
        "The original message was received at Tue, 1 Jul 2025 10:00:00 +0900\nfrom localhost [127.0.0.1]\n\n"
        f"   ----- The following addresses had permanent fatal errors -----\n<{RECIPIENT}>\n\n"
        f"   ----- Transcript of session follows -----\n{transcript}\n"
    )
    diagnostic = f"SMTP; {text}" if step in commands else ""
    return _report("Returned mail: see transcript for details", prose, _status_of(text, step), diagnostic)


def _bare(text: str, step: str) -> bytes:
    prose = "The following message to <bob@b.example> was undeliverable.\nThe reason for the problem:\n" + text + "\n"
    return _report("Delivery Status Notification (Failure)", prose, _status_of(text, step), f"smtp; {text}")


def _exchange(text: str, step: str) -> bytes:
    said = text.lstrip("#")
    prose = (
        f"Delivery has failed to these recipients or groups:\n\n{RECIPIENT}<mailto:{RECIPIENT}>\n\n\n"
        f"Diagnostic information for administrators:\n\nGenerating server: mx.acme.example\n\n{RECIPIENT}\n"
        f"Remote Server returned '{text}'\n\nOriginal message headers:\n\n{ORIGINAL}"
    )
    return _report("Undeliverable: Hello", prose, _status_of(text, step), f"smtp;{said.removesuffix(' ##')}")


def _told(text: str, step: str) -> bytes:
    return _prose("Undeliverable mail", text)


def _html(text: str, step: str) -> bytes:
    return _prose("Undeliverable: Hello", text).replace(b"text/plain", b"text/html")


def _fields(text: str, step: str) -> bytes:
    report = _report("Delivery failure", "Your message could not be delivered.", "", "")
    begin, end = report.index(b"Final-Recipient"), report.index(b"\n--b\nContent-Type: message/rfc822")
    return report[:begin] + text.encode() + report[end:]


_FORMS: dict[str, Callable[[str, str], bytes]] = {
    "P": _postfix, "X": _exim, "Q": _qmail, "S": _sendmail, "D": _bare, "M": _exchange, "T": _told,
    "H": _html, "F": _fields,
}  # fmt: skip


def _status_of(text: str, step: str) -> str:
    """What reporting hosts put into the Status field: the peer's status, or x.0.0."""
    match = re.search(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.])", text)
    if match:
        return match[0]
    code = re.match(r"#?([45])\d\d\b", text)
    if code:
        return f"{code[1]}.0.0"
    return "4.4.1" if "connect" in text.lower() or "timed out" in text else "5.0.0"


def _report(subject: str, prose: str, status: str, diagnostic: str) -> bytes:
    fields = f"Final-Recipient: rfc822; {RECIPIENT}\nAction: failed\nStatus: {status}\n"
    if diagnostic:
        fields += f"Diagnostic-Code: {diagnostic}\n"
    return (
        f"Return-Path: <>\nFrom: MAILER-DAEMON@mx.acme.example\nTo: alice@acme.example\nSubject: {subject}\nMIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        f"--b\nContent-Type: text/plain; charset=utf-8\n\n{prose}\n--b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.acme.example\n\n{fields}\n--b\nContent-Type: message/rfc822\n\n{ORIGINAL}\n--b--\n"
    ).encode()


def _prose(subject: str, text: str, head: str = "") -> bytes:
    return (
        f"Return-Path: <>\n{head}From: Mail Delivery System <MAILER-DAEMON@mx.acme.example>\nTo: alice@acme.example\n"
        f"Subject: {subject}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{text}"
    ).encode()
