"""Header fields with raw 8-bit text (RFC 6532, or simply sloppy) written in ASCII, for hops that take nothing else.

Unstructured fields, display names and comments become encoded words (RFC 2047), file names RFC 2231 parameters. Octets
are labelled, never transcoded: UTF-8 where they are UTF-8, `unknown-8bit` (RFC 1428) otherwise. An address, an identifier
or a date has no ASCII form that means the same, so a field with 8-bit octets there raises `NotConvertible`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from delivery.core.content import HeaderField

UNKNOWN_CHARSET = "unknown-8bit"  # RFC 1428 §3

# Lists of mailboxes, and other fields in which a phrase stands before an address in angle brackets.
_PHRASES = frozenset(
    {
        "from", "sender", "reply-to", "to", "cc", "bcc",
        "resent-from", "resent-sender", "resent-reply-to", "resent-to", "resent-cc", "resent-bcc",
        "disposition-notification-to", "return-receipt-to", "errors-to", "mail-followup-to", "mail-reply-to", "list-id",
    }
)  # fmt: skip
_PARAMETERS = frozenset({"content-type", "content-disposition"})
_ASCII_ONLY = frozenset(
    {
        "date", "message-id", "in-reply-to", "references", "received", "return-path", "delivered-to",
        "resent-date", "resent-message-id", "mime-version", "content-id", "content-transfer-encoding",
        "dkim-signature", "authentication-results", "received-spf",
        "arc-seal", "arc-message-signature", "arc-authentication-results",
        "list-unsubscribe", "list-unsubscribe-post", "list-help", "list-subscribe", "list-post", "list-owner", "list-archive",
    }
)  # fmt: skip

_CRLF = b"\r\n"
_MAX_LINE_CHARACTERS = 76  # RFC 2047 §2, for lines with encoded words
_MAX_WORD_CHARACTERS = 75
_LAST_COLUMN_FOR_A_WORD = 40
_MAX_PARAMETER_CHARACTERS = 60

_UNSTRUCTURED_TOKEN = re.compile(rb"(?P<blank>(?:\r\n[ \t]|[ \t])+)|(?P<text>[^ \t\r\n]+)")
_PHRASE_TOKEN = re.compile(
    rb"(?P<blank>(?:\r\n[ \t]|[ \t])+)"
    rb'|(?P<quoted>"(?:[^"\\\r\n]|\\[^\r\n]|\r\n[ \t])*")'
    rb"|(?P<comment>\((?:[^()\\\r\n]|\\[^\r\n]|\r\n[ \t])*\))"
    rb"|(?P<special>[<>,;:])"
    rb'|(?P<text>[^ \t\r\n"()<>,;:\\]+)'
)
_ENCODED_WORD = re.compile(rb"=\?[^ ?]+\?[BbQq]\?[^ ?]*\?=")
_QUOTED_PAIR = re.compile(rb"\\([^\r\n])")
_PARAMETER = re.compile(
    rb';[ \t]*(?P<name>[!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?P<value>"(?:[^"\\]|\\.)*"|[^";]*)[ \t]*'
)


class NotConvertible(ValueError):
    """The text says, for people, what stands against it."""


def ascii_field(field: HeaderField) -> bytes:
    """The raw field in ASCII, with its CRLF; as it came if it is ASCII already. Raises NotConvertible."""
    if field.raw.isascii():
        return field.raw
    name = field.name.lower()
    if name in _ASCII_ONLY:
        raise NotConvertible(f"the field {field.name} has 8-bit characters, which it cannot have in ASCII")
    prefix, value = field.raw[: len(field.name) + 1], field.raw[len(field.name) + 1 :].removesuffix(_CRLF)
    if name in _PARAMETERS:
        return _ascii_parameters(prefix, value.replace(_CRLF, b""), field.name)
    writer = _Writer(prefix)
    if name in _PHRASES:
        _write_phrases(writer, value, field.name)
    else:
        writer.write(_unstructured(value))
    return writer.line + _CRLF


def charset_of(octets: bytes) -> str:
    """The label for 8-bit text that came without one. What is valid UTF-8 by chance is rare enough to be ignored."""
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return UNKNOWN_CHARSET
    return "utf-8"


# Encoded words


@dataclass(frozen=True, slots=True)
class _Token:
    """A blank or a word; `text` is what it means, `raw` how it was written."""

    raw: bytes
    text: bytes
    is_blank: bool = False
    is_comment: bool = False

    @property
    def needs_encoding(self) -> bool:
        return not self.is_blank and not self.is_comment and not self.raw.isascii()

    @property
    def is_encoded(self) -> bool:
        return _ENCODED_WORD.fullmatch(self.raw) is not None


def _blank(raw: bytes) -> _Token:
    return _Token(raw, raw.replace(_CRLF, b""), is_blank=True)


class _Writer:
    """Puts tokens behind each other: those that need it, and what lies between them, as encoded words."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self._is_behind_word = False

    def write(self, tokens: Sequence[_Token]) -> None:
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.needs_encoding:
                end = _end_of_run(tokens, position)
                self._write_run(tokens, position, end)
                position = end
                continue
            if token.is_comment:
                self._write_comment(token.raw)
            else:
                self._write_plain(token, is_last=position == len(tokens) - 1)
            position += 1

    def write_ascii(self, raw: bytes) -> None:
        self.line += raw
        self._is_behind_word = False

    @property
    def _column(self) -> int:
        return len(self.line) - (self.line.rfind(b"\n") + 1)

    def _write_plain(self, token: _Token, *, is_last: bool) -> None:
        # Behind an encoded word a line is ended, so that what follows is never longer than it was.
        is_folded_here = token.is_blank and self._is_behind_word and not is_last and _CRLF not in token.raw
        self.line += _CRLF + token.raw if is_folded_here else token.raw
        self._is_behind_word = False

    def _write_run(self, tokens: Sequence[_Token], start: int, end: int) -> None:
        octets = b"".join(token.text for token in tokens[start:end])
        # RFC 2047 §6.2: blanks between encoded words are not shown, so next to one that was there they are encoded.
        if start >= 2 and tokens[start - 1].is_blank and tokens[start - 2].is_encoded:
            octets = tokens[start - 1].text + octets
        if end + 1 < len(tokens) and tokens[end].is_blank and tokens[end + 1].is_encoded:
            octets += tokens[end].text
        self._write_words(octets)

    def _write_words(self, octets: bytes) -> None:
        if self._column > _LAST_COLUMN_FOR_A_WORD:
            self._fold_at_last_blank()
        words = _encoded_words(octets, column=self._column)
        self.line += (_CRLF + b" ").join(words)
        self._is_behind_word = True

    def _fold_at_last_blank(self) -> None:
        """End the line before the blank it ends in, if it has other text."""
        kept = self.line.rstrip(b" \t")
        if len(kept) < len(self.line) and not kept.endswith(b"\n"):
            self.line = kept + _CRLF + self.line[len(kept) :]

    def _write_comment(self, raw: bytes) -> None:
        if raw.isascii():
            self.write_ascii(raw)
            return
        if not self.line.endswith((b" ", b"\t")):
            self.line += b" "  # RFC 2047 §5: an encoded word in a comment is set off from what is outside
        self.line += b"("
        self.write(_unstructured(_QUOTED_PAIR.sub(rb"\1", raw[1:-1])))
        self.line += b")"
        self._is_behind_word = False


