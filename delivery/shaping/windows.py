"""Rates that hold exactly: at most so many turns in any stretch of a given length, wherever it begins.

Pure: the caller's monotonic ``now`` in seconds comes in, a decision goes out. A turn is counted when it is taken, so two
askers at the same moment get what is left and no more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

_TEXT = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})?(s|min|h|d)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` turns in any ``seconds``."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """``2/s``, ``100/min``, ``50/10min``, ``10000/h``. Raises ValueError with a sentence."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no rate; write a number per s, min, h or d, such as 2/s or 100/10min")
        return cls(int(match[1]), int(match[2] or 1) * _SECONDS[match[3]])

    def scaled(self, share: float) -> Rate:
        """The same rate at a share of its speed; below one turn per window the window grows instead."""
        count = self.count * share
        return Rate(int(count), self.seconds) if count >= 1 else Rate(1, self.seconds / count)

    def __str__(self) -> str:
        for unit in ("d", "h", "min", "s"):
            if self.seconds >= _SECONDS[unit] and self.seconds % _SECONDS[unit] == 0:
                length = int(self.seconds / _SECONDS[unit])
                return f"{self.count}/{length if length > 1 else ''}{unit}"
        return f"{self.count}/{self.seconds:.1f}s"


class Windows:
    """The turns of one path under its rates. Rates may change at any time; turns that were taken stay counted."""

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        self._turns: dict[Rate, deque[float]] = {rate: deque() for rate in rates}

    @property
    def rates(self) -> tuple[Rate, ...]:
        return tuple(self._turns)

    def set_rates(self, rates: Iterable[Rate]) -> None:
        known = max(self._turns.items(), key=lambda item: item[0].seconds, default=(None, deque[float]()))[1]
        self._turns = {rate: self._turns.get(rate, deque(known)) for rate in rates}

    def available(self, now: float) -> int | None:
        """How many turns could be taken now; None: as many as anybody likes."""
        self._forget(now)
        return max(0, min(rate.count - len(turns) for rate, turns in self._turns.items())) if self._turns else None

    def wait(self, now: float) -> float:
        """For how many seconds there will be no turn; 0 when there is one."""
        self._forget(now)
        waits = [
            turns[len(turns) - rate.count] + rate.seconds - now
            for rate, turns in self._turns.items()
            if len(turns) >= rate.count
        ]
        return max([0.0, *waits])

    def take(self, now: float) -> float:
        """Take a turn and return 0, or take none and return for how many seconds there will be none."""
        wait = self.wait(now)
        if wait <= 0:
            for turns in self._turns.values():
                turns.append(now)
        return wait

    def fill(self, now: float) -> None:
        """Count every window as used up: what the former owner of the path did just now is not known."""
        for rate, turns in self._turns.items():
            turns.extend([now] * (rate.count - len(turns)))

    def _forget(self, now: float) -> None:
        for rate, turns in self._turns.items():
            while turns and turns[0] <= now - rate.seconds:
                turns.popleft()
