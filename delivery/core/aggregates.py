"""Finding the aggregate reports in a mail (RFC 7489 §7.2.1.1, RFC 9990, RFC 8460 §5.3), or in a file as it was attached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from delivery.core.dmarc import AggregateReport, ReportError, looks_like_dmarc, read_aggregate_report
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.core.mime import Part, read_mail
from delivery.core.tls_reports import TlsReport, looks_like_tls_report, read_tls_report
from delivery.core.unpacking import UnpackError, unpack

MAX_REPORTS = 5
_PACKED = (b"\x1f\x8b", b"PK\x03\x04")
# receiver!policy-domain!begin!end[!unique].xml.gz
_FILE_NAME = re.compile(r"[^!\s]{1,255}!([^!\s]{1,255})!\d{5,12}!\d{5,12}")
_SUBJECT = re.compile(r"report[ -]domain:\s*([a-z0-9._-]{1,255})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something that was to be a report. ``domain`` is whom its name or subject is about, or empty."""

    reason: str
    domain: str


Found = AggregateReport | TlsReport | Damaged


def find_aggregates(content: bytes) -> list[Found]:
    """The reports in a mail; empty when it brings none. Never raises; bounded in time and memory."""
    mail = read_mail(content)
    found: list[Found] = []
    for part in mail.walk():
        if part.is_enclosed or part.children or len(found) >= MAX_REPORTS:
            continue
        for one in _read(part.octets(), is_named=_is_named_report(part)):
            found.append(Damaged(one.reason, _domain_of(part, mail)) if isinstance(one, Damaged) else one)
            if len(found) >= MAX_REPORTS or isinstance(one, Damaged):
                # One hostile file is as much time as a mail is given.
                return found
    return found


def read_aggregate_file(octets: bytes) -> list[Found]:
    """A file as it was attached: XML, JSON, gzip or ZIP; empty when it is none of them."""
    return list(_read(octets, is_named=octets.startswith(_PACKED)))[:MAX_REPORTS]


def _read(octets: bytes, *, is_named: bool) -> Iterator[Found]:
    if not is_named and not octets.startswith(_PACKED) and not _looks_like_report(octets):
        return
    try:
        documents = unpack(octets)
    except UnpackError as error:
        if is_named:
            yield Damaged(error.reason, "")
        return
    for document in documents:
        if not is_named and not _looks_like_report(document):
            continue
        try:
            yield read_tls_report(document) if looks_like_tls_report(document) else read_aggregate_report(document)
        except ReportError as error:
            yield Damaged(error.reason, "")


def _looks_like_report(document: bytes) -> bool:
    return looks_like_dmarc(document) or looks_like_tls_report(document)


def _is_named_report(part: Part) -> bool:
    return part.media_type in ("application/tlsrpt+gzip", "application/tlsrpt+json") or bool(
        _FILE_NAME.search(_name_of(part))
    )


def _name_of(part: Part) -> str:
    disposition = part.first("content-disposition")
    match = re.search(r'filename\*?\s*=\s*"?([^";]{1,400})', disposition, re.IGNORECASE)
    return match[1] if match else part.parameters.get("name", "")


def _domain_of(part: Part, mail: Part) -> str:
    match = _FILE_NAME.search(_name_of(part)) or _SUBJECT.search(mail.first("subject"))
    tls_domain = mail.first("tls-report-domain")
    try:
        return parse_domain(tls_domain.strip() or (match[1] if match else "").rstrip("."))
    except MailboxSyntaxError:
        return ""
