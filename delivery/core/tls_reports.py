"""TLS reports (RFC 8460): how often receivers' senders could reach us over TLS, and why not.

Decoded straight into the few members that are shown, so that whatever else stands in a report costs no memory. Everything
in it is the word of whoever wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from delivery.core.dmarc import MAX_COUNT, MAX_PERIOD, ReportError, clean
from delivery.core.mailbox import MailboxSyntaxError, parse_domain

# A list of empty objects takes some fifty times its size in memory; real reports are a few KB.
MAX_OCTETS = 512 * 1024
MAX_POLICIES = 100
MAX_FAILURES = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of failed session (RFC 8460 §4.3)."""

    kind: str
    count: int
    sending_address: str = ""
    receiving_host: str = ""
    receiving_address: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """Sessions under one policy: ``sts``, ``tlsa`` or ``no-policy-found``."""

    kind: str
    domain: str
    successes: int
    failures: int
    details: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class TlsReport:
    reporter: str
    contact: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    policies: tuple[PolicyResult, ...]

    @property
    def domain(self) -> str:
        """A report is about one domain (RFC 8460 §4.1), which its policies name."""
        return self.policies[0].domain


class _Name(msgspec.Struct, rename="kebab"):
    policy_type: str = ""
    policy_domain: str = ""


class _Summary(msgspec.Struct, rename="kebab"):
    total_successful_session_count: float = 0
    total_failure_session_count: float = 0


class _Detail(msgspec.Struct, rename="kebab"):
    result_type: str = ""
    sending_mta_ip: str | None = None
    receiving_mx_hostname: str | None = None
    receiving_ip: str | None = None
    failed_session_count: float = 0
    failure_reason_code: str | None = None
    additional_information: str | None = None


class _Policy(msgspec.Struct, rename="kebab"):
    policy: _Name = msgspec.field(default_factory=_Name)
    summary: _Summary = msgspec.field(default_factory=_Summary)
    failure_details: list[_Detail] | None = None


class _Range(msgspec.Struct, rename="kebab"):
    start_datetime: datetime
    end_datetime: datetime


class _Report(msgspec.Struct, rename="kebab"):
    date_range: _Range
    report_id: str
    policies: list[_Policy]
    organization_name: str | None = None
    contact_info: str | None = None


_DECODER = msgspec.json.Decoder(_Report, strict=False)


def looks_like_tls_report(document: bytes) -> bool:
    head = document[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and (b"date-range" in document[:65536] or b"policies" in document[:65536])


def read_tls_report(document: bytes) -> TlsReport:
    """Raises ReportError. Time and memory are bounded whatever the octets are."""
    if len(document) > MAX_OCTETS:
        raise ReportError("too_large")
    try:
        found = _DECODER.decode(document.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise ReportError("no_tls_report") from None
    if not clean(found.report_id):
        raise ReportError("no_report_id")
    policies = tuple(_policy(one) for one in found.policies[:MAX_POLICIES])
    if not policies:
        raise ReportError("no_policies")
    begins_at, ends_at = found.date_range.start_datetime, found.date_range.end_datetime
    if begins_at.tzinfo is None or ends_at.tzinfo is None or not timedelta(0) <= ends_at - begins_at <= MAX_PERIOD:
        raise ReportError("no_period")
    return TlsReport(
        reporter=clean(found.organization_name or "") or clean(found.contact_info or ""),
        contact=clean(found.contact_info or ""),
        report_id=clean(found.report_id),
        begins_at=begins_at,
        ends_at=ends_at,
        policies=policies,
    )


def _policy(one: _Policy) -> PolicyResult:
    try:
        domain = parse_domain(one.policy.policy_domain.rstrip("."))
    except MailboxSyntaxError:
        raise ReportError("no_domain") from None
    return PolicyResult(
        kind=clean(one.policy.policy_type).lower()[:20],
        domain=domain,
        successes=_count(one.summary.total_successful_session_count),
        failures=_count(one.summary.total_failure_session_count),
        details=tuple(_failure(detail) for detail in (one.failure_details or [])[:MAX_FAILURES]),
    )


def _failure(detail: _Detail) -> Failure:
    return Failure(
        kind=clean(detail.result_type).lower()[:60],
        count=_count(detail.failed_session_count),
        sending_address=clean(detail.sending_mta_ip or "")[:45],
        receiving_host=clean(detail.receiving_mx_hostname or ""),
        receiving_address=clean(detail.receiving_ip or "")[:45],
        detail=clean(detail.failure_reason_code or detail.additional_information or ""),
    )


def _count(number: float) -> int:
    return int(min(max(number, 0), MAX_COUNT)) if number == number else 0
