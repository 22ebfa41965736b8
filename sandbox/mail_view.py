"""A received mail in a form for people: decoded header values, its text, what else is in it.

Everything here comes from outside: whatever cannot be decoded is shown as well as it goes, nothing raises.
"""

from __future__ import annotations

import base64
import binascii
import email
import email.errors
import email.message
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.policy import compat32

from sandbox.dkim import Field, split_message

PREVIEW_CHARACTERS = 200_000
HEADER_BYTES = 64 * 1024
_PARSED_BYTES = 30 * 1024 * 1024
_MAX_PARTS = 200
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ENCODED_WORD = re.compile(r"=\?(?P<charset>[^?\s]+)\?(?P<encoding>[BbQq])\?(?P<text>[^?\s]*)\?=")
_BETWEEN_ENCODED_WORDS = re.compile(r"(?<=\?=)[ \t]+(?==\?)")
# The names that Japanese mail uses, and the codecs that read what is really meant by them.
_CODECS = {"iso-2022-jp": "iso2022_jp_ext", "shift_jis": "cp932", "x-sjis": "cp932", "euc-jp": "euc_jis_2004"}


@dataclass(frozen=True, slots=True)
class Part:
    content_type: str
    file_name: str
    size: int


@dataclass(frozen=True, slots=True)
class MailView:
    header: str
    text: str
    has_html: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    subject: str
    author: str
    message_id: str


def summarize(beginning: bytes) -> Summary:
    fields, _ = split_message(beginning[:HEADER_BYTES])
    return Summary(
        subject=_first_value(fields, "subject"),
        author=_first_value(fields, "from"),
        message_id=_first_value(fields, "message-id"),
    )


def view(content: bytes) -> MailView:
    header = _clean(content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace"))
    text, html, parts = "", False, []
    for part in _parts(content):
        payload = _octets(part)
        name = _decoded(part.get_filename() or "")
        parts.append(Part(part.get_content_type(), name, len(payload)))
        if part.get_content_type() == "text/plain" and not text and not name:
            text = _clean(_as_text(payload, part.get_content_charset()))[:PREVIEW_CHARACTERS]
        html = html or _is_html(part)
    return MailView(header[:PREVIEW_CHARACTERS], text, html, tuple(parts))


def html_part(content: bytes) -> str | None:
    """The first HTML part, untouched: only for a frame that can neither run nor load anything."""
    for part in _parts(content):
        if _is_html(part):
            return _as_text(_octets(part), part.get_content_charset())
    return None


def decode_value(value: bytes) -> str:
    """A header value as text: encoded words, raw UTF-8, or whatever it is; one line, no control characters."""
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", value)
    text = _as_text(unfolded, "iso-2022-jp" if b"\x1b$" in unfolded else "utf-8")
    return _clean(_decoded(text)).replace("\n", " ").strip()


def _first_value(fields: list[Field], name: str) -> str:
    return next((decode_value(field.value) for field in fields if field.name == name), "")


def _parts(content: bytes) -> Iterator[email.message.Message]:
    try:
        message = email.message_from_bytes(content[:_PARSED_BYTES], policy=compat32)
        found = []
        for part in message.walk():
            if not part.is_multipart():
                found.append(part)
            if len(found) == _MAX_PARTS:
                break
    except (RecursionError, ValueError, LookupError, email.errors.MessageError):
        return
    yield from found


def _octets(part: email.message.Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, LookupError):
        payload = None
    return payload if isinstance(payload, bytes) else b""


def _is_html(part: email.message.Message) -> bool:
    return part.get_content_type() == "text/html"


def _as_text(octets: bytes, charset: str | None) -> str:
    name = (charset or "utf-8").lower()
    try:
        return octets.decode(_CODECS.get(name, name), "replace")
    except (LookupError, UnicodeError, ValueError):
        return octets.decode("utf-8", "replace")


def _decoded(text: str) -> str:
    """Encoded words (RFC 2047) replaced by what they say; white space between two of them means nothing."""
    return _ENCODED_WORD.sub(_decoded_word, _BETWEEN_ENCODED_WORDS.sub("", text))


def _decoded_word(word: re.Match[str]) -> str:
    charset, encoding, written = word["charset"].partition("*")[0], word["encoding"].upper(), word["text"]
    try:
        if encoding == "B":
            octets = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
        else:
            octets = quopri.decodestring(written.replace("_", " ").encode("ascii", "replace"), header=True)
    except (binascii.Error, ValueError):
        return word[0]
    return _as_text(octets, charset)


def _clean(text: str) -> str:
    """Line endings as \\n; control characters and changes of writing direction made visible."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
