"""A message converted for a hop that takes less than the message has: 7-bit content, or an ASCII header section.

A hop without 8BITMIME (RFC 6152) gets 8-bit body parts as quoted-printable or base64, whichever is shorter, and ASCII
headers; one without SMTPUTF8 (RFC 6531) gets ASCII headers only. Parts that are ASCII stay what they were, octet by octet.
Text is relabelled where it had no label, never transcoded. Signatures over what is changed are broken by it, so the caller
signs afterwards; content that another program has signed (`multipart/signed`), and structures that cannot be read
without guessing, raise `NotConvertible`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from delivery.core.ascii_header import NotConvertible, ascii_field, charset_of
from delivery.core.content import ContentError, HeaderSection, check_lines, read_header_section

__all__ = ["NotConvertible", "to_7bit", "with_ascii_header"]

MAX_DEPTH = 20
MAX_PARTS = 1_000

_CRLF = b"\r\n"
_HIGH_OCTETS = bytes(range(0x80, 0x100))
_HIGH_TO_QUESTION_MARK = bytes(range(0x80)) + b"?" * 0x80
_MEDIA_TYPE = re.compile(rb"[ \t]*([!#$&^_.+a-z0-9-]+)/([!#$&^_.+a-z0-9-]+)[ \t]*(?:[;(]|\Z)", re.IGNORECASE)
_BOUNDARY = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t;"]+))', re.IGNORECASE)
_QUOTED_PAIR = re.compile(rb"\\(.)")
_TRANSFER_ENCODINGS = frozenset({b"", b"7bit", b"8bit", b"binary", b"quoted-printable", b"base64"})
_IDENTITY_ENCODINGS = frozenset({b"", b"7bit", b"8bit", b"binary"})


def to_7bit(content: bytes) -> bytes:
    """The content in ASCII. Raises NotConvertible. `content` has passed `check_lines`."""
    converted = _converted(content, keeps_bodies=False)
    if not converted.isascii():
        raise NotConvertible("the content has 8-bit octets outside its parts")
    return converted


def with_ascii_header(content: bytes) -> bytes:
    """The content with ASCII header fields, in the parts too; bodies keep their 8-bit text. Raises NotConvertible."""
    return _converted(content, keeps_bodies=True)


def _converted(content: bytes, *, keeps_bodies: bool) -> bytes:
    walk = _Walk(keeps_bodies=keeps_bodies)
    walk.entity(content, depth=0, is_message=True, is_delimited=False, default_type=("text", "plain"))
    converted = b"".join(walk.pieces)
    try:
        check_lines(converted)
        read_header_section(converted)
    except ContentError as error:
        raise NotConvertible(f"the converted content would not be in order: {error.reply.text}") from error
    return converted


class _Walk:
    """Goes down to the parts that have 8-bit octets, and collects the pieces of the result in order."""

    def __init__(self, *, keeps_bodies: bool) -> None:
        self.pieces: list[bytes] = []
        self._keeps_bodies = keeps_bodies
        self._parts = 0

    def entity(
        self, octets: bytes, *, depth: int, is_message: bool, is_delimited: bool, default_type: tuple[str, str]
    ) -> None:
        """A header section and its body. `is_delimited`: the line end behind it belongs to a boundary."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise NotConvertible(f"the message has more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            raise NotConvertible(f"the parts of the message are nested more than {MAX_DEPTH} deep")
        if octets.isascii():
            self.pieces.append(octets)
            return
        part = _Part(octets, is_message=is_message, default_type=default_type)
        if part.body.isascii():
            self._emit(part, part.body)
        elif part.is_multipart:
            self._multipart(part, depth=depth, is_delimited=is_delimited)
        elif part.media_type == ("message", "rfc822") and part.encoding in _IDENTITY_ENCODINGS:
            self._relabel(part, b"7bit")
            self._emit(part)
            self.entity(
                part.body, depth=depth + 1, is_message=True, is_delimited=is_delimited, default_type=("text", "plain")
            )
        elif self._keeps_bodies:
            self._emit(part, part.body)
        else:
            self._leaf(part, is_delimited=is_delimited)

    def _emit(self, part: _Part, *body: bytes) -> None:
        self.pieces += [*part.fields, _CRLF, *body]

    def _relabel(self, part: _Part, encoding: bytes) -> None:
        if not self._keeps_bodies:
            part.set_encoding(encoding)

    def _multipart(self, part: _Part, *, depth: int, is_delimited: bool) -> None:
        if part.media_type[1] == "signed":
            # RFC 1847 §2.1: it should have been 7-bit already, and nobody may change it.
            if not self._keeps_bodies:
                raise NotConvertible("the message has a signed part with 8-bit text, which cannot be changed")
            self._emit(part, part.body)
            return
        if part.encoding not in _IDENTITY_ENCODINGS:
            raise NotConvertible("a multipart has 8-bit octets and says that it is encoded")
        body = part.body
        delimiters = _delimiters(body, part.boundary)
        self._relabel(part, b"7bit")
        self._emit(part, self._scrubbed(body[: delimiters[0].start()]))
        default_type = ("message", "rfc822") if part.media_type[1] == "digest" else ("text", "plain")
        for index, delimiter in enumerate(delimiters):
            if delimiter[1]:
                self.pieces.append(self._scrubbed(body[delimiter.start() :]))
                return
            start = min(delimiter.end() + len(_CRLF), len(body))
            is_last = index + 1 == len(delimiters)
            end = len(body) if is_last else delimiters[index + 1].start()
            self.pieces.append(body[delimiter.start() : min(start, max(end, delimiter.end()))])
            if start < end:
                self.entity(
                    body[start:end],
                    depth=depth + 1,
                    is_message=False,
                    is_delimited=is_delimited or not is_last,
                    default_type=default_type,
                )

    def _scrubbed(self, octets: bytes) -> bytes:
        """What stands before the first and after the last boundary is shown to nobody (RFC 2046 §5.1.1)."""
        return octets if self._keeps_bodies else octets.translate(_HIGH_TO_QUESTION_MARK)

    def _leaf(self, part: _Part, *, is_delimited: bool) -> None:
        if part.media_type in (("message", "partial"), ("message", "external-body")):
            raise NotConvertible(
                f"a part of type message/{part.media_type[1]} has 8-bit octets and must not be encoded"
            )
        body = part.body
        if part.encoding == b"base64":
            # RFC 2045 §6.8: what is not of its alphabet is ignored by whoever decodes it.
            self._emit(part, body.translate(None, _HIGH_OCTETS))
            return
        if part.encoding == b"quoted-printable":
            self._emit(part, _quoted_printable(binascii.a2b_qp(body)))
            return
        if part.media_type[0] in ("text", "message") and _is_shorter_quoted(body):
            part.set_encoding(b"quoted-printable")
            encoded = _quoted_printable(body)
        else:
            part.set_encoding(b"base64")
            encoded = base64.encodebytes(body).replace(b"\n", _CRLF)
            if is_delimited:
                encoded = encoded.removesuffix(_CRLF)
        part.label_text(body)
        self._emit(part, encoded)


