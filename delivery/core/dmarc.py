"""DMARC aggregate reports: RFC 7489 appendix C and RFC 9990, as receivers really write them.

The two formats are read by the local names of their elements, so that a missing, old or wrong namespace hinders nobody.
A document type, and with it every entity, is refused (defusedxml). What is read is bounded: elements, depth, rows, and
the length of every value; a report beyond a bound is read up to it and says so.

Everything in here is the word of whoever wrote it. Nobody has to be who ``reporter`` says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.parsers.expat import ExpatError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from delivery.core.mailbox import MailboxSyntaxError, parse_domain

MAX_ELEMENTS = 400_000
MAX_DEPTH = 16
MAX_ROWS = 10_000
MAX_VALUE_CHARACTERS = 255
MAX_COUNT = 2**31 - 1
# Longest time that a report may speak about, and how far its clock may be from ours (RFC 9990 has a day in mind).
MAX_PERIOD = timedelta(days=35)
_CHUNK_OCTETS = 256 * 1024

RESULTS = frozenset({"none", "pass", "fail", "policy", "neutral", "temperror", "permerror", "softfail"})
DISPOSITIONS = frozenset({"none", "pass", "quarantine", "reject"})


class ReportError(ValueError):
    """It is no report, or a damaged one. ``reason`` is a machine word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Policy:
    """What the reporter saw in DNS. Values are lower-case words, empty where the report has none."""

    domain: str
    p: str = ""
    sp: str = ""
    adkim: str = ""
    aspf: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """Mails from one address that fared alike. ``dkim`` and ``spf`` say whether they passed *and* were aligned."""

    source: str
    header_from: str
    dkim: bool
    spf: bool
    disposition: str
    override: str
    dkim_domain: str
    dkim_selector: str
    dkim_result: str
    spf_domain: str
    spf_result: str
    count: int = 0

    @property
    def passes(self) -> bool:
        """RFC 7489 §6.6.2: one aligned pass is enough."""
        return self.dkim or self.spf


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """``is_cut``: more stood in it than was read."""

    reporter: str
    contact: str
    report_id: str
    begins_at: datetime
    ends_at: datetime
    policy: Policy
    senders: tuple[Sender, ...]
    is_cut: bool = False
    damaged_rows: int = 0

    @property
    def count(self) -> int:
        return sum(sender.count for sender in self.senders)


def looks_like_dmarc(document: bytes) -> bool:
    """Whether it may be one at all: XML that says feedback near its beginning."""
    head = document[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"<") and b"feedback" in head


def read_aggregate_report(document: bytes) -> AggregateReport:
    """Raises ReportError. Time and memory are bounded whatever the octets are."""
    reading = _Reading()
    try:
        _parse(document, reading)
    except _Enough:
        reading.is_cut = True
    except ReportError:
        raise
    except DefusedXmlException:
        raise ReportError("document_type") from None
    except (ExpatError, ValueError, LookupError):
        # Some reporters cut their own files short; what was whole before the break counts.
        if not reading.senders:
            raise ReportError("no_xml") from None
        reading.is_cut = True
    return reading.report()


def _parse(document: bytes, reading: _Reading) -> None:
    """Straight from the parser, without a tree: its memory would be many times that of the document."""
    parser: Any = DefusedXMLParser(forbid_dtd=True).parser
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    parser.CommentHandler = None
    for start in range(0, len(document), _CHUNK_OCTETS):
        parser.Parse(document[start : start + _CHUNK_OCTETS], False)
    parser.Parse(b"", True)


class _Enough(Exception):
    """A bound is reached."""


