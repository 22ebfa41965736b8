"""What a business function raises when it will not do what was asked; each door words it in its own protocol.

``sentence`` is already translated for the person who asks; ``reason`` is a machine word, ``field`` the input at fault.
"""

from __future__ import annotations


class Refused(Exception):
    """Nothing was changed."""

    def __init__(self, sentence: str, *, reason: str, field: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.reason = reason
        self.field = field


class NotFound(Refused):
    """There is no such thing, or it is not the asking tenant's; which of the two is not said."""

    def __init__(self, sentence: str, *, reason: str = "not_found", field: str = "") -> None:
        super().__init__(sentence, reason=reason, field=field)
