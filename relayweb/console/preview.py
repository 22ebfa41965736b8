"""Reads a stored message for people: header fields, text, HTML freed of whatever runs or loads, names of attachments.

What comes out is shown, never sent. Mail that cannot be parsed gives what can be read of it; nothing here raises.
"""

from __future__ import annotations

import base64
import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message as EmailMessage

import nh3

from delivery.core.content import display_text

MOST_TEXT_CHARACTERS = 200_000
MOST_INLINE_IMAGE_BYTES = 2_000_000
MOST_FIELDS = 500

_REMOTE = re.compile(r"""(?:(?:src|srcset|background|poster)\s*=\s*|url\(\s*)["']?\s*(?:https?:)?//""", re.IGNORECASE)
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_LAYOUT = "style align valign bgcolor color width height border cellpadding cellspacing dir lang title"
# Links keep their words and lose their targets: nothing in the preview leads out.
_ATTRIBUTES: dict[str, set[str]] = {
    "*": set(_LAYOUT.split()),
    "img": {"src", "alt"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "font": {"face", "size"},
}
_TAGS = nh3.ALLOWED_TAGS | {"font"}


@dataclass(frozen=True, slots=True)
class FieldText:
    name: str
    raw: str
    decoded: str


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Read:
    fields: tuple[FieldText, ...] = ()
    text: str = ""
    is_text_cut: bool = False
    html: str = ""
    remote_count: int = 0
    attachments: tuple[Attachment, ...] = field(default=())


def read(content: bytes) -> Read:
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    texts, pages, images, attachments = [], [], {}, []
    for part in _leaves(message):
        kind = part.get_content_type()
        is_shown = part.get_content_disposition() != "attachment"
        if kind == "text/plain" and is_shown:
            texts.append(_decoded(part))
        elif kind == "text/html" and is_shown:
            pages.append(_decoded(part))
        else:
            data = _payload(part)
            content_id = str(part.get("Content-ID", "")).strip().strip("<>")
            if content_id and kind in _IMAGE_TYPES and len(data) <= MOST_INLINE_IMAGE_BYTES:
                images[content_id] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
            attachments.append(Attachment(_file_name(part), kind, len(data)))
    text, html = "\n".join(texts), "\n".join(pages)[: 5 * MOST_TEXT_CHARACTERS]
    return Read(
        fields=tuple(_fields(content)),
        text=text[:MOST_TEXT_CHARACTERS],
        is_text_cut=len(text) > MOST_TEXT_CHARACTERS,
        html=_harmless(html, images),
        remote_count=len(_REMOTE.findall(html)),
        attachments=tuple(attachments),
    )


def _leaves(message: EmailMessage, depth: int = 0) -> Iterator[EmailMessage]:
    if not message.is_multipart() or message.get_content_maintype() == "message" or depth > 20:
        yield message
        return
    for part in message.get_payload():
        if isinstance(part, EmailMessage):
            yield from _leaves(part, depth + 1)


def _payload(part: EmailMessage) -> bytes:
    if part.is_multipart():
        return part.as_bytes()
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _decoded(part: EmailMessage) -> str:
    data, charset = _payload(part), part.get_content_charset() or "utf-8"
    for encoding in (charset, "utf-8"):
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("utf-8", "replace")


def _file_name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except (LookupError, ValueError):
        return ""
    return display_text(name.encode("utf-8", "replace"))


def _fields(content: bytes) -> Iterator[FieldText]:
    header, _, _ = content.partition(b"\r\n\r\n")
    for raw in re.split(rb"\r\n(?![ \t])", header)[:MOST_FIELDS]:
        name, colon, value = raw.partition(b":")
        if colon:
            yield FieldText(name.decode("ascii", "replace"), raw.decode("utf-8", "replace"), display_text(value))


def _harmless(html: str, images: dict[str, str]) -> str:
    def kept(tag: str, attribute: str, value: str) -> str | None:
        if attribute == "src":
            return images.get(value.removeprefix("cid:")) if value.startswith("cid:") else None
        return value

    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=kept,
        url_schemes={"cid", "data"},
        strip_comments=True,
        link_rel=None,
    )
