"""Mails that the sandbox's hosts send back: reports, complaints and automatic replies, each some time after a mail.

They go where the DNS of the sandbox says: to the MX host of the domain they are for, on the port that an SRV record
`_smtp._tcp` of that host names, else on the one all hosts share. What cannot be handed over is tried a few times and then
logged; nothing here is ever answered in turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import dns.exception
import dns.name
import dns.rdatatype

from sandbox.scenarios import Answer, AnswerKind, Behaviour
from sandbox.store import new_mail_id
from sandbox.zones import Zones

LOG = logging.getLogger("sandbox.answering")

_TRIES = 5
_BETWEEN_TRIES_S = 2.0
_STEP_S = 10.0
_MOST_WAITING = 10_000
_BOUNDARY = "part-of-a-report"


class Answering:
    """What waits to be sent back. `stop` forgets it."""

    def __init__(self, zones: Zones, *, port: int) -> None:
        self._zones = zones
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, behaviour: Behaviour, reverse_path: str, recipients: Sequence[str], content: bytes) -> None:
        """A mail was accepted: its answers are on their way. The null reverse-path is never answered."""
        if not reverse_path or len(self._tasks) >= _MOST_WAITING:
            return
        for recipient in recipients:
            for answer in behaviour.answers:
                task = asyncio.get_running_loop().create_task(self._answer(answer, reverse_path, recipient, content))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, answer: Answer, reverse_path: str, recipient: str, content: bytes) -> None:
        await asyncio.sleep(answer.after_s)
        sender, to, mail = _write(answer, reverse_path, recipient, content)
        for _ in range(_TRIES):
            try:
                reply = await self._hand_over(sender, to, mail)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, LookupError) as error:
                reply = f"4 {type(error).__name__}: {error}"
            if not reply.startswith("4"):
                break
            await asyncio.sleep(_BETWEEN_TRIES_S)
        LOG.info("sent back a %s to <%s>: %s", answer.kind, to, reply)

    async def _hand_over(self, sender: str, to: str, mail: bytes) -> str:
        """One SMTP conversation; the last reply, or the one that refused."""
        host, port = self._host_of(to.rpartition("@")[2])
        async with asyncio.timeout(_STEP_S):
            reader, writer = await asyncio.open_connection(host, port)
        try:
            reply = await _reply(reader)
            for command in ("EHLO mx.sandbox.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
                if reply[:1] not in "23":
                    return reply
                writer.write(f"{command}\r\n".encode())
                reply = await _reply(reader)
            if reply.startswith("354"):
                writer.write(mail.replace(b"\r\n.", b"\r\n..") + b".\r\n")
                reply = await _reply(reader)
                writer.write(b"QUIT\r\n")
            return reply
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _host_of(self, domain: str) -> tuple[str, int]:
        """Raises LookupError where the sandbox's DNS knows no way."""
        exchanges = sorted(self._records(domain, dns.rdatatype.MX), key=lambda record: record.preference)
        name = exchanges[0].exchange.to_text() if exchanges else domain
        services = self._records(f"_smtp._tcp.{name}", dns.rdatatype.SRV)
        for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            for record in self._records(name, rdtype):
                return record.address, services[0].port if services else self._port
        raise LookupError(f"no host for {domain}")

    def _records(self, name: str, rdtype: dns.rdatatype.RdataType) -> list[Any]:
        try:
            answer = self._zones.lookup(dns.name.from_text(name), rdtype)
        except dns.exception.DNSException:
            return []
        return [rdata for rrset in answer.rrsets if rrset.rdtype == rdtype for rdata in rrset]


async def _reply(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(_STEP_S):
        while True:
            line = (await reader.readuntil(b"\r\n")).decode("utf-8", "replace").rstrip()
            if line[3:4] != "-":
                return line


def _write(answer: Answer, reverse_path: str, recipient: str, content: bytes) -> tuple[str, str, bytes]:
    """Who sends it, to whom, and the mail with CRLF line ends."""
    header_section = content.partition(b"\r\n\r\n")[0]
    match answer.kind:
        case AnswerKind.DSN:
            return "", reverse_path, _dsn(answer, reverse_path, recipient, header_section)
        case AnswerKind.COMPLAINT:
            domain = reverse_path.rpartition("@")[2]
            to = f"fbl@{domain}"
            return "feedback@sandbox.test", to, _complaint(answer, reverse_path, recipient, header_section, to)
        case AnswerKind.VACATION:
            return "", reverse_path, _vacation(reverse_path, recipient)


def _dsn(answer: Answer, reverse_path: str, recipient: str, header_section: bytes) -> bytes:
    reply = answer.reply.replace("{recipient}", recipient)
    words = reply.split()
    status = words[1] if len(words) > 1 and words[1].count(".") == 2 else f"{reply[0]}.0.0"
    return _report(
        _fields("MAILER-DAEMON@sandbox.test", reverse_path, "Delivery Status Notification", "delivery-status"),
        f"The mail to {recipient} could not be handed on: {reply}",
        "message/delivery-status",
        [
            "Reporting-MTA: dns; mx.sandbox.test",
            "",
            f"Final-Recipient: rfc822; {recipient}",
            f"Action: {answer.action}",
            f"Status: {status}",
            f"Diagnostic-Code: smtp; {reply}",
        ],
        "text/rfc822-headers",
        header_section,
    )


def _complaint(answer: Answer, reverse_path: str, recipient: str, header_section: bytes, to: str) -> bytes:
    # As large receivers do: whose complaint it is stands nowhere but in the mail's own identity.
    redacted = f"redacted@{recipient.rpartition('@')[2]}"
    return _report(
        _fields("feedback@sandbox.test", to, "Complaint about a mail", "feedback-report"),
        "A reader has called this mail spam.",
        "message/feedback-report",
        [
            f"Feedback-Type: {answer.feedback_type}",
            "User-Agent: sandbox/1",
            "Version: 1",
            f"Original-Rcpt-To: {redacted}",
        ],
        "message/rfc822",
        f"Return-Path: <{reverse_path}>\r\n".encode() + header_section + b"\r\n",
    )


def _vacation(reverse_path: str, recipient: str) -> bytes:
    lines = [
        *_common_fields(recipient, reverse_path, "Out of office"),
        "Auto-Submitted: auto-replied",
        "Precedence: bulk",
        "",
        "I am away until Monday.",
        "",
    ]
    return "\r\n".join(lines).encode()


def _report(
    fields: Iterable[str], text: str, machine_type: str, machine: Iterable[str], original_type: str, original: bytes
) -> bytes:
    head = [
        *fields,
        "",
        f"--{_BOUNDARY}",
        "Content-Type: text/plain; charset=utf-8",
        "",
        text,
        "",
        f"--{_BOUNDARY}",
        f"Content-Type: {machine_type}",
        "",
        *machine,
        "",
        f"--{_BOUNDARY}",
        f"Content-Type: {original_type}",
        "",
        "",
    ]
    return "\r\n".join(head).encode() + original + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _fields(sender: str, to: str, subject: str, report_type: str) -> list[str]:
    return [
        *_common_fields(sender, to, subject),
        "Auto-Submitted: auto-generated",
        f'Content-Type: multipart/report; report-type={report_type}; boundary="{_BOUNDARY}"',
    ]


def _common_fields(sender: str, to: str, subject: str) -> list[str]:
    return [
        f"From: <{sender}>",
        f"To: <{to}>",
        f"Subject: {subject}",
        f"Date: {format_datetime(datetime.now(UTC))}",
        f"Message-ID: <{new_mail_id()}@sandbox.test>",
        "MIME-Version: 1.0",
    ]
