"""Writes a message from its parts: header section, text, HTML, inline images, attachments, as strict MIME.

What comes out is ready for acceptance: CRLF lines of at most 998 octets, ASCII throughout (addresses with a non-ASCII
local part excepted), no Bcc. Whatever could end a header line raises `ComposeError`, which names the part at fault; the
rest of the text is encoded, never altered: RFC 2047 in the header, RFC 2231 in parameters, and 7bit, quoted-printable or
base64 in bodies, whichever is shortest to read.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from delivery.core.mailbox import Mailbox

# RFC 5322 §2.1.1: what a line should keep to.
_LINE_OCTETS = 78
# RFC 2047 §2: an encoded word has at most 75 characters; of these "=?utf-8?B??=" takes 12, and base64 comes in fours.
_WORD_OCTETS = 45
# Below what any relay refuses; a word longer than this cannot be folded.
_LONGEST_WORD_OCTETS = 900
_LONGEST_7BIT_LINE = 998

# C0, DEL, C1 (NEL among them), the separators that some readers take for line ends, and half characters.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,70}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}")
_MEDIA_TYPE = re.compile(r"([A-Za-z0-9!#$&^_.+-]{1,100})/([A-Za-z0-9!#$&^_.+-]{1,100})")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,250}")
_PLACEHOLDER = re.compile(r"\{\{ ?([A-Za-z0-9_.-]{1,100}) ?\}\}")

# Ours to write, or never a client's to set.
WRITTEN_BY_US = frozenset(
    {
        "from", "to", "cc", "bcc", "reply-to", "subject", "mime-version", "received", "return-path", "dkim-signature",
        "authentication-results", "arc-seal", "arc-message-signature", "arc-authentication-results",
        "resent-bcc", "delivered-to",
    }
)  # fmt: skip
# Fields with a grammar of their own: an encoded word inside them would be read as its letters.
_STRUCTURED = frozenset(
    {"sender", "message-id", "in-reply-to", "references", "date", "auto-submitted", "precedence", "x-priority"}
)


class ComposeError(ValueError):
    """A part cannot be written safely. `part` says which, such as `subject` or `headers.X-Name`."""

    def __init__(self, part: str, sentence: str) -> None:
        super().__init__(f"{part}: {sentence}")
        self.part = part
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Named:
    """A mailbox with the name people read; the name may be empty."""

    mailbox: Mailbox
    name: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file. With a `content_id`, shown within the HTML that names it as `cid:`; `media_type` may carry a charset."""

    content: bytes
    filename: str
    media_type: str = "application/octet-stream"
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Composition:
    """`boundary` must be random: it may occur in none of the parts.

    `controls` are header fields for acceptance, which reads them and takes them out; names and values as in `headers`.
    """

    author: Named
    boundary: str
    to: Sequence[Named] = ()
    cc: Sequence[Named] = ()
    reply_to: Sequence[Named] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    controls: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()


def compose(mail: Composition) -> bytes:
    """The whole content. Raises `ComposeError`."""
    fields = [
        address_field("From", [mail.author], part="from"),
        *(
            address_field(name, named, part=part)
            for name, named, part in (
                ("To", mail.to, "to"),
                ("Cc", mail.cc, "cc"),
                ("Reply-To", mail.reply_to, "reply_to"),
            )
            if named
        ),
        text_field("Subject", mail.subject, part="subject"),
        *(_own_field(name, value) for name, value in mail.headers),
        *(_control_field(name, value) for name, value in mail.controls),
        b"MIME-Version: 1.0\r\n",
    ]
    return b"".join(fields) + _body(mail)


def substitute(text: str, variables: dict[str, str], *, part: str, is_html: bool = False) -> str:
    """`{{name}}` replaced by what the recipient has under that name. Raises `ComposeError` for a name it has not."""

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match[1])
        if value is None:
            raise ComposeError(part, f"there is no variable {match[1]}")
        return escape(value) if is_html else value

    return _PLACEHOLDER.sub(value_of, text)


def refuse_breaks(text: str, *, part: str) -> None:
    """Refuse controls, line ends of any alphabet and half characters. Raises `ComposeError`."""
    if _BREAKS.search(text):
        raise ComposeError(part, "control characters and line breaks are not allowed")


