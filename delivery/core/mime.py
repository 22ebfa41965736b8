"""Reading the structure of mail that anybody may have written: reports, replies, and what they enclose.

Nothing here raises, whatever the octets are, and everything is bounded: how much of a mail is looked at, how deep and
how wide its parts go, how large a header section and a decoded text become. What lies beyond a bound is not read. The
time taken is linear in the size looked at. Nothing is decompressed.

Defects are read the way mail programs read them: LF or CR for CRLF, blank lines or an mbox line on top, a missing blank
line after the header section, a missing or wrong boundary, a charset label that does not fit.
"""

from __future__ import annotations

import binascii
import codecs
import html
import quopri
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from delivery.core.content import display_text

MAX_OCTETS = 4 * 1024 * 1024
MAX_DEPTH = 10
MAX_PARTS = 100
MAX_HEADER_OCTETS = 128 * 1024
MAX_FIELDS = 400
MAX_VALUE_OCTETS = 8 * 1024
MAX_TEXT_OCTETS = 128 * 1024

_ENCLOSING = frozenset({"message/rfc822", "message/global", "message/partial", "message/news"})
_HEADERS_ONLY = frozenset(
    {"text/rfc822-headers", "text/rfc822-header", "message/rfc822-headers", "message/global-headers"}
)
_FIELD_NAME = re.compile(rb"([!-9;-~]{1,80})[ \t]*:")
_PARAMETER = re.compile(r';\s*([a-z0-9_-]{1,40})\*?\s*=\s*(?:"([^"]{0,400})"|([^\s;"]{1,400}))', re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"\s*([a-z0-9.+_-]{1,60}/[a-z0-9.+_-]{1,60})", re.IGNORECASE)
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


@dataclass(frozen=True, slots=True)
class Part:
    """One entity. `fields` are lower-case names with unfolded values; `is_enclosed` is true for the returned mail."""

    fields: tuple[tuple[str, bytes], ...]
    media_type: str
    parameters: Mapping[str, str]
    children: tuple[Part, ...]
    is_enclosed: bool
    _source: bytes
    _start: int
    _end: int

    def first(self, name: str) -> str:
        """The topmost field of that (lower-case) name as text for people; empty when there is none."""
        return next((display_text(value) for field, value in self.fields if field == name), "")

    def all(self, name: str) -> list[str]:
        return [display_text(value) for field, value in self.fields if field == name]

    def walk(self) -> Iterator[Part]:
        """This part and everything below it, in the order of the mail."""
        yield self
        for child in self.children:
            yield from child.walk()

    def octets(self) -> bytes:
        """The decoded body, as far as the mail is looked at."""
        return decode_transfer(self._source[self._start : self._end], self.first("content-transfer-encoding"))

    def text(self) -> str:
        """The decoded beginning of the body, with LF line ends."""
        raw = self._source[self._start : min(self._end, self._start + 2 * MAX_TEXT_OCTETS)]
        octets = decode_transfer(raw, self.first("content-transfer-encoding"))[:MAX_TEXT_OCTETS]
        text = decode_charset(octets, self.parameters.get("charset", ""))
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_mail(content: bytes) -> Part:
    """The parts of a mail, of which the first `MAX_OCTETS` are looked at."""
    source = bytes(content[:MAX_OCTETS]).lstrip(b"\r\n")
    if b"\n" not in source[:MAX_HEADER_OCTETS]:
        source = source.replace(b"\r", b"\n")
    return _Reader().read_entity(source, 0, len(source), depth=0, is_enclosed=False)


def decode_transfer(raw: bytes, encoding: str) -> bytes:
    """Undo a Content-Transfer-Encoding; what is malformed is decoded as far as it goes."""
    name = encoding.strip().lower()
    if name == "base64":
        compact = _NOT_BASE64.sub(b"", raw)
        compact = compact[: -1 if len(compact) % 4 == 1 else None]
        try:
            return binascii.a2b_base64(compact + b"=" * (-len(compact) % 4))
        except binascii.Error:
            return raw
    if name == "quoted-printable":
        return quopri.decodestring(raw)
    return raw


