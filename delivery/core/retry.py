"""When to try again: a list of delays whose last one repeats, and how long a message stays in the queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

# How far jitter may move a delay, so that what failed together does not come back together.
JITTER_REACH = 0.1

_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DELAY = re.compile(r"([0-9]{1,7})([smhd]?)")


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    delays: tuple[timedelta, ...]
    lifetime: timedelta

    def __post_init__(self) -> None:
        if not self.delays or any(delay <= timedelta(0) for delay in self.delays):
            raise ValueError("a retry schedule needs delays greater than zero")
        if self.lifetime <= timedelta(0):
            raise ValueError("a queue lifetime must be greater than zero")

    @classmethod
    def parse(cls, text: str, lifetime: timedelta) -> RetrySchedule:
        """Read `300,600,1200` (seconds) or `5m,10m,1h`. Raises `ValueError` with a sentence."""
        return cls(tuple(_parse_delay(part.strip()) for part in text.split(",")), lifetime)

    def delay_after(self, attempts: int, *, jitter: float = 0.0) -> timedelta:
        """The wait after the `attempts`-th real try, counted from 1. `jitter` (-1 to 1) moves it by up to a tenth."""
        delay = self.delays[min(max(attempts, 1), len(self.delays)) - 1]
        return delay * (1 + JITTER_REACH * min(max(jitter, -1.0), 1.0))


def _parse_delay(part: str) -> timedelta:
    match = _DELAY.fullmatch(part)
    if match is None:
        raise ValueError(f"'{part}' is no delay: write seconds, or a number with s, m, h or d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


_DEFAULT_DELAYS = "5m,10m,20m,30m,1h,2h,4h,6h"
# RFC 5321 §4.5.4.1 asks for four to five days; bulk mail that is three days late is not wanted any more.
DEFAULT_SCHEDULE = RetrySchedule.parse(_DEFAULT_DELAYS, timedelta(days=5))
DEFAULT_BULK_SCHEDULE = RetrySchedule.parse(_DEFAULT_DELAYS, timedelta(days=3))