# ---------------------------------------------------------------- header fields


def text_field(name: str, value: str, *, part: str) -> bytes:
    """An unstructured field (RFC 5322 §2.2.1), folded, with encoded words where it is not plain ASCII."""
    refuse_breaks(value, part=part)
    return name.encode("ascii") + b":" + _folded(_unstructured(value), len(name) + 1)


def address_field(name: str, mailboxes: Sequence[Named], *, part: str) -> bytes:
    """A list of mailboxes (RFC 5322 §3.4), one to a line."""
    written = []
    for named in mailboxes:
        refuse_breaks(named.name, part=part)
        address = named.mailbox.quoted.encode("utf-8")
        written.append(b"<" + address + b">" if named.name else address)
        if named.name:
            written[-1] = _folded(_phrase(named.name), len(name) + 1)[1:-2] + b"\r\n " + written[-1]
    return name.encode("ascii") + b": " + b",\r\n ".join(written) + b"\r\n"


def _control_field(name: str, value: str) -> bytes:
    _check_name(name)
    return text_field(name, value, part=f"headers.{name[:100]}")


def _check_name(name: str) -> None:
    if not _FIELD_NAME.fullmatch(name):
        raise ComposeError("headers", "a header field has a name that is not allowed")


def _own_field(name: str, value: str) -> bytes:
    part = f"headers.{name[:100]}"
    lowered = name.lower()
    _check_name(name)
    if lowered in WRITTEN_BY_US or lowered.startswith(("content-", "x-relay-")):
        raise ComposeError(part, "this header field cannot be set")
    value = value.strip(" ")
    refuse_breaks(value, part=part)
    if lowered in _STRUCTURED or lowered.startswith("list-"):
        if not value.isascii() or "=?" in value:
            raise ComposeError(part, "this header field takes ASCII only")
        if any(len(word) > _LONGEST_WORD_OCTETS for word in value.split(" ")):
            raise ComposeError(part, "a word of this header field is too long")
        return name.encode("ascii") + b":" + _folded(value.split(" "), len(name) + 1)
    return text_field(name, value, part=part)


def _unstructured(value: str) -> list[str]:
    """Words to be joined by single blanks or folds, so that reading gives `value` again."""
    is_plain = value.isascii() and "=?" not in value and value.strip(" ") == value
    if is_plain and all(len(word) <= _LONGEST_WORD_OCTETS for word in value.split(" ")):
        return value.split(" ")
    return list(_encoded_words(value))


def _phrase(name: str) -> list[str]:
    if _PHRASE.fullmatch(name) and "=?" not in name and len(name) <= _LONGEST_WORD_OCTETS:
        return name.split(" ")
    if name.isascii() and "=?" not in name and len(name) <= _LINE_OCTETS:
        return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return list(_encoded_words(name))


