"""Mailboxes and domains: one canonical form for comparing, storing and showing, and the form that goes on the wire.

The canonical local part is unquoted and keeps its case; the canonical domain is a lower-case A-label without a trailing
dot. Text outside the grammar raises `MailboxSyntaxError`, whose message names the fault without repeating the input.

Local parts with leading, trailing or repeated dots are no dot-strings of RFC 5321, yet Japanese carriers issued them
for years and they are alive. They are taken bare as well as quoted; `quoted` writes them in the strictly valid form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import idna

NULL_REVERSE_PATH = ""

# RFC 5321 §4.5.3.1.1.
MAX_LOCAL_PART_OCTETS = 64
# RFC 5321 §4.5.3.1.2 says 255, of which the DNS can express 253 as text (RFC 1035 §2.3.4).
MAX_DOMAIN_OCTETS = 253

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_NON_ASCII = "\x80-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}{_NON_ASCII}]+(?:\.[{_ATEXT}{_NON_ASCII}]+)*")
_BARE_LOCAL_PART = re.compile(rf"[{_ATEXT}.{_NON_ASCII}]+")
_QUOTED_LOCAL_PART = re.compile(rf'"((?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class MailboxSyntaxError(ValueError):
    """The text is no mailbox or domain that mail can be sent to."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An RFC 5321 mailbox. Made by `parse_mailbox`, or by `from_address` from what we stored ourselves."""

    local_part: str
    domain: str

    @classmethod
    def from_address(cls, address: str) -> Mailbox:
        """Read back an `address` that came from a `Mailbox`; nothing is checked again."""
        local_part, _, domain = address.rpartition("@")
        return cls(local_part, domain)

    @property
    def address(self) -> str:
        """The canonical key. It cannot be parsed in general: an unquoted local part may itself contain `@`."""
        return f"{self.local_part}@{self.domain}"

    @property
    def quoted(self) -> str:
        """The RFC 5321 form, with the local part quoted where it is no dot-string."""
        if _DOT_STRING.fullmatch(self.local_part):
            return self.address
        escaped = self.local_part.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"@{self.domain}'

    @property
    def bare(self) -> str:
        """The form carriers expect: unquoted wherever dots are the only thing that would ask for quotes."""
        if _BARE_LOCAL_PART.fullmatch(self.local_part):
            return self.address
        return self.quoted

    @property
    def is_ascii(self) -> bool:
        return self.local_part.isascii() and self.domain.isascii()

    def __str__(self) -> str:
        return self.address


def parse_mailbox(text: str) -> Mailbox:
    """Read a bare `a@b` or `"a b"@c`, without angle brackets, comments or surrounding space.

    Raises `MailboxSyntaxError`. Non-ASCII local parts are taken (`Mailbox.is_ascii` tells); address literals,
    single-label domains and numeric top-level domains are not.
    """
    written_local_part, separator, written_domain = text.rpartition("@")
    if not separator:
        raise MailboxSyntaxError("a mailbox needs an @ and a domain")
    if written_domain.endswith("."):
        raise MailboxSyntaxError("the domain ends in a dot")
    return Mailbox(_parse_local_part(written_local_part), parse_domain(written_domain))


# Lists and mailings name the same few domains again and again.
@lru_cache(maxsize=4096)
def parse_domain(text: str) -> str:
    """Read a domain in any case, as U-labels or A-labels, with or without the trailing dot; gives the lower A-label.

    Raises `MailboxSyntaxError` for anything that is no public host name: address literals, a single label, IPv4
    addresses, empty or over-long labels, characters outside letters, digits and hyphen.
    """
    if len(text) > MAX_DOMAIN_OCTETS + 1:
        raise MailboxSyntaxError("the domain is too long")
    if text.startswith("["):
        raise MailboxSyntaxError("address literals are not accepted")
    domain = text if text.isascii() else _to_a_labels(text)
    domain = domain.removesuffix(".").lower()
    if len(domain) > MAX_DOMAIN_OCTETS:
        raise MailboxSyntaxError("the domain is too long")
    labels = domain.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise MailboxSyntaxError("the domain is malformed")
    if len(labels) < 2:
        raise MailboxSyntaxError("the domain has a single label")
    if labels[-1].isdigit():
        raise MailboxSyntaxError("the domain is an IP address or has a numeric top level")
    return domain


def _parse_local_part(written: str) -> str:
    if written.startswith('"'):
        match = _QUOTED_LOCAL_PART.fullmatch(written)
        local_part = _QUOTED_PAIR.sub(r"\1", match[1]) if match else ""
    else:
        local_part = written if _BARE_LOCAL_PART.fullmatch(written) else ""
    if not local_part:
        raise MailboxSyntaxError("the local part is malformed")
    if not local_part.isascii():
        _refuse_invisible_characters(local_part)
    if len(local_part.encode("utf-8", "replace")) > MAX_LOCAL_PART_OCTETS:
        raise MailboxSyntaxError("the local part is longer than 64 octets")
    return local_part


def _refuse_invisible_characters(local_part: str) -> None:
    # Covers C1 controls, line and paragraph separators, bidirectional controls, surrogates and unassigned code points.
    if not local_part.isprintable():
        raise MailboxSyntaxError("the local part contains an invisible character")


def _to_a_labels(text: str) -> str:
    try:
        return idna.encode(text, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise MailboxSyntaxError("the domain is no valid internationalised name") from error
