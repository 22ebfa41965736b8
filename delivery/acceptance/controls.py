"""What a sender may say about a mail beside its envelope: one vocabulary, in JSON or as ``X-Relay-*`` header fields.

The fields give SMTP clients what the API's members give programs: ``X-Relay-Send-At`` is ``send_at``. They are read
strictly, because whoever asks for a verified certificate or for Friday must not get something else: a field that is not
known, is repeated, or has a value that is not understood refuses the mail and is named. They are taken out before the
mail is stored, so none is signed or leaves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from delivery.acceptance.submission import Controls, Once, TlsRequirement
from delivery.core import replies
from delivery.core.content import HeaderSection, exact_text
from delivery.core.replies import Rejection

PREFIX = "X-Relay-"

SCHEDULED_AT_MOST = timedelta(hours=72)
SHORTEST_LIFETIME, LONGEST_LIFETIME = timedelta(minutes=1), timedelta(days=7)
MOST_TAGS, MOST_METADATA = 10, 50
LONGEST_TAG = LONGEST_METADATA_NAME = 100
LONGEST_METADATA_VALUE = 500
LONGEST_NAME = 48  # of a stream or a pool
LONGEST_KEY = 255

# Beyond what the limits above can fill when it is written in encoded words.
_LONGEST_FIELD_OCTETS = 128 * 1024
_LONGEST_SHOWN_NAME = 60
# C0, DEL, C1, the separators that some readers take for line ends, and half characters.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ControlError(ValueError):
    """A control cannot be honoured. ``part`` is its place, such as ``tags[0]`` or ``metadata.order``."""

    def __init__(self, part: str, sentence: str) -> None:
        super().__init__(f"{part}: {sentence}")
        self.part = part
        self.sentence = sentence


# ---------------------------------------------------------------- limits, for every door


def check(controls: Controls, *, now: datetime) -> Controls:
    """The controls with repeated tags merged. Raises ControlError."""
    if len(controls.tags) > MOST_TAGS:
        raise ControlError("tags", f"at most {MOST_TAGS}")
    for place, tag in enumerate(controls.tags):
        _check_word(tag, part=f"tags[{place}]", most=LONGEST_TAG)
    if len(controls.metadata) > MOST_METADATA:
        raise ControlError("metadata", f"at most {MOST_METADATA} names")
    for name, value in controls.metadata.items():
        _check_word(name, part="metadata", most=LONGEST_METADATA_NAME)
        _check_word(value, part=f"metadata.{name}", most=LONGEST_METADATA_VALUE, may_be_empty=True)
    for part, name in (("stream", controls.stream), ("pool", controls.pool)):
        if name:
            _check_word(name, part=part, most=LONGEST_NAME)
    if controls.send_at is not None and controls.send_at > now + SCHEDULED_AT_MOST:
        raise ControlError("send_at", "at most 72 hours ahead")
    if controls.lifetime is not None and not SHORTEST_LIFETIME <= controls.lifetime <= LONGEST_LIFETIME:
        raise ControlError("lifetime_seconds", "between 60 and 604800")
    return replace(controls, tags=tuple(dict.fromkeys(controls.tags)))


def is_key(text: str) -> bool:
    """Whether an idempotency key can be kept: 1 to 255 printable ASCII characters."""
    return 1 <= len(text) <= LONGEST_KEY and text.isascii() and text.isprintable()


def _check_word(text: str, *, part: str, most: int, may_be_empty: bool = False) -> None:
    if len(text) > most or not (text or may_be_empty):
        raise ControlError(part, f"between 1 and {most} characters")
    if _BREAKS.search(text):
        raise ControlError(part, "control characters and line breaks are not allowed")


# ---------------------------------------------------------------- header fields


def is_control(name: str) -> bool:
    return name.lower().startswith(PREFIX.lower())


def read_pairs(pairs: Iterable[tuple[str, str]], *, digest: Callable[[], bytes]) -> Controls:
    """The controls that names such as ``X-Relay-Tags`` and their values say. Raises ControlError, whose part is the name.

    ``digest`` makes what stands for the mail where a key says that it is to be sent once.
    """
    found: dict[str, Any] = {}
    for given, value in pairs:
        known = _KNOWN.get(given.lower()[len(PREFIX) :])
        if known is None:
            raise ControlError(given[:_LONGEST_SHOWN_NAME], "there is no such field")
        shown, attribute, read = known
        if attribute in found:
            raise ControlError(shown, "it is given twice")
        try:
            found[attribute] = read(value)
        except ValueError as error:
            raise ControlError(shown, str(error)) from None
    if "once" in found:
        found["once"] = Once(found["once"], digest(), is_in_mail=True)
    return Controls(**found)


def taken_from(section: HeaderSection, *, digest: Callable[[], bytes], now: datetime) -> Controls:
    """The controls that a mail's own header section says. Raises Rejection, whose text names the field."""
    try:
        controls = read_pairs(_pairs(section), digest=digest)
    except ControlError as error:
        raise refused(error.part, error.sentence) from None
    try:
        return check(controls, now=now)
    except ControlError as error:
        raise refused(_SHOWN_OF[re.split(r"[.\[]", error.part)[0]], error.sentence) from None


