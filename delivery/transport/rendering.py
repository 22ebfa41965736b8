"""A rendering: the bytes of a message for one recipient at one hop, signed when it is attempted.

The content was stored once, as received below our trace fields; what is added here stands above it. Where the hop takes
less than the content has, it is converted first and signed then. The body's hash and each conversion are made once per
message and serve every recipient; what is added for this recipient (`delivery.core.recipient_fields`) and the signatures over
it are made anew for each rendering, so that a retry days later carries the current key and a fresh date. What cannot be
converted is rendered as it is, and the session words the refusal.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from delivery.core.content import HeaderSection, read_header_section
from delivery.core.downgrade import NotConvertible, to_7bit, with_ascii_header
from delivery.transport.signing import DkimSigner, body_hash

# Converting takes about a second for the largest messages; the event loop does it itself only where it takes no time.
_CONVERTED_AT_ONCE_OCTETS = 64 * 1024


class Transform(Enum):
    """What is done to a message for a hop that takes less."""

    NONE = "none"
    ASCII_HEADER = "ascii_header"  # the hop has no SMTPUTF8, and only the header section would need it
    SEVEN_BIT = "seven_bit"  # the hop has no 8BITMIME


@dataclass(slots=True)
class LoadedContent:
    """A message's content in memory, with what is worth finding out only once."""

    content: bytes
    section: HeaderSection = field(init=False)
    has_8bit: bool = field(init=False)
    _body_hash: bytes | None = field(init=False, default=None)
    _converted: dict[Transform, LoadedContent | NotConvertible] = field(init=False, default_factory=dict)
    _converting: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.section = read_header_section(self.content)
        self.has_8bit = not self.content.isascii()

    @property
    def octets(self) -> int:
        """Of the content and of what it has been converted to."""
        made = [one for one in list(self._converted.values()) if isinstance(one, LoadedContent)]
        return len(self.content) + sum(len(one.content) for one in made if one.content is not self.content)

    def body_hash(self) -> bytes:
        if self._body_hash is None:
            self._body_hash = body_hash(memoryview(self.content)[self.section.body_start :])
        return self._body_hash

    def converted(self, transform: Transform) -> LoadedContent:
        """Raises NotConvertible, each time anew. May be called in any thread."""
        if transform is Transform.NONE or not self.has_8bit:
            return self
        with self._converting:
            known = self._converted.get(transform)
            if known is None:
                known = self._converted[transform] = self._convert(transform)
        if isinstance(known, NotConvertible):
            raise NotConvertible(str(known))
        return known

    def _convert(self, transform: Transform) -> LoadedContent | NotConvertible:
        convert = to_7bit if transform is Transform.SEVEN_BIT else with_ascii_header
        try:
            return LoadedContent(convert(self.content))
        except NotConvertible as reason:
            return reason


@dataclass(frozen=True, slots=True)
class Rendering:
    """``chunks`` together are the message; ``body`` and ``smtputf8`` are what MAIL says of it.

    ``note`` is for the transcript: what was done to the message for this hop, or why it could not be done.
    """

    chunks: tuple[bytes, ...]
    body: str
    smtputf8: bool = False
    note: str | None = None


def transform_for(
    loaded: LoadedContent, *, has_8bitmime: bool, has_smtputf8: bool, needs_smtputf8: bool, is_ascii_envelope: bool
) -> Transform:
    """What a hop makes necessary. Nothing helps where addresses in the envelope need SMTPUTF8 and it has none."""
    lacks_smtputf8 = (needs_smtputf8 or not is_ascii_envelope) and not has_smtputf8
    if not loaded.has_8bit or (lacks_smtputf8 and not is_ascii_envelope):
        return Transform.NONE
    if not has_8bitmime:
        return Transform.SEVEN_BIT
    return Transform.ASCII_HEADER if lacks_smtputf8 else Transform.NONE


@dataclass(frozen=True, slots=True)
class Dressing:
    """What a recipient's mail gets: his own header fields, and who signs, the author's domain first.

    Every signature covers the fields and the content, and none covers another, so that each stands for itself.
    """

    signers: tuple[DkimSigner, ...] = ()
    fields: bytes = b""

    def put_on(self, loaded: LoadedContent, *, now: datetime) -> tuple[bytes, ...]:
        above = read_header_section(self.fields + b"\r\n").fields if self.fields else ()
        fields = (*above, *loaded.section.fields)
        signatures = [signer.sign(fields, loaded.body_hash(), now=now) for signer in self.signers]
        head = b"".join([*signatures, self.fields])
        return (head, loaded.content) if head else (loaded.content,)


async def render_for(
    loaded: LoadedContent,
    *,
    dressing: Dressing,
    now: datetime,
    has_8bitmime: bool,
    has_smtputf8: bool,
    needs_smtputf8: bool,
    is_ascii_envelope: bool,
) -> Rendering:
    """The message for a hop with these extensions; `needs_smtputf8` is what the client said when it handed it over."""
    transform = transform_for(
        loaded,
        has_8bitmime=has_8bitmime,
        has_smtputf8=has_smtputf8,
        needs_smtputf8=needs_smtputf8,
        is_ascii_envelope=is_ascii_envelope,
    )
    # Without 8-bit text and with an ASCII envelope nothing is left of what SMTPUTF8 was asked for.
    smtputf8 = needs_smtputf8 and (has_smtputf8 or loaded.has_8bit or not is_ascii_envelope)
    if transform is Transform.NONE:
        return render(loaded, dressing=dressing, now=now, smtputf8=smtputf8)
    try:
        if len(loaded.content) > _CONVERTED_AT_ONCE_OCTETS:
            converted = await asyncio.to_thread(loaded.converted, transform)
        else:
            converted = loaded.converted(transform)
    except NotConvertible as reason:
        return render(loaded, dressing=dressing, now=now, smtputf8=smtputf8, note=f"not converted: {reason}")
    what = "7-bit content" if transform is Transform.SEVEN_BIT else "an ASCII header section"
    note = f"converted to {what} for this host" if converted.content != loaded.content else None
    return render(converted, dressing=dressing, now=now, smtputf8=smtputf8 and has_smtputf8, note=note)


def render(
    loaded: LoadedContent,
    *,
    dressing: Dressing,
    now: datetime,
    smtputf8: bool = False,
    note: str | None = None,
) -> Rendering:
    body = "8BITMIME" if loaded.has_8bit else "7BIT"
    return Rendering(dressing.put_on(loaded, now=now), body, smtputf8, note)
