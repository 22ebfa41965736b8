"""Reads exports of Google Postmaster Tools and Microsoft SNDS. Pure; a row that cannot be read is told, with its text.

- Microsoft SNDS, the CSV of its data page and of its automated access: fourteen columns, usually without a header row (IP
  address, activity start and end, RCPT commands, DATA commands, message recipients, filter result, complaint rate, trap
  message period start and end, trap hits, sample HELO, sample MAIL FROM, comments).
- Google Postmaster Tools, the traffic statistics as its API writes them (JSON, ``domains.trafficStats``), and CSV with the
  same fields as columns beside ``domain`` and ``date``.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from delivery.core.mailbox import MailboxSyntaxError, parse_domain

GOOGLE, MICROSOFT = "google", "microsoft"
MOST_ROWS = 100_000

_SNDS_TIMES = (
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d",
)
_FILTER_RESULTS = ("GREEN", "YELLOW", "RED")
_REPUTATIONS = ("HIGH", "MEDIUM", "LOW", "BAD", "REPUTATION_CATEGORY_UNSPECIFIED")
_RATIOS = (
    "user_reported_spam_ratio", "spf_success_ratio", "dkim_success_ratio", "dmarc_success_ratio",
    "outbound_encryption_ratio", "inbound_encryption_ratio",
)  # fmt: skip
# Columns by what people and programs call them, without case and marks.
_GOOGLE_NAMES: Mapping[str, str] = {
    "domain": "domain", "domainname": "domain", "date": "date", "day": "date", "domainreputation": "domain_reputation",
    "userreportedspamrate": "user_reported_spam_ratio", "spamrate": "user_reported_spam_ratio",
    **{name.replace("_", ""): name for name in _RATIOS},
    **{name.replace("_ratio", "_rate").replace("_", ""): name for name in _RATIOS},
}  # fmt: skip


class Unreadable(ValueError):
    """Nothing of the file can be read; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Day:
    subject: str
    day: date
    figures: Mapping[str, Any]
    period: str = ""


@dataclass(frozen=True, slots=True)
class Bad:
    line: int
    text: str
    why: str


@dataclass(slots=True)
class Read:
    kind: str
    days: list[Day] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)


def read(content: bytes) -> Read:
    """Which of the formats it is shows by itself. Raises Unreadable."""
    text = _text(content)
    if not text.strip():
        raise Unreadable("the file is empty")
    found = _read_json(text) if text.lstrip()[:1] in {"{", "["} else _read_csv(text)
    if len(found.days) + len(found.bad) > MOST_ROWS:
        raise Unreadable(f"the file has more than {MOST_ROWS:,} rows")
    return found


def _text(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return content.decode(encoding).replace("\0", "")
    except UnicodeDecodeError:
        raise Unreadable("the file is no text (UTF-8 or UTF-16)") from None


# ---------------------------------------------------------------- CSV


def _read_csv(text: str) -> Read:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = _rows(text, delimiter)
    try:
        number, first = next(rows)
    except StopIteration:
        raise Unreadable("the file has no rows") from None
    columns = [_GOOGLE_NAMES.get(_plain(cell), "") for cell in first]
    if "date" in columns:
        return _google_rows(columns, rows)
    if _is_address(first[0]) or (_plain(first[0]) in {"ipaddress", "ip"} and len(first) > 5):
        return _snds_rows(number, first, rows)
    raise Unreadable("it is neither an export of Google Postmaster Tools (a column “date”) nor one of Microsoft SNDS")


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num} cannot be read: {error}") from None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _google_rows(columns: list[str], rows: Iterator[tuple[int, list[str]]]) -> Read:
    if "domain" not in columns:
        raise Unreadable("there is no column “domain”: add one with the domain of each row")
    found = Read(GOOGLE)
    for number, cells in rows:
        values = {name: cell for name, cell in zip(columns, cells, strict=False) if name and cell}
        _take(found, number, cells, lambda values=values: _google_day(values))
    return found


def _snds_rows(number: int, first: list[str], rows: Iterator[tuple[int, list[str]]]) -> Read:
    found = Read(MICROSOFT)
    if _is_address(first[0]):
        _take(found, number, first, lambda: _snds_day(first))
    for line, cells in rows:
        _take(found, line, cells, lambda cells=cells: _snds_day(cells))
    return found