def combine(given: Controls, in_mail: Controls) -> Controls:
    """What came beside the mail and what stands in it. Raises Rejection where both say the same thing."""
    said: dict[str, Any] = {}
    for one in fields(Controls):
        value = getattr(in_mail, one.name)
        if not value:
            continue
        if getattr(given, one.name):
            raise refused(_SHOWN_OF[one.name], "it is given beside the mail as well")
        said[one.name] = value
    return replace(given, **said)


def refused(name: str, sentence: str) -> Rejection:
    reply = replies.CONTROL_REFUSED
    return Rejection(replace(reply, text=f"{name}: {sentence}"), detail=name)


def _pairs(section: HeaderSection) -> Iterable[tuple[str, str]]:
    for field in section.fields:
        if is_control(field.name):
            text = exact_text(field.value) if len(field.raw) <= _LONGEST_FIELD_OCTETS else None
            if text is None:
                shown = _KNOWN.get(field.name.lower()[len(PREFIX) :], (field.name[:_LONGEST_SHOWN_NAME],))[0]
                raise ControlError(str(shown), "the value cannot be read as text")
            yield field.name, text


def _word(value: str) -> str:
    if not value:
        raise ValueError("the value is empty")
    return value


def _tags(value: str) -> tuple[str, ...]:
    """``order, ja``, or a JSON array where a tag holds a comma."""
    if value.startswith("["):
        return tuple(_json(value, list[str], "neither a list with commas nor a JSON array of texts"))
    tags = tuple(tag.strip(" \t") for tag in value.split(","))
    if not all(tags):
        raise ValueError("a tag is empty")
    return tags


def _metadata(value: str) -> Mapping[str, str]:
    found: Mapping[str, str] = _json(value, dict[str, str], "not a JSON object of texts")
    if not found:
        raise ValueError("the object is empty")
    return found


def _tls(value: str) -> TlsRequirement:
    try:
        return TlsRequirement(value.lower())
    except ValueError:
        raise ValueError("neither required nor verified") from None


def _send_at(value: str) -> datetime:
    wanted = Annotated[datetime, msgspec.Meta(tz=True)]
    try:
        found: datetime = msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        raise ValueError("not a time with a zone such as 2026-11-24T18:00:00+09:00") from None
    return found


def _lifetime(value: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,7}", value):
        raise ValueError("not a number of seconds")
    return timedelta(seconds=int(value))


def _key(value: str) -> str:
    if not is_key(value):
        raise ValueError(f"1 to {LONGEST_KEY} printable ASCII characters")
    return value


def _json(value: str, kind: Any, otherwise: str) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError(otherwise) from None


# By the rest of the name in lower case: as it is shown, where it is kept, and how it is read (raises ValueError).
_KNOWN: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    name.lower(): (PREFIX + name, attribute, read)
    for name, attribute, read in (
        ("Stream", "stream", _word),
        ("Pool", "pool", _word),
        ("Tags", "tags", _tags),
        ("Metadata", "metadata", _metadata),
        ("TLS", "tls", _tls),
        ("Send-At", "send_at", _send_at),
        ("Lifetime-Seconds", "lifetime", _lifetime),
        ("Idempotency-Key", "once", _key),
    )
}
_SHOWN_OF = {attribute: shown for shown, attribute, _ in _KNOWN.values()} | {
    "lifetime_seconds": f"{PREFIX}Lifetime-Seconds"
}
