"""Reports in prose: where the notice ends, whom it says the mail could not reach, and why.

There are as many forms as there are mail servers, so this looks for how people write: an address at the start of a
line with the reason behind it, an address behind "to" in a sentence of failure, a label, a transcript. Each mention has
a strength; only the strongest count. Never raises, and looks at a bounded number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from delivery.core import dsn
from delivery.core.report_words import alternatives, pattern

MAX_LINES = 1500
MAX_LINE_CHARACTERS = 2000
MAX_BLOCK_LINES = 25
MAX_MENTIONS = 200

LISTED, LABELLED, IN_SENTENCE = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Mention:
    """An address a notice says it failed for; `reason` is the text that goes with it, on one line."""

    address: str
    strength: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """The words of the reporting host, and the beginning of the mail it returns."""

    text: str
    original: str


_LOCAL_PART = r"(?:\"[^\"\s<>]{1,64}\"|[^\s<>()\[\],;:\"|：，。、；「」『』（）【】《》“”]{1,128})"
_ADDRESS = rf"{_LOCAL_PART}@[A-Za-z0-9\x80-\U0010ffff][A-Za-z0-9\x80-\U0010ffff._-]{{0,253}}"
_ANY_ADDRESS = re.compile(_ADDRESS)
_LISTED = re.compile(
    rf"[\s*|>•・-]{{0,16}}(?:\d{{1,3}}[.)]\s{{1,4}})?(?:[<\"']({_ADDRESS})[>\"']|({_ADDRESS}))"
    r"(?P<rest>$|\s*(?:$|[:,(]|\.\.\.|\s<|\s{2,}|\t| - | \.\.\. | [a-z(\"].*).*)"
)
# sendmail's own conclusion about a recipient; its "User unknown" only says that the peer refused RCPT.
_CONCLUDED = re.compile(rf"[45]\d\d (?:[45]\.\d+\.\d+ )?<({_ADDRESS})>\.\.\. (?!User unknown)")
_LABELLED = re.compile(rf"(?:^|[\s*|>(]){alternatives('address_label')}\s*[:=：]\s*<?({_ADDRESS})>?", re.IGNORECASE)
_DIALOGUE = re.compile(rf"RCPT ?TO:? ?<({_ADDRESS})>", re.IGNORECASE)
_TO = re.compile(
    r"\b(?:to|for|user|mailbox|account|recipients?|address(?:es)?|attempts?|an|à|zu|para|a|in)"
    rf"(?::? +[<\"'(]?|:?[<\"'(])({_ADDRESS})",
    re.IGNORECASE,
)
_NO_FAILURE = pattern("no_failed_address")

_SEPARATOR = re.compile(rf"[\W_]{{0,80}}{alternatives('original_below')}[\W_]{{0,80}}", re.IGNORECASE)
_HEADER_LINE = re.compile(r">?From \S+@|[A-Za-z][A-Za-z0-9-]{1,50}:[ \t]?\S?")
_HEADER_START = re.compile(
    r"(?:received|return-path|delivered-to|dkim-signature|x-original-to|message-id|mime-version|x-[a-z0-9-]+|from|to|subject|date"
    r"|authentication-results|arc-seal|reply-to|content-type)\s*:",
    re.IGNORECASE,
)
_TRACE = re.compile(r"(?:received|return-path|dkim-signature|message-id|x-received|arc-seal)\s*:", re.IGNORECASE)


# Scripts written without spaces stand right beside an address.
_BEFORE_ADDRESS = re.compile(
    r"^(?:[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]+|(?:rcpt(?:_?to)?|to|recipient|address|user|e?mail)=)(?=[\x21-\x7e]+@)",
    re.IGNORECASE,
)
_BEHIND_ADDRESS = re.compile(r"(?<=[a-z])[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]+$", re.IGNORECASE)


def tidy_address(address: str) -> str:
    """An address found in prose, without the words that touch it."""
    return dsn.tidy_address(_BEHIND_ADDRESS.sub("", _BEFORE_ADDRESS.sub("", address)))


def split_notice(text: str) -> Notice:
    """Tell the notice from the returned mail that stands below it in the same text."""
    lines = [line[:MAX_LINE_CHARACTERS] for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    for index, line in enumerate(lines):
        if _begins_original(lines, index, line):
            return Notice("\n".join(lines[:index]), "\n".join(lines[index:]))
    return Notice("\n".join(lines), "")


def _begins_original(lines: list[str], index: int, line: str) -> bool:
    if 8 <= len(line) <= 160 and _SEPARATOR.fullmatch(line) and _has_header_below(lines, index + 1):
        return True
    before = lines[index - 1].strip() if index else ""
    return bool(_HEADER_START.match(line)) and (not before or before[-1] in "-=*:|") and _is_header(lines, index)


def _has_header_below(lines: list[str], start: int) -> bool:
    following = [line for line in lines[start : start + 8] if line.strip(" -=*|")]
    return not following or bool(_HEADER_LINE.match(following[0].lstrip()))


def _is_header(lines: list[str], start: int) -> bool:
    """Three lines of a header section at least, one of them a trace that no notice would write about."""
    section: list[str] = []
    for line in lines[start : start + 40]:
        if not line.strip() or not (line[:1] in " \t" or _HEADER_LINE.match(line)):
            break
        section.append(line)
    return len(section) >= 3 and any(_TRACE.match(line) for line in section)


# Transcripts and status fields are read elsewhere, and better.
_NO_REASON = re.compile(
    r">>>|<<<|[-\s]*transcript of session|(?:reporting-mta|(?:final|original)-recipient|action|status|diagnostic-code|"
    r"last-attempt-date|arrival-date|received-from-mta|remote-mta)\s*:",
    re.IGNORECASE,
)


# A paragraph with a reply in it is the reason; what follows are greetings, advice and advertisements.
_REPLY = re.compile(r"(?:^|[\s:'\"(<])[45]\d\d[ -](?:#?[45]\.\d|.{15})")


def header_of(original: str) -> str:
    """The returned mail from its first field on, without the line that announces it and without indentation."""
    lines = [line.strip() if _HEADER_START.match(line.lstrip()) else line for line in original.split("\n", MAX_LINES)]
    start = next((index for index, line in enumerate(lines) if _HEADER_START.match(line)), len(lines))
    return "\n".join(lines[start:])


def find_mentions(notice: str, *, not_these: Collection[str] = ()) -> list[Mention]:
    """The addresses a notice failed for, strongest first; `not_these` are the report's own sender and addressee."""
    lines = notice.split("\n")
    found: list[tuple[int, str, int]] = []
    for index, line in enumerate(lines):
        if "@" in line and len(found) < MAX_MENTIONS:
            found += [(index, address, strength) for address, strength in _in_line(lines, index)]
    found = _without_renamed(lines, found)
    own = {address.lower() for address in not_these}
    others = [mention for mention in found if mention[1].lower() not in own]
    # People do mail themselves; so our own addresses count where nobody else is named, in a list.
    kept = others or [mention for mention in found if mention[2] == LISTED]
    strongest = max((strength for _, _, strength in kept), default=0)
    mentions: dict[str, Mention] = {}
    names = {index: address.lower() for index, address, strength in kept if strength == strongest}
    for index, address, strength in kept:
        if strength != strongest:
            continue
        elsewhere = {other for other, name in names.items() if name != address.lower()}
        reason = _reason(lines, index, elsewhere, is_one_of_many=strength == LISTED and bool(elsewhere))
        known = mentions.get(address.lower())
        if known is None or len(known.reason) < len(reason):
            mentions[address.lower()] = Mention(address, strength, reason)
    return _with_common_reason(list(mentions.values()))


