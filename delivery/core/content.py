"""The content as bytes: its lines, its header section, its author.

A message is refused (`ContentError`) rather than guessed at where two readers could see different authors: that is how
mail is made to pass authentication as one domain and be shown as another. The body is looked at for line endings and
line length alone; nothing is unpacked, and the body is never copied.
"""

from __future__ import annotations

import binascii
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from delivery.core import replies
from delivery.core.mailbox import Mailbox, MailboxSyntaxError, parse_mailbox
from delivery.core.replies import OwnReply

# RFC 5322 §2.1.1, without the CRLF.
MAX_LINE_OCTETS = 998
# Real header sections stay below 64 KiB; large receivers refuse beyond 100 to 500 KiB.
MAX_HEADER_OCTETS = 256 * 1024
MAX_HEADER_FIELDS = 1000

# RFC 5322 §3.6: fields that may appear at most once.
SINGLETONS = frozenset(
    {
        "date", "from", "sender", "reply-to", "to", "cc", "bcc",
        "message-id", "in-reply-to", "references", "subject",
    }
)  # fmt: skip

_CRLF = b"\r\n"
_END_OF_HEADER = b"\r\n\r\n"
# RFC 5322 §2.2: a name is printable ASCII without colon. Readers differ on a space before the colon.
_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


class ContentError(ValueError):
    """The content is refused. `reason` is a machine word for the rejection log."""

    def __init__(self, reply: OwnReply, reason: str = "") -> None:
        super().__init__(reply.line)
        self.reply = reply
        self.reason = reason or reply.reason


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field; `raw` is the name, colon, value with its folding, and the final CRLF, as received."""

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        """Unfolded (RFC 5322 §2.2.3), without surrounding blanks."""
        return self.raw[len(self.name) + 1 :].replace(_CRLF, b"").strip(b" \t")


@dataclass(frozen=True, slots=True)
class HeaderSection:
    """The fields in order; `body_start` is the offset of the first octet after the blank line."""

    fields: tuple[HeaderField, ...]
    body_start: int

    def all(self, name: str) -> list[HeaderField]:
        """Every field of that name, in any case, from top to bottom."""
        wanted = name.lower()
        return [field for field in self.fields if field.name.lower() == wanted]

    def without(self, fields: Collection[HeaderField]) -> tuple[bytes, HeaderSection]:
        """The header section with its blank line as octets, and read, without these fields."""
        kept = tuple(field for field in self.fields if field not in fields)
        octets = b"".join(field.raw for field in kept) + _CRLF
        return octets, HeaderSection(kept, len(octets))

    def first_value(self, name: str) -> bytes | None:
        """The unfolded value of the topmost field of that name."""
        wanted = name.lower()
        return next((field.value for field in self.fields if field.name.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote the message (From), and who sent it for them where that is said (Sender)."""

    mailbox: Mailbox
    sender: Mailbox | None


def read_header_section(content: bytes) -> HeaderSection:
    """Split the header section into its fields. Raises `ContentError`.

    The section must end in a blank line within `MAX_HEADER_OCTETS`, and everything in it must be a field or the folded
    continuation of one. A content that begins with the blank line has no fields.
    """
    if content.startswith(_CRLF):
        return HeaderSection(fields=(), body_start=len(_CRLF))
    end = content.find(_END_OF_HEADER, 0, MAX_HEADER_OCTETS + len(_END_OF_HEADER))
    if end < 0:
        too_large = len(content) > MAX_HEADER_OCTETS
        raise ContentError(replies.HEADER_TOO_LARGE if too_large else replies.HEADER_MALFORMED)
    header = content[: end + len(_CRLF)]
    return HeaderSection(fields=_split_fields(header), body_start=end + len(_END_OF_HEADER))


def check_lines(content: bytes) -> None:
    """Refuse bare CR or LF, NUL, and over-long lines (RFC 5321 §2.3.8, RFC 5322 §2.1.1). Raises `ContentError`."""
    if b"\0" in content:
        raise ContentError(replies.NUL_IN_CONTENT)
    line_feeds = content.count(b"\n")
    if line_feeds != content.count(b"\r") or line_feeds != content.count(_CRLF):
        raise ContentError(replies.BARE_LINE_ENDING)
    if _has_over_long_line(content):
        raise ContentError(replies.LINE_TOO_LONG)


def check_singletons(section: HeaderSection) -> None:
    """Refuse repeated fields that RFC 5322 §3.6 allows once. Raises `ContentError`."""
    counts = Counter(field.name.lower() for field in section.fields)
    if counts["from"] > 1:
        raise ContentError(replies.FROM_NOT_SINGLE)
    if any(counts[name] > 1 for name in SINGLETONS):
        raise ContentError(replies.FIELD_REPEATED)