def _encoded_words(text: str) -> Iterable[str]:
    """RFC 2047 §5: no character is cut in two, and blanks between two encoded words are not read."""
    octets = text.encode("utf-8")
    start = 0
    while start < len(octets):
        end = min(start + _WORD_OCTETS, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        yield f"=?utf-8?B?{binascii.b2a_base64(octets[start:end], newline=False).decode('ascii')}?="
        start = end


def _folded(words: Sequence[str], used: int) -> bytes:
    """Words on lines of at most 78 octets where they fit; a line never holds blanks alone."""
    out, length = [], used
    for position, word in enumerate(words):
        following = words[position + 1 :]
        # Folding before an empty word, or where only empty ones follow, would leave a line of blanks.
        may_fold = position > 0 and word and words[position - 1] and any(following or (word,))
        if may_fold and length + 1 + len(word) > _LINE_OCTETS:
            out.append("\r\n " + word)
            length = 1 + len(word)
        else:
            out.append(" " + word)
            length += 1 + len(word)
    return "".join(out).encode("ascii") + b"\r\n"


# ---------------------------------------------------------------- bodies


def _body(mail: Composition) -> bytes:
    inline = [one for one in mail.attachments if one.content_id]
    files = [one for one in mail.attachments if not one.content_id]
    texts = [
        text_entity(text, subtype)
        for text, subtype in ((mail.text, "plain"), (mail.html, "html"))
        if text is not None
    ]  # fmt: skip
    entity = texts[0] if len(texts) == 1 else None
    if len(texts) > 1:
        entity = _multipart("alternative", texts, f"{mail.boundary}.a")
    if inline:
        entity = _multipart(
            "related", [*([entity] if entity else []), *map(_file_entity, inline)], f"{mail.boundary}.r"
        )
    if files:
        entity = _multipart("mixed", [*([entity] if entity else []), *map(_file_entity, files)], f"{mail.boundary}.m")
    if entity is None:
        raise ComposeError("text", "there is neither text, nor HTML, nor an attachment")
    return entity if entity.endswith(b"\r\n") else entity + b"\r\n"


def _multipart(subtype: str, entities: Sequence[bytes], boundary: str) -> bytes:
    line = f"\r\n--{boundary}".encode("ascii")
    return (
        f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n'.encode("ascii")
        + b"".join(line + b"\r\n" + entity for entity in entities)
        + line
        + b"--\r\n"
    )


def text_entity(text: str, subtype: str) -> bytes:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ComposeError("html" if subtype == "html" else "text", "half a character cannot be sent") from None
    charset = "us-ascii" if text.isascii() else "utf-8"
    if text.isascii() and "\0" not in text and _longest_line(octets) <= _LONGEST_7BIT_LINE:
        encoding, body = "7bit", octets.replace(b"\n", b"\r\n")
    elif _is_mostly_ascii(text, octets):
        encoding, body = "quoted-printable", binascii.b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    else:
        encoding, body = "base64", base64_lines(octets.replace(b"\n", b"\r\n"))
    return (
        f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode(
            "ascii"
        )
        + body
    )


def _is_mostly_ascii(text: str, octets: bytes) -> bool:
    # A non-ASCII octet takes three in quoted-printable, any octet one and a third in base64.
    return "\0" not in text and (len(octets) - len(text)) * 4 < len(octets)


def _longest_line(octets: bytes) -> int:
    return max(map(len, octets.split(b"\n")))


def base64_lines(octets: bytes) -> bytes:
    """RFC 2045 §6.8: lines of 76 characters."""
    return b"".join(
        binascii.b2a_base64(octets[start : start + 57], newline=False) + b"\r\n" for start in range(0, len(octets), 57)
    )


def _file_entity(one: Attachment) -> bytes:
    part = "attachments"
    match = _MEDIA_TYPE.match(one.media_type)
    refuse_breaks(one.media_type, part=part)
    refuse_breaks(one.filename, part=part)
    if match is None or match[1].lower() in {"multipart", "message"}:
        raise ComposeError(part, "the content type cannot be used for a file")
    fields = [f"Content-Type: {match[0].lower()}{_charset(one.media_type[match.end() :])}\r\n"]
    fields.append(f"Content-Disposition: {'inline' if one.content_id else 'attachment'}{_filename(one.filename)}\r\n")
    if one.content_id:
        if not _CONTENT_ID.fullmatch(one.content_id):
            raise ComposeError(part, "a content id may hold neither blanks nor angle brackets")
        fields.append(f"Content-ID: <{one.content_id}>\r\n")
    fields.append("Content-Transfer-Encoding: base64\r\n\r\n")
    return "".join(fields).encode("ascii") + base64_lines(one.content)


def _charset(parameters: str) -> str:
    match = re.search(r";\s*charset=\"?([A-Za-z0-9_.:+-]{1,40})\"?", parameters, re.IGNORECASE)
    return f"; charset={match[1]}" if match else ""


def _filename(name: str) -> str:
    if not name:
        return ""
    if name.isascii() and len(name) <= 60:
        if _TOKEN.fullmatch(name):
            return f"; filename={name}"
        return ';\r\n filename="' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    # RFC 2231 §4: percent-encoded, with its charset; §3: cut into numbered sections, between characters.
    sections, current = [], ""
    for character in name:
        written = quote(character, safe="", encoding="utf-8")
        if len(current) + len(written) > 54:
            sections.append(current)
            current = ""
        current += written
    sections.append(current)
    if len(sections) == 1:
        return f";\r\n filename*=utf-8''{sections[0]}"
    return "".join(
        f";\r\n filename*{number}*={chr(39).join(('utf-8', '', '')) if number == 0 else ''}{section}"
        for number, section in enumerate(sections)
    )