def decode_charset(octets: bytes, label: str) -> str:
    """Text in the charset it says it has, or in the one it evidently has."""
    for codec in (*_codecs_for(octets, label), "utf-8", "euc_jp", "cp932"):
        try:
            text = octets.decode(codec)
        except (UnicodeError, LookupError, ValueError):
            continue
        return text
    return octets.decode("latin-1")


def _codecs_for(octets: bytes, label: str) -> list[str]:
    name = label.strip().strip("\"'").lower()
    if b"\x1b$" in octets[:MAX_TEXT_OCTETS]:
        return ["iso2022_jp_ext", "iso2022_jp_2004"]
    if name in {"shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"}:
        return ["cp932"]
    if name == "unicode-1-1-utf-7":
        name = "utf-7"
    if not name or name.startswith("iso-2022"):
        return []
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return []
    # Codecs that are no charsets (zip, rot13, idna, unicode_escape …) must not be run on what strangers send.
    return [info.name] if info.name in _CHARSETS or info.name.startswith(("iso8859", "cp1", "koi8")) else []


_CHARSETS = frozenset(
    (
        "utf-8",
        "ascii",
        "utf-7",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "euc_jp",
        "cp932",
        "shift_jis",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "big5hkscs",
        "euc_kr",
        "cp949",
        "cp866",
        "cp874",
        "tis-620",
        "mac-roman",
    )
)


class _Reader:
    """Counts the parts over the whole mail."""

    def __init__(self) -> None:
        self.parts_left = MAX_PARTS

    def read_entity(self, source: bytes, start: int, end: int, *, depth: int, is_enclosed: bool) -> Part:
        fields, body = _read_fields(source, start, end)
        return self._part(source, fields, body, end, depth=depth, is_enclosed=is_enclosed)

    def _part(
        self,
        source: bytes,
        fields: tuple[tuple[str, bytes], ...],
        body: int,
        end: int,
        *,
        depth: int,
        is_enclosed: bool,
    ) -> Part:
        self.parts_left -= 1
        content_type = next((value.decode("latin-1") for name, value in fields if name == "content-type"), "")
        media_type, parameters = _read_content_type(content_type)
        children: tuple[Part, ...] = ()
        if depth < MAX_DEPTH:
            if media_type.startswith("multipart/"):
                children = self._read_multipart(source, body, end, parameters, depth=depth, is_enclosed=is_enclosed)
                media_type = media_type if children else "text/plain"
            elif media_type in _ENCLOSING:
                encoding = next((value for name, value in fields if name == "content-transfer-encoding"), b"")
                children = (self._read_enclosed(source, body, end, encoding.decode("latin-1"), depth=depth),)
            elif media_type in _HEADERS_ONLY:
                children = (self.read_entity(source, body, end, depth=MAX_DEPTH, is_enclosed=True),)
        return Part(fields, media_type, parameters, children, is_enclosed, source, body, end)

    def _read_enclosed(self, source: bytes, start: int, end: int, encoding: str, *, depth: int) -> Part:
        if encoding.strip().lower() in {"base64", "quoted-printable"}:
            source = decode_transfer(source[start : min(end, start + 4 * MAX_TEXT_OCTETS)], encoding)
            start, end = 0, len(source)
        while source[start : start + 1] in (b"\r", b"\n") and start < end:
            start += 1
        return self.read_entity(source, start, end, depth=depth + 1, is_enclosed=True)

    def _read_multipart(
        self, source: bytes, start: int, end: int, parameters: Mapping[str, str], *, depth: int, is_enclosed: bool
    ) -> tuple[Part, ...]:
        boundary = parameters.get("boundary", "").encode("latin-1", "replace").rstrip()
        spans = _spans(source, start, end, boundary) if boundary else []
        if not spans:
            guessed = _guess_boundary(source, start, end)
            spans = _spans(source, start, end, guessed) if guessed else []
        children: list[Part] = []
        for part_start, part_end in spans:
            if self.parts_left <= 0:
                break
            children.append(self.read_entity(source, part_start, part_end, depth=depth + 1, is_enclosed=is_enclosed))
        return tuple(children)