def _end_of_run(tokens: Sequence[_Token], start: int) -> int:
    """Behind the last of the words that need encoding and have nothing but blanks between them."""
    end = start + 1
    while True:
        following = end + 1 if end < len(tokens) and tokens[end].is_blank else end
        if following >= len(tokens) or not tokens[following].needs_encoding:
            return end
        end = following + 1


def _encoded_words(octets: bytes, *, column: int) -> list[bytes]:
    charset = charset_of(octets)
    opening, closing = f"=?{charset}?B?".encode("ascii"), b"?="
    frame = len(opening) + len(closing)
    words: list[bytes] = []
    position = 0
    while position < len(octets):
        characters = _MAX_WORD_CHARACTERS if words else min(_MAX_WORD_CHARACTERS, _MAX_LINE_CHARACTERS - column)
        # A character of UTF-8 has up to four octets and is not cut in two (RFC 2047 §5), so there is room for one.
        end = position + max((characters - frame) // 4 * 3, 6)
        if charset != UNKNOWN_CHARSET:
            while end < len(octets) and octets[end] & 0xC0 == 0x80:
                end -= 1
        words.append(opening + base64.b64encode(octets[position:end]) + closing)
        position = end
    return words


def _unstructured(value: bytes) -> list[_Token]:
    return [
        _blank(match[0]) if match.lastgroup == "blank" else _Token(match[0], match[0])
        for match in _UNSTRUCTURED_TOKEN.finditer(value)
    ]


# Addresses


def _write_phrases(writer: _Writer, value: bytes, name: str) -> None:
    """`phrase <addr-spec>`, `addr-spec (comment)` and `phrase: list;`, separated by commas."""
    pending: list[_Token] = []
    is_in_angle = False
    for kind, raw in _phrase_tokens(value, name):
        if kind != "special":
            if is_in_angle:
                _refuse_8bit_address(raw, name)
            pending.append(_phrase_token(kind, raw))
            continue
        is_phrase = raw in (b"<", b":") and not is_in_angle
        if not is_phrase:
            for token in pending:
                if not token.is_comment:
                    _refuse_8bit_address(token.raw, name)
        writer.write(_set_apart(pending) if is_phrase else pending)
        writer.write_ascii(raw)
        pending = []
        is_in_angle = raw == b"<" or (is_in_angle and raw != b">")
    for token in pending:
        if not token.is_comment:
            _refuse_8bit_address(token.raw, name)
    writer.write(pending)


def _phrase_tokens(value: bytes, name: str) -> list[tuple[str, bytes]]:
    tokens: list[tuple[str, bytes]] = []
    position = 0
    while position < len(value):
        match = _PHRASE_TOKEN.match(value, position)
        if match is None:
            raise NotConvertible(f"the field {name} has 8-bit characters and is malformed")
        tokens.append((match.lastgroup or "", match[0]))
        position = match.end()
    return tokens


def _phrase_token(kind: str, raw: bytes) -> _Token:
    if kind == "blank":
        return _blank(raw)
    if kind == "quoted":
        text = raw[1:-1].replace(_CRLF, b"")
        # In other charsets an octet that looks like a backslash may be half of a character.
        return _Token(raw, _QUOTED_PAIR.sub(rb"\1", text) if charset_of(text) == "utf-8" else text)
    return _Token(raw, raw, is_comment=kind == "comment")


def _set_apart(tokens: list[_Token]) -> list[_Token]:
    """Words that touch each other (`"a"b`) with a blank between them if one is to be encoded (RFC 2047 §5)."""
    apart: list[_Token] = []
    for token in tokens:
        touches = bool(apart) and not apart[-1].is_blank and not token.is_blank
        if touches and (token.needs_encoding or apart[-1].needs_encoding):
            apart.append(_blank(b" "))
        apart.append(token)
    if apart and apart[-1].needs_encoding:
        apart.append(_blank(b" "))
    return apart


def _refuse_8bit_address(raw: bytes, name: str) -> None:
    if not raw.isascii():
        raise NotConvertible(f"the field {name} has an address with 8-bit characters")


# Parameters


def _ascii_parameters(prefix: bytes, value: bytes, name: str) -> bytes:
    head_end = value.find(b";")
    if head_end < 0 or not value[:head_end].isascii():
        raise NotConvertible(f"the field {name} has 8-bit characters and is malformed")
    parameters = _split_parameters(value[head_end:].rstrip(b"; \t"), name)
    names = {parameter.lower() for parameter, _ in parameters}
    pieces = [value[:head_end].rstrip(b" \t")]
    for parameter, written in parameters:
        if written.isascii():
            pieces.append(parameter + b"=" + written)
        elif b"*" in parameter or parameter.lower() in (b"boundary", b"charset"):
            raise NotConvertible(f"the field {name} has 8-bit characters where ASCII is all there can be")
        elif parameter.lower() + b"*" not in names:
            pieces += _extended(parameter, _unquoted(written))
    return prefix + (b";" + _CRLF + b"\t").join(pieces) + _CRLF


def _split_parameters(text: bytes, name: str) -> list[tuple[bytes, bytes]]:
    parameters: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise NotConvertible(f"the field {name} has 8-bit characters and is malformed")
        parameters.append((match["name"], match["value"].rstrip(b" \t")))
        position = match.end()
    return parameters


def _unquoted(written: bytes) -> bytes:
    if not written.startswith(b'"'):
        return written
    text = written[1:-1]
    return _QUOTED_PAIR.sub(rb"\1", text) if charset_of(text) == "utf-8" else text


def _extended(parameter: bytes, octets: bytes) -> list[bytes]:
    """The parameter in one piece or several (RFC 2231 §3 and §4)."""
    encoded = f"{charset_of(octets)}''{quote_from_bytes(octets, safe='')}".encode("ascii")
    if len(encoded) <= _MAX_PARAMETER_CHARACTERS:
        return [parameter + b"*=" + encoded]
    pieces: list[bytes] = []
    position = 0
    while position < len(encoded):
        end = position + _MAX_PARAMETER_CHARACTERS
        # An escaped octet is not cut in two.
        escape = encoded.rfind(b"%", end - 2, end)
        end = escape if escape >= 0 and end < len(encoded) else end
        pieces.append(b"%s*%d*=%s" % (parameter, len(pieces), encoded[position:end]))
        position = end
    return pieces
