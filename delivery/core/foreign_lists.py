"""Lists that other systems write out: suppressions and domains of Postal, SendGrid, Mailgun and Amazon SES, as CSV or JSON.

Reads what their consoles and APIs give, whichever of the two; pages of an API that were written behind one another in one
file are read as one. What a row says is told as it stands; a row that says nothing usable is a ``RowFault``.

- Postal: table `suppressions` (type, address, reason, timestamp, keep_until), as `mysql --batch` or CSV; table `domains`.
- SendGrid: /v3/suppression/bounces, invalid_emails, spam_reports, unsubscribes, and /v3/asm/groups/ID/suppressions;
  /v3/whitelabel/domains.
- Mailgun: /v3/DOMAIN/bounces, complaints, unsubscribes; /v4/domains.
- Amazon SES: sesv2 ListSuppressedDestinations; ListEmailIdentities.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class System(StrEnum):
    POSTAL = "postal"
    SENDGRID = "sendgrid"
    MAILGUN = "mailgun"
    SES = "ses"


class ListKind(StrEnum):
    BOUNCES = "bounces"
    COMPLAINTS = "complaints"
    UNSUBSCRIBES = "unsubscribes"


# Whose rows say themselves what they are.
TELLS_KIND = frozenset({System.POSTAL, System.SES})
_SES_REASONS = {"BOUNCE": ListKind.BOUNCES, "COMPLAINT": ListKind.COMPLAINTS}
_ENVELOPES = ("items", "result", "SuppressedDestinationSummaries", "EmailIdentities", "suppressions")
_NOTHING = {"", "NULL", "\\N", "null"}


class ForeignListError(Exception):
    """The file as a whole cannot be read, as a sentence."""


@dataclass(frozen=True, slots=True)
class RowFault:
    row: int
    sentence: str


@dataclass(frozen=True, slots=True)
class ForeignSuppression:
    """``row`` counts from 1 without the header; ``keep_until`` is when the other system would have forgotten it.

    ``only`` names the part of a tenant's mail that it is for; empty: all of it.
    """

    row: int
    address: str
    kind: ListKind
    detail: str = ""
    keep_until: datetime | None = None
    only: str = ""


def read_suppressions(text: str, *, system: System, kind: ListKind | None) -> Iterator[ForeignSuppression | RowFault]:
    """``kind`` is needed where the rows do not say it (``TELLS_KIND``). Raises ForeignListError."""
    if kind is None and system not in TELLS_KIND:
        raise ForeignListError(f"The lists of {system} look alike: say what it is.")
    for number, row in enumerate(_rows(text), start=1):
        try:
            yield _suppression(number, row, system=system, kind=kind)
        except ValueError as error:
            yield RowFault(number, str(error))


def _suppression(number: int, row: Mapping[str, str], *, system: System, kind: ListKind | None) -> ForeignSuppression:
    """Raises ValueError."""
    address = next((row[name] for name in ("address", "email", "emailaddress", "recipient") if row.get(name)), "")
    if not address:
        raise ValueError("It has no address.")
    if system is System.POSTAL:
        if row.get("type", "recipient") != "recipient":
            raise ValueError(f"It is about a {row['type']}, not a recipient.")
        until = _unix(row.get("keep_until", ""))
        return ForeignSuppression(number, address, kind or ListKind.BOUNCES, row.get("reason", ""), until)
    if system is System.SES:
        reason = row.get("reason", "").upper()
        if kind is None and reason not in _SES_REASONS:
            raise ValueError(f"Its reason is {reason or 'missing'}, neither BOUNCE nor COMPLAINT.")
        return ForeignSuppression(number, address, kind or _SES_REASONS[reason])
    assert kind is not None
    detail = " ".join(row[name] for name in ("code", "status", "error", "reason") if row.get(name))
    tags = _tags(row) if system is System.MAILGUN and kind is ListKind.UNSUBSCRIBES else []
    return ForeignSuppression(number, address, kind, detail, only="" if not tags or "*" in tags else ", ".join(tags))


def read_domains(text: str) -> list[str]:
    """Names of sending domains, in their order; identities that are addresses are left out. Raises ForeignListError."""
    names = []
    for row in _rows(text):
        name = next((row[key] for key in ("identityname", "domain", "name", "address") if row.get(key)), "")
        if name and "@" not in name and name not in names:
            names.append(name)
    return names


def _tags(row: Mapping[str, str]) -> list[str]:
    text = row.get("tags") or row.get("tag") or ""
    try:
        found = json.loads(text)
    except ValueError:
        found = text.split(",")
    return [str(tag).strip() for tag in (found if isinstance(found, list) else [found]) if str(tag).strip()]


def _unix(text: str) -> datetime | None:
    """Raises ValueError."""
    if not text:
        return None
    try:
        return datetime.fromtimestamp(float(text), tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:40]} is no Unix time.") from None


# ---------------------------------------------------------------- rows


def _rows(text: str) -> Iterator[dict[str, str]]:
    text = text.lstrip("\ufeff \t\r\n")
    if not text:
        raise ForeignListError("The file is empty.")
    raw = _of_json(text) if text[0] in "[{" else _of_csv(text)
    for row in raw:
        cells = {str(name).strip().lower(): _plain(value) for name, value in row.items() if name is not None}
        yield {name: value for name, value in cells.items() if value not in _NOTHING}


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _of_json(text: str) -> Iterator[Mapping[str, Any]]:
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise ForeignListError(f"It is no JSON: {error}.") from None
        yield from _of_document(document)
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1


def _of_document(document: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(document, Mapping):
        inside = next((document[name] for name in _ENVELOPES if isinstance(document.get(name), list)), None)
        document = [document] if inside is None else inside
    for row in document if isinstance(document, list) else []:
        # SendGrid's groups are bare lists of addresses.
        yield row if isinstance(row, Mapping) else {"address": str(row)}


def _of_csv(text: str) -> Iterator[Mapping[str, Any]]:
    first = text.partition("\n")[0]
    lines: Iterable[str] = text.replace("\0", "").splitlines(keepends=True)
    # What `mysql --batch` writes is separated by tabs and quotes nothing.
    tabs = "\t" in first
    reader = csv.DictReader(
        lines, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    )
    try:
        names = {str(name).strip().lower() for name in reader.fieldnames or ()}
        if not names & {"address", "email", "emailaddress", "recipient", "domain", "name", "identityname"}:
            raise ForeignListError("Its first line names no column with addresses or domains.")
        yield from reader
    except csv.Error as error:
        raise ForeignListError(f"It is no CSV: {error}.") from None
