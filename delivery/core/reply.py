"""What a peer or the network said, as a value with its phase.

Whatever a peer sends becomes a `Reply`: text that is no SMTP reply at all becomes a made-up 421, because nothing more
can be said on such a connection and the mail must not suffer for it. Texts are bounded and freed of control characters
here, once, so that they can be stored, logged and shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT_CHARACTERS = 2000
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9]{2})(?:[ -](.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?=\s|$)\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")


class Phase(StrEnum):
    """The step of a session at which a reply was given. `EOD` is the end of the data, the final dot."""

    ROUTING = "routing"
    CONNECT = "connect"
    HELO = "helo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    EOD = "eod"
    QUIT = "quit"


class Origin(StrEnum):
    """Who speaks. Only a peer's text is evidence about the peer; the others are worded by us or by the system."""

    PEER = "peer"
    NETWORK = "network"
    DNS = "dns"
    TLS = "tls"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `text` has the lines of a multi-line reply joined by newlines, without codes."""

    phase: Phase
    code: int
    text: str
    enhanced: str | None
    origin: Origin

    @property
    def is_positive(self) -> bool:
        """2yz, or 3yz where the peer asks to go on."""
        return 200 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600

    @property
    def line(self) -> str:
        """The whole reply on one line: `550 5.1.1 no such user`."""
        parts = [str(self.code), self.enhanced or "", " ".join(self.text.split())]
        return " ".join(part for part in parts if part)


def from_lines(phase: Phase, lines: Sequence[bytes]) -> Reply:
    """Read the lines of one reply as they came (line endings may be left on).

    The code is that of the last line, where RFC 5321 §4.2.1 lets a client look for it. An enhanced status counts only
    when its class agrees with the code (RFC 2034 §4).
    """
    matches = [_LINE.fullmatch(line.rstrip(b"\r\n")) for line in lines[:MAX_LINES]]
    last = matches[-1] if matches else None
    if last is None:
        return _unintelligible(phase, lines)
    code = int(last[1])
    texts = [_readable(match[2] or b"") for match in matches if match]
    enhanced = _enhanced_status(code, texts)
    if enhanced is not None:
        texts = [_without_status(text, enhanced) for text in texts]
    return Reply(phase, code, _bounded("\n".join(text for text in texts if text)), enhanced, Origin.PEER)


def made_up(phase: Phase, code: int, enhanced: str | None, text: str, origin: Origin) -> Reply:
    """A reply for what happened without the peer saying it: lost connections, DNS failures, decisions of our own."""
    return Reply(phase, code, _bounded(_CONTROL.sub(" ", text).strip()), enhanced, origin)


def _unintelligible(phase: Phase, lines: Sequence[bytes]) -> Reply:
    heard = _readable(b" ".join(lines[:3])[:200])
    return made_up(phase, 421, "4.5.0", f"the peer's answer was no SMTP reply: {heard}", Origin.NETWORK)


def _readable(raw: bytes) -> str:
    return _CONTROL.sub(" ", raw[: 2 * MAX_TEXT_CHARACTERS].decode("utf-8", "replace")).strip()


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[: MAX_TEXT_CHARACTERS - 1] + "…"


def _enhanced_status(code: int, texts: Sequence[str]) -> str | None:
    for text in texts:
        match = _ENHANCED.match(text)
        if match and int(match[1][0]) == code // 100:
            return match[1]
    return None


def _without_status(text: str, enhanced: str) -> str:
    match = _ENHANCED.match(text)
    return text[match.end() :] if match and match[1] == enhanced else text