class _Part:
    """One entity while it is converted: its fields in ASCII, and what they say of its body."""

    def __init__(self, octets: bytes, *, is_message: bool, default_type: tuple[str, str]) -> None:
        section = _section_of(octets)
        self.fields = [ascii_field(field) for field in section.fields]
        self.body = octets[section.body_start :]
        self._names = [field.name.lower() for field in section.fields]
        self._is_message = is_message
        for name in ("content-type", "content-transfer-encoding"):
            if self._names.count(name) > 1:
                raise NotConvertible(f"a part has more than one {name} field")
        content_type = section.first_value("content-type")
        self._has_type = content_type is not None
        self.media_type = _media_type(content_type) if content_type is not None else default_type
        self._content_type = content_type or b""
        self.encoding = (section.first_value("content-transfer-encoding") or b"").lower()
        if self.encoding not in _TRANSFER_ENCODINGS:
            raise NotConvertible("a part with 8-bit octets has a transfer encoding that is not known")

    @property
    def is_multipart(self) -> bool:
        return self.media_type[0] == "multipart"

    @property
    def boundary(self) -> bytes:
        match = _BOUNDARY.search(self._content_type)
        boundary = (_QUOTED_PAIR.sub(rb"\1", match[1]) if match[1] is not None else match[2]) if match else b""
        if not boundary.strip() or not boundary.isascii():
            raise NotConvertible("a multipart with 8-bit octets does not name its boundary")
        return boundary.rstrip(b" \t")

    def set_encoding(self, encoding: bytes) -> None:
        """Where the part says nothing it is 7bit (RFC 2045 §6.1), and nothing need be said."""
        if "content-transfer-encoding" in self._names:
            position = self._names.index("content-transfer-encoding")
            self.fields[position] = _field(b"Content-Transfer-Encoding", encoding)
        elif encoding != b"7bit":
            self._add(b"Content-Transfer-Encoding", encoding)
        # RFC 2045 §4: without it, nothing of this means anything.
        if self._is_message and "mime-version" not in self._names:
            self._add(b"MIME-Version", b"1.0")

    def label_text(self, body: bytes) -> None:
        """RFC 1428 §3: text that came without any label gets one."""
        if not self._has_type:
            self._add(b"Content-Type", b"text/plain; charset=" + charset_of(body).encode("ascii"))

    def _add(self, name: bytes, value: bytes) -> None:
        self.fields.append(_field(name, value))
        self._names.append(name.decode("ascii").lower())


def _field(name: bytes, value: bytes) -> bytes:
    return name + b": " + value + _CRLF


def _section_of(octets: bytes) -> HeaderSection:
    try:
        return read_header_section(octets)
    except ContentError as error:
        raise NotConvertible("a part with 8-bit octets has a header section that cannot be read") from error


def _media_type(value: bytes) -> tuple[str, str]:
    match = _MEDIA_TYPE.match(value)
    if match is not None:
        return match[1].decode("ascii").lower(), match[2].decode("ascii").lower()
    if value.lstrip(b" \t").lower().startswith(b"multipart"):
        raise NotConvertible("a multipart with 8-bit octets has a malformed Content-Type field")
    return "text", "plain"  # RFC 2045 §5.2: so is anything read whose type is malformed


def _delimiters(body: bytes, boundary: bytes) -> Sequence[re.Match[bytes]]:
    """The boundaries in order, the closing one last if it is there. Line ends before them are theirs."""
    pattern = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r\n|\Z)")
    found: list[re.Match[bytes]] = []
    for match in pattern.finditer(body):
        found.append(match)
        if len(found) > MAX_PARTS:
            raise NotConvertible(f"the message has more than {MAX_PARTS} parts")
        if match[1]:
            break
    if not found:
        raise NotConvertible("the boundary of a multipart with 8-bit octets is missing")
    return found


def _is_shorter_quoted(body: bytes) -> bool:
    """An octet is three in quoted-printable, and three are four in base64, each with its line ends."""
    high = len(body) - len(body.translate(None, _HIGH_OCTETS))
    return len(body) + 2 * high <= len(body) * 4 / 3


def _quoted_printable(octets: bytes) -> bytes:
    encoded = binascii.b2a_qp(octets, istext=True)
    # Its soft line breaks follow the first line end in the text, of which there may be none.
    return encoded.replace(_CRLF, b"\n").replace(b"\n", _CRLF)