def _with_common_reason(mentions: list[Mention]) -> list[Mention]:
    """Addresses listed one below the other, with one reason behind the last."""
    shared: list[Mention] = []
    for mention in reversed(mentions):
        has_words = any(character.isalnum() for character in _ANY_ADDRESS.sub("", mention.reason))
        below = shared[-1].reason if shared else ""
        # A reason that names an address is about that one.
        reason = mention.reason if has_words or _ANY_ADDRESS.search(below) else below
        shared.append(Mention(mention.address, mention.strength, reason))
    return shared[::-1]


_ORIGINAL_ADDRESS = re.compile(r"\s*original (?:address|recipient)(?: address)?\s*:", re.IGNORECASE)


def _without_renamed(lines: list[str], found: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    """Where the address that was written to follows what it had become, only the former counts."""
    renamed = {index - 1 for index, _, _ in found if _ORIGINAL_ADDRESS.match(lines[index])}
    return [mention for mention in found if mention[0] not in renamed]


# `<mailto:a@b.example>` is the address; a bare `mailto:` is somebody to turn to.
_IN_MARKUP = re.compile(r"<mailto:", re.IGNORECASE)
_NEXT = re.compile(rf"[>\"']?[ \t]{{0,4}}[,;][ \t]{{0,4}}[<\"']?({_ADDRESS})")


def _next_ones(line: str, position: int) -> list[str]:
    """The addresses that follow an address in a list with commas or semicolons."""
    found: list[str] = []
    while match := _NEXT.match(line, position):
        found.append(tidy_address(match[1]))
        position = match.end()
    return found


def _in_line(lines: list[str], index: int) -> list[tuple[str, int]]:
    line = _IN_MARKUP.sub("<", lines[index])
    labels = (*_LABELLED.finditer(line), *_DIALOGUE.finditer(line))
    labelled = [address for match in labels for address in (tidy_address(match[1]), *_next_ones(line, match.end()))]
    if labelled:
        return [(address, LISTED) for address in dict.fromkeys(labelled) if address]
    concluded = _CONCLUDED.match(line)
    if concluded:
        return [(address, LISTED) for address in [tidy_address(concluded[1])] if address]
    listed = _LISTED.fullmatch(line)
    if listed and not _NO_FAILURE.search(line[: listed.end(1) if listed[1] else listed.end(2)]):
        address = tidy_address(listed[1] or listed[2])
        is_clear = bool(listed[1]) or not re.match(r"\s[a-z]", listed["rest"])
        is_continued = index > 0 and bool(
            re.search(r"(?:contact|mailto|assistance|to|[,(<])\s*$", lines[index - 1], re.I)
        )
        if address and not (is_continued and not is_clear):
            strength = LISTED if is_clear else LABELLED
            return [(one, strength) for one in (address, *_next_ones(line, listed.start("rest"))) if one]
    if _NO_FAILURE.search(line):
        before = _NO_FAILURE.search(line)
        line = line[: before.start()] if before else line
    behind_to = [(tidy_address(match[1]), LABELLED) for match in _TO.finditer(line)]
    if behind_to:
        return [(address, strength) for address, strength in behind_to if address]
    anywhere = [tidy_address(match[0]) for match in _ANY_ADDRESS.finditer(line)]
    return [(address, IN_SENTENCE) for address in anywhere if address]


def _reason(lines: list[str], index: int, others: Collection[int], *, is_one_of_many: bool) -> str:
    """From an address to the end of its paragraph, or of the next where it stands alone; the rest for the only one."""
    block = [_after_address(lines[index])]
    if _CONCLUDED.match(lines[index]):
        return block[0]
    for number in range(index + 1, min(len(lines), index + MAX_BLOCK_LINES)):
        if number in others:
            break
        line = lines[number].strip()
        if _NO_REASON.match(line):
            break
        said = "".join(block).strip()
        is_reason = len(_ANY_ADDRESS.sub("", said).strip(" .,>*")) > 5 and not said.endswith(":")
        if not line and is_reason and (is_one_of_many or _REPLY.search(said)):
            break
        block.append(line)
    return " ".join(" ".join(block).split())


def _after_address(line: str) -> str:
    """The reason may also stand around the address, so a sentence is kept whole."""
    listed = _LISTED.fullmatch(line)
    return listed["rest"].lstrip(" :>") if listed else line