def _read_fields(source: bytes, start: int, end: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    """The fields of a header section, and where the body begins."""
    fields: list[tuple[str, bytes]] = []
    limit = min(end, start + MAX_HEADER_OCTETS)
    position = start
    while position < limit:
        line_end = source.find(b"\n", position, limit)
        after = line_end + 1 if line_end >= 0 else limit
        line = source[position:after].rstrip(b"\r\n")
        if not line.strip(b" \t"):
            return tuple(fields), after
        match = _FIELD_NAME.match(line)
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            if len(value) < MAX_VALUE_OCTETS:
                fields[-1] = (name, value + b" " + line.strip()[:MAX_VALUE_OCTETS])
        elif match is not None:
            if len(fields) < MAX_FIELDS:
                value = line[match.end() :].strip()[:MAX_VALUE_OCTETS]
                fields.append((match[1].decode("latin-1").lower(), value))
        elif not line.startswith((b"From ", b">From ")) or fields:
            # No field, so the blank line is missing and the body has begun.
            return tuple(fields), position
        position = after
    return tuple(fields), position


def _read_content_type(value: str) -> tuple[str, dict[str, str]]:
    match = _MEDIA_TYPE.match(value)
    media_type = match[1].lower() if match else "text/plain"
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        parameters.setdefault(name.lower(), quoted or bare)
    return media_type, parameters


def _spans(source: bytes, start: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
    """Where each part between the delimiter lines begins and ends."""
    delimiter = b"--" + boundary
    spans: list[tuple[int, int]] = []
    opened = -1
    position = start
    while len(spans) < MAX_PARTS:
        found = source.find(delimiter, position, end)
        if found < 0:
            break
        after = found + len(delimiter)
        is_line = found == start or source[found - 1 : found] == b"\n"
        is_closing = source[after : after + 2] == b"--"
        if not is_line or not (is_closing or source[after : after + 1] in (b"", b"\r", b"\n", b" ", b"\t")):
            position = found + 1
            continue
        if opened >= 0:
            spans.append((opened, found))
            opened = -1
        if is_closing:
            break
        line_end = source.find(b"\n", after, end)
        opened = line_end + 1 if line_end >= 0 else end
        position = max(opened, found + 1)
    if opened >= 0:
        spans.append((opened, end))
    return spans


def _guess_boundary(source: bytes, start: int, end: int) -> bytes:
    """The first line that looks like a delimiter, for a multipart whose boundary is missing or wrong."""
    for line in source[start : min(end, start + 4096)].split(b"\n"):
        candidate = line.strip()
        if candidate.startswith(b"--") and 6 <= len(candidate) <= 200 and b" " not in candidate:
            return candidate[2:]
    return b""


_IGNORED = re.compile(r"<(style|script|title)\b", re.IGNORECASE)
_LINE_BREAKS = re.compile(r"<(?:br|/p|/tr|/div|/h\d|/li|/td)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[a-z!/?][^<>]*>", re.IGNORECASE)


def strip_markup(markup: str) -> str:
    """The text a reader of the HTML would see, roughly; never an exception, linear time."""
    kept: list[str] = []
    position = 0
    for match in _IGNORED.finditer(markup):
        if match.start() < position:
            continue
        kept.append(markup[position : match.start()])
        end = markup.lower().find(f"</{match[1].lower()}", match.end()) if len(kept) <= MAX_PARTS else -1
        position = end if end >= 0 else len(markup)
    kept.append(markup[position:])
    return html.unescape(_TAG.sub("", _LINE_BREAKS.sub("\n", "".join(kept)))).replace("\xa0", " ")
