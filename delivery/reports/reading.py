"""Reading a report with everything we have: the providers known by name, and a library as a last resort.

Needs neither a database nor Django. `flufl.bounce` is asked only where our own reading found no failed address; it is
given the text of the notice alone, so that what a stranger nested or compressed never reaches it, and what it finds is
weak evidence (`delivery.core.reports`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from email.message import EmailMessage
from functools import cache
from pathlib import Path

from flufl.bounce import all_failures

from delivery.core.reports import Report, read_report

_PROVIDERS = Path(__file__).parents[1] / "shaping" / "providers.toml"
# Hosts that speak for a provider in reports without being among its MX hosts, and mailbox domains of its own.
_REPORTING_HOSTS = {
    "hotmail.com": "outlook", "outlook.com": "outlook", "live.com": "outlook", "msn.com": "outlook",
    ".hotmail.com": "outlook", ".outlook.com": "office365",
    "icloud.com": "apple", "me.com": "apple", "mac.com": "apple", ".me.com": "apple", ".mac.com": "apple",
    "gmail.com": "google", "googlemail.com": "google",
    "yahoo.com": "yahoo", "ymail.com": "yahoo", "rocketmail.com": "yahoo", "aol.com": "yahoo", ".aol.com": "yahoo",
    "orange.fr": "orange", "wanadoo.fr": "orange", "laposte.net": "orange", ".laposte.net": "orange",
}  # fmt: skip
# The line that begins each mail of an mbox: sender and date.
_MBOX_LINE = re.compile(rb"\n\nFrom [^\s\n]{1,200} +[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [^\n]{4,40}\n")
_MAX_MAILS = 1000
_MAX_NOTICE_CHARACTERS = 32 * 1024


def read_returned(content: bytes) -> Report:
    """Understand a mail that came back. Never raises; bounded in time and memory."""
    return read_report(content, provider_of=provider_of, find_addresses=find_addresses)


def read_returned_file(content: bytes) -> list[Report]:
    """The reports of a file: one mail, or an mbox of several."""
    return [read_returned(mail) for mail in split_mbox(content)]


def split_mbox(content: bytes) -> list[bytes]:
    """The mails of an mbox; anything else is one mail."""
    if not content.startswith(b"From "):
        return [content]
    starts = [0, *(match.start() + 2 for match in _MBOX_LINE.finditer(content))][:_MAX_MAILS]
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


def provider_of(host: str) -> str:
    """The key of the provider group that a host or a recipient domain belongs to; empty when none is known."""
    name = host.lower().rstrip(".")
    return next((key for own, key in _names() if (name.endswith(own) if own.startswith(".") else name == own)), "")


def find_addresses(sender: str, subject: str, text: str) -> Iterable[str]:
    """Failed addresses that the library finds in the text of a notice."""
    notice = EmailMessage()
    notice["From"] = _one_line(sender) or "mailer-daemon@invalid"
    notice["Subject"] = _one_line(subject)
    notice.set_content(text[:_MAX_NOTICE_CHARACTERS].encode("ascii", "replace").decode("ascii"))
    try:
        temporary, permanent = all_failures(notice)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # A detector that stumbles over what strangers write has found nothing.
        return []
    return sorted(found.decode("ascii", "replace") for found in {*temporary, *permanent})


def _one_line(value: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in value[:200])


@cache
def _names() -> tuple[tuple[str, str], ...]:
    groups = tomllib.loads(_PROVIDERS.read_text("utf-8"))["group"]
    known = [(suffix, group["key"]) for group in groups for suffix in (*group.get("mx", ()), *group.get("domains", ()))]
    return tuple(known) + tuple(_REPORTING_HOSTS.items())
