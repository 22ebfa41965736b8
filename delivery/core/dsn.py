"""Delivery status notifications (RFC 3464), read as leniently as they are written.

Fields are taken by name, wherever blank lines are missing or too many, in any order, folded or simply continued, and
also where they stand in plain text. Nothing here judges; `reports` puts the facts together. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from delivery.core.content import display_text

MAX_RECIPIENTS = 100
MAX_LINES = 4000
MAX_FIELD_CHARACTERS = 4000


class DsnAction(StrEnum):
    """What became of a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"

    @property
    def is_success(self) -> bool:
        return self in (DsnAction.DELIVERED, DsnAction.RELAYED, DsnAction.EXPANDED)


@dataclass(frozen=True, slots=True)
class StatusRecipient:
    """The fields about one recipient. `address` is whom the mail failed for, `original` whom it had been sent to."""

    address: str
    original: str
    action: DsnAction | None
    status: str
    diagnostic: str
    remote_host: str


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    reporting_host: str
    envelope_id: str
    recipients: tuple[StatusRecipient, ...]


_FIELD = re.compile(r"[> \t]{0,6}([A-Za-z][A-Za-z-]{2,40})[ \t]*:[ \t]*(.*)")
_ADDRESS_FIELDS = ("final-recipient", "x-actual-recipient", "original-recipient")
_PER_RECIPIENT = frozenset(
    {
        *_ADDRESS_FIELDS, "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date", "will-retry-until",
        "final-log-id", "x-supplementary-info", "x-display-name",
    }
)  # fmt: skip
_PER_MESSAGE = frozenset({"reporting-mta", "original-envelope-id", "dsn-gateway", "received-from-mta", "arrival-date"})
_STARTERS = frozenset({"final-recipient", "original-recipient", "action", "status"})
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d)")
# A type before the value: `rfc822;`, `dns;`, `smtp;`, `X-Postfix;`, `utf-8;`.
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}\s*;\s*")
_BRACKETED = re.compile(r"<([^<>\s]{1,320})>")
_BARE = re.compile(r"(?:\"[^\"\s<>]{1,64}\"|[^\s<>()\[\],;:\"]{1,128})@[A-Za-z0-9\x80-\U0010ffff._-]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")


def read_delivery_status(text: str) -> DeliveryStatus:
    """The facts in a delivery-status body, or in a text that has such lines among others."""
    message: dict[str, str] = {}
    groups: list[dict[str, str]] = [{}]
    previous, after_blank = "", False
    for line in text.split("\n", MAX_LINES)[:MAX_LINES]:
        name, value = _field_of(line)
        if name in _PER_RECIPIENT:
            if _starts_new(name, groups[-1], after_blank=after_blank):
                if len(groups) >= MAX_RECIPIENTS:
                    break
                groups.append({})
            groups[-1].setdefault(name, value[:MAX_FIELD_CHARACTERS])
            previous, target = name, groups[-1]
        elif name in _PER_MESSAGE:
            message.setdefault(name, value[:MAX_FIELD_CHARACTERS])
            previous, target = name, message
        elif name.startswith("x-") or not line.strip():
            previous = ""
        elif previous and (line[:1] in " \t" or not name):
            target[previous] = f"{target[previous]} {line.strip()}"[:MAX_FIELD_CHARACTERS]
        else:
            previous = ""
        after_blank = not line.strip()
    recipients = [_recipient(group) for group in groups]
    return DeliveryStatus(
        reporting_host=_host(message.get("reporting-mta", "")),
        envelope_id=message.get("original-envelope-id", ""),
        recipients=tuple(recipient for recipient in recipients if recipient is not None),
    )


def read_address(value: str) -> str:
    """The address in a field such as `rfc822; <a@example.test>`; empty when there is none."""
    match = _TYPE.match(value)
    bare = value[match.end() :] if match else value
    bracketed = _BRACKETED.search(bare)
    if bracketed and "@" in bracketed[1]:
        return tidy_address(bracketed[1])
    found = _BARE.search(bare)
    return tidy_address(found[0]) if found else ""


def tidy_address(address: str) -> str:
    """Without the decorations that reports leave on: `mailto:`, quotes, full stops, angle brackets."""
    address = address.strip().strip("<>\"'`").removeprefix("mailto:").removeprefix("smtp:").removeprefix("SMTP:")
    local_part, separator, domain = address.rpartition("@")
    if not separator or not local_part:
        return ""
    return f"{local_part.strip(chr(34))}@{domain.rstrip('.,;:)>').lower()}"


def read_status(text: str) -> str:
    """The first enhanced status in a text; empty when there is none."""
    match = _STATUS.search(text)
    return f"{match[1]}.{int(match[2])}.{int(match[3])}" if match else ""


def _field_of(line: str) -> tuple[str, str]:
    match = _FIELD.match(line[: MAX_FIELD_CHARACTERS + 64])
    return (match[1].lower(), match[2].strip()) if match else ("", "")


def _starts_new(name: str, group: Mapping[str, str], *, after_blank: bool) -> bool:
    if name in group and (name in _STARTERS or after_blank):
        return True
    has_address = any(field in group for field in _ADDRESS_FIELDS)
    return after_blank and has_address and name in _ADDRESS_FIELDS and ("action" in group or "status" in group)


def _recipient(group: Mapping[str, str]) -> StatusRecipient | None:
    addresses = {name: read_address(group[name]) for name in _ADDRESS_FIELDS if name in group}
    address = next((found for found in addresses.values() if found), "")
    if not address and not ("action" in group and "status" in group):
        return None
    original = addresses.get("original-recipient", "")
    return StatusRecipient(
        address=address,
        # RFC 3461 §4: some hosts hand the ORCPT on in xtext.
        original=address if _decode_xtext(original).lower() == address.lower() else original,
        action=_action(group.get("action", "")),
        status=read_status(group.get("status", "")),
        diagnostic=_diagnostic(group),
        remote_host=_host(group.get("remote-mta", "")),
    )


def _decode_xtext(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)


def _diagnostic(group: Mapping[str, str]) -> str:
    """What the peer said; the comment behind the status where that is all there is."""
    written = group.get("diagnostic-code", "")
    match = _TYPE.match(written)
    said = (written[match.end() :] if match else written).strip()
    if said:
        return display_text(said.encode("utf-8", "replace")) if "=?" in said else said
    _, _, comment = group.get("status", "").partition("(")
    return comment.rstrip(") ")


_ACTIONS = {action.value: action for action in DsnAction} | {
    "fail": DsnAction.FAILED, "failure": DsnAction.FAILED, "expired": DsnAction.FAILED, "deferred": DsnAction.DELAYED,
    "delay": DsnAction.DELAYED, "deliverable": DsnAction.DELIVERED, "relay": DsnAction.RELAYED,
}  # fmt: skip


def _action(value: str) -> DsnAction | None:
    word = re.match(r"[a-z]+", value.strip().lower())
    return _ACTIONS.get(word[0]) if word else None


def _host(value: str) -> str:
    match = _TYPE.match(value)
    found = _HOST.search(value[match.end() :] if match else value)
    return found[0].lower().rstrip(".") if found else ""
