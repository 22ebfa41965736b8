"""Which delivery status notifications a recipient's mail may owe, decided once, when the mail is accepted.

RFC 3461 says what the client asked for; whether bounces are managed here says what counts where it asked for nothing. Mail
that nobody reads the answers to is never answered: reports themselves (the null reverse-path), what programs write
(RFC 3834 §2, §5.1) and what goes to lists. So no two machines ever write to each other through us.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntFlag

from delivery.core.content import HeaderSection
from delivery.core.mailbox import Mailbox


class Notice(IntFlag):
    NONE = 0
    FAILURE = 1
    DELAY = 2
    SUCCESS = 4


# RFC 3461 §4.1: without NOTIFY, failures are told, and delays may be.
DEFAULT = Notice.FAILURE | Notice.DELAY
_MASS_PRECEDENCE = frozenset({b"bulk", b"junk", b"list"})


def notices_of(
    *, reverse_path: Mailbox | None, notify: Collection[str] | None, keeps_reverse_path: bool, is_automatic: bool
) -> Notice:
    """What is owed to the reverse-path when it comes to that.

    With managed bounces the tenant reads here what became of his mail, so only what was asked for is told.
    """
    if reverse_path is None or is_automatic:
        return Notice.NONE
    if notify is None:
        return DEFAULT if keeps_reverse_path else Notice.NONE
    asked = Notice.NONE
    for word in notify:
        if word != "NEVER":
            asked |= Notice[word]
    return asked


def is_automatic(section: HeaderSection) -> bool:
    """Whether a program wrote it to nobody in particular, or a list distributes it."""
    auto_submitted = section.first_value("auto-submitted")
    if auto_submitted is not None and _first_word(auto_submitted) != b"no":
        return True
    if any(_first_word(field.value) in _MASS_PRECEDENCE for field in section.all("precedence")):
        return True
    return section.first_value("list-id") is not None


def _first_word(value: bytes) -> bytes:
    words = value.replace(b";", b" ").replace(b"(", b" ").lower().split()
    return words[0] if words else b""
