"""What a host said in SMTP, found in the prose, the fields and the transcripts of reports. Never raises.

A report quotes replies in a hundred ways: after "said:", behind "<<<", in brackets, in the middle of a sentence. A
number counts as a reply code only where it stands like one, so that ports, sizes and times are not taken for codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from delivery.core.dsn import read_status, tidy_address
from delivery.core.reply import Phase

MAX_CHARACTERS = 4000
MAX_TRANSCRIPT_LINES = 2000


@dataclass(frozen=True, slots=True)
class Said:
    """`text` begins behind code and enhanced status. `code` is 0 and `phase` None where the report does not tell."""

    text: str
    code: int = 0
    enhanced: str = ""
    phase: Phase | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.code or self.enhanced)


NOTHING = Said("")

_NOT_UNITS = (
    r"(?!\s*(?:bytes?|octets?|[kmg]b\b|messages?\b|mails\b|emails\b|days?\b|hours?\b|minutes?|seconds?|recipients\b"
    r"|times\b|%))"
)
_CODE = re.compile(
    rf"(?:(?<=^)|(?<=[\s:;(\[<\"'#=]))([245]\d\d)(?=$|[\s:;,\-#)\]]){_NOT_UNITS}[-:;,]?\s*(?:\1[-\s]+)?", re.MULTILINE
)
# The code behind such a word is the reply; without one, the first code is.
_MARKER = re.compile(
    r"(?:said|says|reason|responded(?: with)?(?: \w+)?|response(?: was)?|returned|error(?: was)?|reply|answered|smtp;|smtp|<<<)"
    r"(?: is| was)?[:;]?\s*(?=[245]\d\d(?:$|[\s:;,-]))",
    re.IGNORECASE,
)
_LEADING_STATUS = re.compile(r"\(?#?([245]\.\d{1,3}\.\d{1,3})\)?[-:;,]?\s*")
_STATUS_ALONE = re.compile(r"(?<=[\s:(#;])\(?#?([45]\.\d{1,3}\.\d{1,3})\)?[-:;,]?\s+(?=\S)")
_TRAILER = re.compile(
    r"\s*\((?:in reply to|#\d\.\d|state \d).*$|\s*giving up on .*$|\s*(?:please )?(?:double-)?check the recipient.*$",
    re.IGNORECASE,
)

# Where a report names the step of the session; the first that fits. Bodies ("end of data") come before their command.
_PHASES: tuple[tuple[re.Pattern[str], Phase], ...] = tuple(
    (re.compile(expression, re.IGNORECASE), phase)
    for expression, phase in (
        (r"refused to talk to me|(?:initial|server|smtp|welcome) (?:greeting|banner)|error from .{0,60} initial connect",
         Phase.CONNECT),
        (r"(?:after|reply to|response to|for|to|our|sending) (?:the )?(?:initial )?(?-i:EHLO|HELO)\b", Phase.HELO),
        (r"end of data\b|end-of-data|\bTEXT command|after (?:sending )?(?:the )?(?:message|data) ?body|message content"
         r"|after (?:the )?(?:final )?dot\b", Phase.EOD),
        (r"(?:after|reply to|response to|for|to|our|>>>|sending) (?:the )?(?:pipelined )?(?-i:MAIL)(?: ?FROM)?\b", Phase.MAIL),
        (r"(?:after|reply to|response to|for|to|our|>>>|sending|SMTP:) ?(?:the )?(?:pipelined )?RCPT\b(?: ?TO)?", Phase.RCPT),
        (r"does not like recipient|\[RCPT_TO\]", Phase.RCPT),
        (r"(?:after|reply to|response to|for|to|our|>>>|sending) (?:the )?(?:pipelined )?(?-i:DATA)\b", Phase.DATA),
        (r"\[MAIL_FROM\]|does not like (?:your|sender)|does not like .{0,30}sender", Phase.MAIL),
        (r"failed after I sent the message", Phase.EOD),
    )
)  # fmt: skip


def find_said(text: str) -> Said:
    """The reply quoted in a text, with what is said about its phase; the whole text where no code can be found."""
    line = " ".join(text[:MAX_CHARACTERS].split())
    phase = find_phase(line)
    match = _code_in(line)
    if match is None:
        status = _STATUS_ALONE.search(line)
        if status and not status[0].startswith("(#"):
            return Said(_TRAILER.sub("", line[status.end() :]), 0, status[1], phase)
        # Behind the reason, as qmail puts it, or nowhere.
        return Said(line, 0, read_status(line), phase)
    said = line[match.end() :]
    status = _LEADING_STATUS.match(said)
    enhanced = status[1] if status else ""
    if status:
        said = said[status.end() :]
    if not enhanced or int(enhanced[0]) != int(match[1]) // 100:
        enhanced = enhanced or read_status(said)
    said = _TRAILER.sub("", _without_repeated_codes(said, match[1], enhanced))
    return Said(said, int(match[1]), enhanced, phase)


def find_phase(text: str) -> Phase | None:
    return next((phase for expression, phase in _PHASES if expression.search(text)), None)


def _code_in(line: str) -> re.Match[str] | None:
    leading = _CODE.match(line)
    if leading and leading[1][0] in "45":
        # The whole text is a reply; what it quotes from others is part of it.
        return leading
    for marker in _MARKER.finditer(line):
        match = _CODE.match(line, marker.end())
        if match and match[1][0] in "45":
            return match
    return next((match for match in _CODE.finditer(line) if match[1][0] in "45"), None)


def _without_repeated_codes(said: str, code: str, enhanced: str) -> str:
    """A multi-line reply that was joined to one line has its code before every line."""
    repeated = rf"(?:^|\s){code}[- ](?:{re.escape(enhanced)}\s)?" if enhanced else rf"(?:^|\s){code}[- ]"
    return re.sub(repeated, " ", said).strip()


# Transcripts: `>>> command`, `<<< reply`.

_COMMAND = re.compile(
    r"\s*>>>\s*(MAIL|RCPT|DATA|EHLO|HELO|STARTTLS|AUTH|QUIT|RSET|\.)[^<\n]{0,40}(?:<([^<>\s]{1,320})>)?", re.I
)
_ANSWER = re.compile(r"\s*<<<\s*([245]\d\d)(?:([- ])(.*))?$")
_NEXT_HOST = re.compile(r"while talking to ", re.IGNORECASE)
_NO_RECIPIENTS = re.compile(r"\brcpt\b|no valid recipients", re.IGNORECASE)
_VERB_PHASES = {
    "EHLO": Phase.HELO, "HELO": Phase.HELO, "MAIL": Phase.MAIL, "RCPT": Phase.RCPT, "DATA": Phase.DATA, ".": Phase.EOD,
    "STARTTLS": Phase.STARTTLS, "AUTH": Phase.AUTH,
}  # fmt: skip


def read_transcript(text: str) -> Mapping[str, Said]:
    """The first refusal for each address of a transcript; under the empty key, the first that names none."""
    refusals: dict[str, Said] = {}
    phase, address, pending = Phase.CONNECT, "", list[str]()
    for line in text.split("\n", MAX_TRANSCRIPT_LINES)[:MAX_TRANSCRIPT_LINES]:
        if _NEXT_HOST.search(line) and refusals.get("", NOTHING).code // 100 == 4:
            # The host before was only busy; what counts is said by the last one.
            del refusals[""]
        command = _COMMAND.match(line)
        if command:
            verb = command[1].upper()
            phase, pending = _VERB_PHASES.get(verb, Phase.QUIT), []
            address = tidy_address(command[2] or "") if verb == "RCPT" else ""
            continue
        answer = _ANSWER.match(line)
        if not answer or answer[1][0] == "2":
            continue
        pending.append((answer[3] or "").strip())
        if answer[2] == "-":
            continue
        if "" in refusals and _NO_RECIPIENTS.search(" ".join(pending)):
            # Commands were pipelined: what looked like the answer to DATA had been the answer to RCPT.
            refusals[""] = Said(refusals[""].text, refusals[""].code, refusals[""].enhanced, Phase.RCPT)
        else:
            refusals.setdefault(address, _answered(answer[1], pending, phase))
        pending = []
    return refusals


def _answered(code: str, lines: list[str], phase: Phase) -> Said:
    said = find_said(" ".join(f"{code} {line}" for line in lines))
    return Said(said.text, said.code or int(code), said.enhanced, phase)
