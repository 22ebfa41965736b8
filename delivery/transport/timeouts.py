"""How long a session waits for each thing the peer owes it (RFC 5321 §4.5.3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SmtpTimeouts:
    """Seconds. `command` is for a whole reply, `data` for a block of content, `dot` for the reply to the final dot."""

    connect: float = 30.0
    banner: float = 300.0
    command: float = 300.0
    data: float = 120.0
    dot: float = 600.0

    @classmethod
    def parse(cls, text: str) -> SmtpTimeouts:
        """Read `connect=30,banner=300,…`; what is not named keeps its default.

        Raises ValueError with a sentence that can be shown to the operator.
        """
        names = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in names:
                raise ValueError(f"{part!r} is no SMTP time-out; write NAME=SECONDS with one of: {', '.join(names)}")
            given[name] = _seconds(name, value)
        return cls(**given)


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"the SMTP time-out {name} must be a number of seconds above 0, not {value!r}")
    return seconds