def author_of(section: HeaderSection) -> Author:
    """The one author of a message. Raises `ContentError`.

    There must be one From field with one mailbox, no group, and nothing that two readers could take for different
    addresses; Sender, where given, likewise. Repeated singletons of RFC 5322 §3.6 are refused on the way.
    """
    check_singletons(section)
    from_value = section.first_value("from")
    if from_value is None:
        raise ContentError(replies.FROM_NOT_SINGLE)
    sender_value = section.first_value("sender")
    return Author(
        mailbox=_single_mailbox(from_value, replies.FROM_NOT_SINGLE),
        sender=_single_mailbox(sender_value, replies.SENDER_MALFORMED) if sender_value is not None else None,
    )


def _split_fields(header: bytes) -> tuple[HeaderField, ...]:
    fields: list[HeaderField] = []
    position = 0
    while position < len(header):
        match = _FIELD.match(header, position)
        if match is None:
            raise ContentError(replies.HEADER_MALFORMED)
        if len(fields) == MAX_HEADER_FIELDS:
            raise ContentError(replies.HEADER_TOO_LARGE)
        fields.append(HeaderField(match[1].decode("ascii"), match[0]))
        position = match.end()
    return tuple(fields)


def _has_over_long_line(content: bytes) -> bool:
    # Jumps from a line start to the last line end that a permitted line could still reach: one step per 1000 octets.
    window = MAX_LINE_OCTETS + len(_CRLF)
    start = 0
    while len(content) - start > MAX_LINE_OCTETS:
        line_feed = content.rfind(b"\n", start, start + window)
        if line_feed < 0:
            return True
        start = line_feed + 1
    return False


# From and Sender. The value is cut into tokens, and the shape of their sequence decides; so it takes linear time.

_TOKEN = re.compile(
    rb"(?P<blank>[ \t]+)"
    rb"|(?P<word>[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+)"
    rb'|(?P<quoted>"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[ -~\x80-\xff])*")'
    # A comment without specials cannot be taken for an address by anybody; nested ones are read in too many ways.
    rb'|(?P<comment>\([^()<>@,;:"\\\[\]\x00-\x08\x0a-\x1f\x7f]*\))'
    rb"|(?P<special>[<>@])"
)
_SHAPE_LETTERS = {"blank": " ", "comment": " ", "word": "w", "quoted": "q"}
_PLAIN_MAILBOX = re.compile(r" *(?P<addr_spec>[wq]@w) *")
_NAMED_MAILBOX = re.compile(r"[wq ]*<(?P<addr_spec>[wq]@w)> *")


def _single_mailbox(value: bytes, refusal: OwnReply) -> Mailbox:
    tokens = _tokens(value)
    shape = "".join(letter for letter, _ in tokens)
    match = _PLAIN_MAILBOX.fullmatch(shape) or _NAMED_MAILBOX.fullmatch(shape)
    if match is None:
        raise ContentError(refusal)
    start, end = match.span("addr_spec")
    addr_spec = b"".join(token for _, token in tokens[start:end])
    if b"=?" in addr_spec or _hides_an_address(value):
        raise ContentError(refusal)
    try:
        return parse_mailbox(addr_spec.decode("utf-8"))
    except (MailboxSyntaxError, UnicodeDecodeError) as error:
        raise ContentError(refusal) from error


def _tokens(value: bytes) -> list[tuple[str, bytes]]:
    """Letter and octets of each token; a letter that no shape has where the value cannot be cut into tokens."""
    tokens: list[tuple[str, bytes]] = []
    position = 0
    while position < len(value):
        match = _TOKEN.match(value, position)
        if match is None:
            return [("!", value)]
        kind = match.lastgroup or ""
        tokens.append((_SHAPE_LETTERS.get(kind) or match[0].decode("ascii"), match[0]))
        position = match.end()
    return tokens


def _hides_an_address(value: bytes) -> bool:
    # Some readers decode encoded words before they look for the address, and then find another one.
    decoded_words = (_decode_octets(_octets_of(match), match[1]) for match in _ENCODED_WORD.finditer(value))
    return any(char in word for word in decoded_words for char in "<>\r\n\0")


# Text for people.

_MAX_DISPLAY_OCTETS = 16 * 1024
_ENCODED_WORD = re.compile(rb"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?([!->@-~ ]*)\?=")
_ONLY_BLANKS = re.compile(rb"[ \t\r\n]*")
_Q_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_JIS_SEGMENT = re.compile(rb"\x1b(\$[@B]|\([BJI])")
# Controls, and marks that reorder the text around them (Unicode TR 9).
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]+")
# Charset labels as mail uses them, and the codec that reads what is really found under them.
_CODECS = {
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932",
    "ms_kanji": "cp932", "csshiftjis": "cp932", "cp932": "cp932",
    "euc-jp": "euc_jp", "x-euc-jp": "euc_jp", "euc_jp": "euc_jp",
    "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8", "unknown-8bit": "utf-8",
    "gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "big5": "big5hkscs", "hz-gb-2312": "hz",
    "ks_c_5601-1987": "cp949", "euc-kr": "cp949", "iso-2022-kr": "iso2022_kr",
    "koi8-r": "koi8_r", "koi8-u": "koi8_u", "tis-620": "cp874", "macintosh": "mac_roman",
    # Browsers and mail programs agree that Latin-1 labels mean Windows-1252.
    "iso-8859-1": "cp1252", "latin1": "cp1252",
}  # fmt: skip
_CODEC_FAMILIES = re.compile(r"(?:iso-?8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}|utf-?(?:7|16(?:be|le)?))")


