"""Notices of sending services that are JSON in a mail: a type, and lists of recipients with what was said to them.

Read by the names of the members, so that any service which words them alike is understood. Never raises; the text is
bounded by its caller, and nesting by the parser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from delivery.core.dsn import tidy_address

MAX_CHARACTERS = 128 * 1024
MAX_RECIPIENTS = 100


@dataclass(frozen=True, slots=True)
class JsonRecipient:
    address: str
    status: str
    diagnostic: str


@dataclass(frozen=True, slots=True)
class JsonNotice:
    """`kind` is bounce, delivery, complaint or delay."""

    kind: str
    subtype: str
    recipients: tuple[JsonRecipient, ...]


_KINDS = {
    "bounce": "bounce", "complaint": "complaint", "delivery": "delivery", "delivered": "delivery", "send": "delivery",
    "deliverydelay": "delay", "reject": "bounce",
}  # fmt: skip
_LISTS = ("bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients")


def read_json_notice(text: str) -> JsonNotice | None:
    """The notice at the beginning of a text, None when there is none."""
    begin = text.find("{", 0, 200)
    if begin < 0 or text[:begin].strip():
        return None
    document = _decode(text[begin : begin + MAX_CHARACTERS])
    if isinstance(document.get("Message"), str):
        # A publishing service wraps the notice once more.
        document = _decode(document["Message"][:MAX_CHARACTERS])
    kind = _KINDS.get(str(document.get("notificationType") or document.get("eventType") or "").lower())
    if kind is None:
        return None
    details = document.get(
        next((name for name in ("bounce", "complaint", "delivery", "deliveryDelay") if name in document), "")
    )
    details = details if isinstance(details, dict) else {}
    subtype = str(details.get("complaintFeedbackType") or details.get("bounceSubType") or "")
    return JsonNotice(kind, subtype, tuple(_recipients(details)))


def _decode(text: str) -> dict[str, Any]:
    try:
        document, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # Long lines are sometimes broken inside of strings.
        try:
            document, _ = json.JSONDecoder(strict=False).raw_decode(text.replace("\n", ""))
        except (ValueError, RecursionError):
            return {}
    return document if isinstance(document, dict) else {}


def _recipients(details: dict[str, Any]) -> list[JsonRecipient]:
    entries: list[Any] = next((details[name] for name in _LISTS if isinstance(details.get(name), list)), [])
    general = str(details.get("smtpResponse") or details.get("bounceSubType") or "")
    found: list[JsonRecipient] = []
    for entry in entries[:MAX_RECIPIENTS]:
        if isinstance(entry, str):
            address, status, diagnostic = entry, "", general
        elif isinstance(entry, dict):
            address = str(entry.get("emailAddress") or "")
            status = str(entry.get("status") or "")
            diagnostic = str(entry.get("diagnosticCode") or general)
        else:
            continue
        if tidy_address(address):
            found.append(JsonRecipient(tidy_address(address), status[:20], diagnostic[:4000]))
    return found