def _take(found: Read, number: int, cells: list[str], make: Any) -> None:
    try:
        found.days.append(make())
    except ValueError as error:
        found.bad.append(Bad(number, ",".join(cells)[:1000], str(error)[:200]))


# ---------------------------------------------------------------- Microsoft


def _snds_day(cells: list[str]) -> Day:
    if len(cells) < 11:
        raise ValueError(f"{len(cells)} columns, 14 are written by SNDS")
    cells = [*cells, *[""] * (14 - len(cells))]
    if not _is_address(cells[0]):
        raise ValueError(f"{cells[0]!r} is no IP address")
    begun = _moment(cells[1])
    if cells[6].upper() not in _FILTER_RESULTS:
        raise ValueError(f"{cells[6]!r} is no filter result")
    figures = {
        "rcpt_commands": _count(cells[3]),
        "data_commands": _count(cells[4]),
        "recipients": _count(cells[5]),
        "filter_result": cells[6].lower(),
        "complaint_rate": _rate_in_words(cells[7]),
        "trap_from": cells[8][:40],
        "trap_until": cells[9][:40],
        "trap_hits": _count(cells[10] or "0"),
        "sample_helo": cells[11][:255],
        "sample_mail_from": cells[12][:320],
        "comments": cells[13][:500],
    }
    return Day(str(ipaddress.ip_address(cells[0])), begun.date(), figures, f"{cells[1]} – {cells[2]}"[:80])


def _moment(text: str) -> datetime:
    for form in _SNDS_TIMES:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - SNDS tells no zone; only the day is used
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time as SNDS writes it")


def _count(text: str) -> int:
    plain = text.replace(",", "")
    if not (plain.isascii() and plain.isdigit() and len(plain) < 16):
        raise ValueError(f"{text!r} is no number")
    return int(plain)


def _rate_in_words(text: str) -> str:
    """SNDS tells small ones as “< 0.1%”."""
    if text and not re.fullmatch(r"[<>]?\s*\d{1,3}(\.\d+)?\s*%", text):
        raise ValueError(f"{text!r} is no rate")
    return re.sub(r"\s+", " ", text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------- Google


def _google_day(values: Mapping[str, Any]) -> Day:
    figures: dict[str, Any] = {}
    for name in _RATIOS:
        if values.get(name) not in (None, ""):
            figures[name] = _ratio(values[name])
    reputation = str(values.get("domain_reputation") or "").upper()
    if reputation:
        if reputation not in _REPUTATIONS:
            raise ValueError(f"{reputation!r} is no reputation")
        if reputation != _REPUTATIONS[-1]:
            figures["domain_reputation"] = reputation.lower()
    for name in ("ip_reputations", "delivery_errors", "spammy_feedback_loops"):
        if values.get(name):
            figures[name] = values[name]
    if not figures:
        raise ValueError("it has no figure")
    return Day(_domain(str(values.get("domain") or "")), _date(str(values.get("date") or "")), figures)


def _ratio(value: Any) -> float:
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%").replace(",", ".")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{text!r} is no share") from None
    if not 0 <= number <= 1:
        raise ValueError(f"{text!r} is no share between 0 and 1 (or a percentage)")
    return number


def _date(text: str) -> date:
    for form in ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no date")


def _domain(text: str) -> str:
    try:
        return parse_domain(text.strip().rstrip("."))
    except MailboxSyntaxError:
        raise ValueError(f"{text!r} is no domain") from None


_NAME = re.compile(r"domains/(?P<domain>[^/]+)/trafficStats/(?P<day>\d{8})")


def _read_json(text: str) -> Read:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the file is no JSON: {error}") from None
    rows = data.get("trafficStats", data.get("traffic_stats")) if isinstance(data, dict) else data
    if isinstance(data, dict) and rows is None and "name" in data:
        rows = [data]
    if not isinstance(rows, list):
        raise Unreadable("there are no traffic statistics (trafficStats) in it")
    found = Read(GOOGLE)
    for place, row in enumerate(rows, start=1):
        _take(found, place, [json.dumps(row, ensure_ascii=False)], lambda row=row: _google_entry(row))
    return found


def _google_entry(row: Any) -> Day:
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    values = {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower(): value for name, value in row.items()}
    named = _NAME.fullmatch(str(values.get("name", "")))
    if named is None:
        raise ValueError("its name is not domains/…/trafficStats/yyyymmdd")
    return _google_day({**values, "domain": named["domain"], "date": named["day"]})