@dataclass(slots=True)
class _Reading:
    """What has been read so far. Of repeated elements the first counts, of signatures the one that passed."""

    names: list[str] = field(default_factory=list)
    characters: list[str] = field(default_factory=list)
    room: int = 0
    elements: int = 0
    values: dict[str, str] = field(default_factory=dict)
    row: dict[str, str] = field(default_factory=dict)
    signature: dict[str, str] = field(default_factory=dict)
    senders: dict[Sender, int] = field(default_factory=dict)
    rows: int = 0
    damaged_rows: int = 0
    is_cut: bool = False
    is_feedback: bool = False

    def start(self, name: str, _attributes: Any) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise _Enough
        if len(self.names) >= MAX_DEPTH:
            raise _Enough
        local = name.rpartition("}")[2][:40].lower()
        if not self.names and local != "feedback":
            raise ReportError("not_dmarc")
        self.is_feedback = True
        self.names.append(local)
        self.characters.clear()
        self.room = MAX_VALUE_CHARACTERS
        if local == "record":
            if self.rows >= MAX_ROWS:
                raise _Enough
            self.row = {}
        elif local in ("dkim", "spf") and "auth_results" in self.names:
            self.signature = {}

    def text(self, characters: str) -> None:
        if self.room > 0:
            self.characters.append(characters[: self.room])
            self.room -= len(characters)

    def end(self, name: str) -> None:
        local = self.names.pop()
        parent = self.names[-1] if self.names else ""
        if local == "record":
            self._keep_row()
        elif parent in ("dkim", "spf"):
            self.signature.setdefault(local, self._value())
        elif local in ("dkim", "spf") and parent == "auth_results":
            self._keep_signature(local)
        elif "record" in self.names:
            self.row.setdefault(f"{parent}.{local}" if parent == "policy_evaluated" else local, self._value())
        elif parent in ("report_metadata", "date_range", "policy_published"):
            self.values.setdefault(f"{parent}.{local}", self._value())
        self.characters.clear()

    def _value(self) -> str:
        return clean("".join(self.characters))

    def _keep_signature(self, kind: str) -> None:
        is_better = self.signature.get("result") == "pass" and self.row.get(f"{kind}.result") != "pass"
        if f"{kind}.result" not in self.row or is_better:
            for name in ("domain", "selector", "result"):
                self.row[f"{kind}.{name}"] = self.signature.get(name, "")

    def _keep_row(self) -> None:
        self.rows += 1
        try:
            source = _address(self.row.get("source_ip", ""))
            count = min(int(self.row.get("count", "")), MAX_COUNT)
        except ValueError:
            self.damaged_rows += 1
            return
        if count < 1:
            return
        row = self.row
        sender = Sender(
            source=source,
            header_from=_name(row.get("header_from", "")),
            dkim=row.get("policy_evaluated.dkim", "").lower() == "pass",
            spf=row.get("policy_evaluated.spf", "").lower() == "pass",
            disposition=_word(row.get("policy_evaluated.disposition", ""), DISPOSITIONS),
            override=row.get("type", "").lower()[:40],
            dkim_domain=_name(row.get("dkim.domain", "")),
            dkim_selector=row.get("dkim.selector", "")[:63],
            dkim_result=_word(row.get("dkim.result", ""), RESULTS),
            spf_domain=_name(row.get("spf.domain", "")),
            spf_result=_word(row.get("spf.result", ""), RESULTS),
        )
        self.senders[sender] = min(self.senders.get(sender, 0) + count, MAX_COUNT)

    def report(self) -> AggregateReport:
        if not self.is_feedback:
            raise ReportError("not_dmarc")
        try:
            domain = parse_domain(self.values.get("policy_published.domain", "").rstrip("."))
        except MailboxSyntaxError:
            raise ReportError("no_domain") from None
        begins_at, ends_at = read_period(self.values.get("date_range.begin", ""), self.values.get("date_range.end", ""))
        report_id = self.values.get("report_metadata.report_id", "")
        if not report_id:
            raise ReportError("no_report_id")
        published = {name: self.values.get(f"policy_published.{name}", "").lower()[:10] for name in _POLICY}
        return AggregateReport(
            reporter=self.values.get("report_metadata.org_name", "") or self.values.get("report_metadata.email", ""),
            contact=self.values.get("report_metadata.email", ""),
            report_id=report_id,
            begins_at=begins_at,
            ends_at=ends_at,
            policy=Policy(domain, **published),
            senders=by_count(replace(sender, count=count) for sender, count in self.senders.items()),
            is_cut=self.is_cut,
            damaged_rows=self.damaged_rows,
        )


_POLICY = ("p", "sp", "adkim", "aspf")


def by_count(senders: Iterable[Sender]) -> tuple[Sender, ...]:
    return tuple(sorted(senders, key=lambda sender: (-sender.count, sender.source)))


def clean(text: str) -> str:
    """One line without control characters, at most ``MAX_VALUE_CHARACTERS`` long."""
    line = " ".join(text.split())[:MAX_VALUE_CHARACTERS]
    return "".join(character for character in line if character.isprintable())


def read_period(begin: str, end: str) -> tuple[datetime, datetime]:
    """Seconds since 1970, as both RFCs have it. Raises ReportError."""
    try:
        begins_at, ends_at = (datetime.fromtimestamp(int(float(word)), tz=UTC) for word in (begin, end))
    except (ValueError, OverflowError, OSError):
        raise ReportError("no_period") from None
    if not timedelta(0) <= ends_at - begins_at <= MAX_PERIOD:
        raise ReportError("no_period")
    return begins_at, ends_at


def _address(text: str) -> str:
    """Raises ValueError for what is no address that a database would take."""
    address = ipaddress.ip_address(text.strip("[]"))
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone")
        return str(address.ipv4_mapped or address)
    return str(address)


def _name(value: str) -> str:
    # Lower-case letters of some scripts are longer than their capitals.
    return value.lower().rstrip(".")[:MAX_VALUE_CHARACTERS]


def _word(value: str, known: frozenset[str]) -> str:
    word = value.lower()
    return word if word in known else ""