def display_text(value: bytes) -> str:
    """A header value decoded for people, on one line: encoded words of any common charset, and raw 8-bit text.

    Never fails: what cannot be decoded becomes U+FFFD. Control and reordering characters are removed, so the text can
    be shown and logged; it still has to be escaped for HTML.
    """
    return " ".join(_UNSEEN.sub(" ", _decoded(value[:_MAX_DISPLAY_OCTETS])).split())


def exact_text(value: bytes) -> str | None:
    """A header value as the text it stands for, to the letter; None where it is not certain which text that is.

    For values that programs act on: raw octets must be UTF-8, encoded words must decode, and nothing unseen may hide.
    """
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = _decoded(value)
    return None if "\ufffd" in text or _UNSEEN.search(text.replace("\t", " ")) else text


def _decoded(value: bytes) -> str:
    parts: list[str] = []
    pending: tuple[bytes, bytes] | None = None
    position = 0
    for match in _ENCODED_WORD.finditer(value):
        between = value[position : match.start()]
        charset, octets = match[1].lower(), _octets_of(match)
        if pending and _ONLY_BLANKS.fullmatch(between):
            # RFC 2047 §6.2 drops blanks between encoded words. Their octets are joined first: many programs cut
            # characters in two.
            if pending[0] == charset:
                pending = (charset, pending[1] + octets)
            else:
                parts.append(_decode_octets(pending[1], pending[0]))
                pending = (charset, octets)
        else:
            if pending:
                parts.append(_decode_octets(pending[1], pending[0]))
            parts.append(_decode_raw(between))
            pending = (charset, octets)
        position = match.end()
    if pending:
        parts.append(_decode_octets(pending[1], pending[0]))
    parts.append(_decode_raw(value[position:]))
    return "".join(parts)


def _octets_of(word: re.Match[bytes]) -> bytes:
    encoded = word[3]
    if word[2] in b"Bb":
        compact = _NOT_BASE64.sub(b"", encoded)
        # A single left-over character carries less than one octet.
        compact = compact[: -1 if len(compact) % 4 == 1 else None]
        return binascii.a2b_base64(compact + b"=" * (-len(compact) % 4))
    return _Q_HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), encoded.replace(b"_", b" "))


def _decode_octets(octets: bytes, charset: bytes) -> str:
    label = charset.decode("ascii").lower()
    if label.startswith(("iso-2022-jp", "csiso2022jp")):
        return _decode_iso_2022_jp(octets)
    codec = _CODECS.get(label) or (label if _CODEC_FAMILIES.fullmatch(label) else "utf-8")
    try:
        return octets.decode(codec, "replace")
    except (LookupError, UnicodeError):
        return octets.decode("utf-8", "replace")


def _decode_raw(octets: bytes) -> str:
    if _JIS_SEGMENT.search(octets):
        return _decode_iso_2022_jp(octets)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return octets.decode("cp932")
    except UnicodeDecodeError:
        return octets.decode("utf-8", "replace")


def _decode_iso_2022_jp(octets: bytes) -> str:
    """ISO-2022-JP as written in practice: with the NEC and IBM characters (such as ①) that Python's codec lacks."""
    parts: list[str] = []
    is_double, is_kana = False, False
    for index, segment in enumerate(_JIS_SEGMENT.split(octets)):
        if index % 2:
            is_double, is_kana = segment.startswith(b"$"), segment == b"(I"
        elif is_double:
            parts.append(_jis_to_shift_jis(segment).decode("cp932", "replace"))
        elif is_kana:
            parts.append(bytes(octet | 0x80 for octet in segment).decode("cp932", "replace"))
        else:
            parts.append(segment.decode("utf-8", "replace"))
    return "".join(parts)


def _jis_to_shift_jis(segment: bytes) -> bytes:
    converted = bytearray()
    for row, cell in zip(segment[::2], segment[1::2], strict=False):
        if not (0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E):
            converted += b"?"
            continue
        lead = (row + 1) // 2 + (0x70 if row <= 0x5E else 0xB0)
        trail = cell + (0x1F + (cell >= 0x60) if row % 2 else 0x7E)
        converted += bytes((lead, trail))
    return bytes(converted)
