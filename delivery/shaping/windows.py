"""Rates that hold exactly: at most so many turns in any stretch of a given length, wherever it begins.

Pure: the caller's monotonic ``now`` in seconds comes in, a decision goes out. A turn is counted when it is taken, so two
askers at the same moment get what is left and no more.
"""

from __future__ import annotations

import math
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


class _Window:
    """The turns under one rate. Long windows keep them in sixtieths, each dated as late as it can have been: never too few."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.turns: deque[tuple[float, int]] = deque()  # (moment, how many), oldest first
        self.taken = 0
        self._grain = rate.seconds / 60 if rate.seconds >= 60 else 0.0

    def add(self, moment: float, count: int = 1) -> None:
        if self._grain:
            moment = math.ceil(moment / self._grain) * self._grain
        if self.turns and self.turns[-1][0] >= moment:
            last, before = self.turns[-1]
            self.turns[-1] = (last, before + count)
        else:
            self.turns.append((moment, count))
        self.taken += count

    def forget(self, now: float) -> None:
        while self.turns and self.turns[0][0] <= now - self.rate.seconds:
            self.taken -= self.turns.popleft()[1]

    def wait(self, now: float) -> float:
        """Until one turn is free."""
        too_many = self.taken - self.rate.count + 1
        if too_many <= 0:
            return 0.0
        for moment, count in self.turns:
            too_many -= count
            if too_many <= 0:
                return moment + self.rate.seconds - now
        return self.rate.seconds


class Windows:
    """The turns of one path under its rates. Rates may change at any time; turns that were taken stay counted."""

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        self._windows = [_Window(rate) for rate in rates]

    @property
    def rates(self) -> tuple[Rate, ...]:
        return tuple(window.rate for window in self._windows)

    def set_rates(self, rates: Iterable[Rate]) -> None:
        known = {window.rate: window for window in self._windows}
        longest = max(self._windows, key=lambda window: window.rate.seconds, default=None)
        self._windows = []
        for rate in rates:
            window = known.get(rate)
            if window is None:
                window = _Window(rate)
                for moment, count in longest.turns if longest else ():
                    window.add(moment, count)
            self._windows.append(window)

    def available(self, now: float) -> int | None:
        """How many turns could be taken now; None: as many as anybody likes."""
        self._forget(now)
        return max(0, min(w.rate.count - w.taken for w in self._windows)) if self._windows else None

    def wait(self, now: float) -> float:
        """For how many seconds there will be no turn; 0 when there is one."""
        self._forget(now)
        return max([0.0, *(window.wait(now) for window in self._windows)])

    def take(self, now: float, *, seen_within: float = 0.0) -> float:
        """Take a turn and return 0, or take none and return for how many seconds there will be none.

        ``seen_within``: after so many seconds at most somebody else sees the turn, whose windows must hold too.
        """
        wait = self.wait(now)
        if wait <= 0:
            self.count(now + seen_within, 1)
        return wait

    def count(self, moment: float, turns: int, *, longer_than: float = 0.0) -> None:
        """Count turns that somebody took; ``longer_than`` leaves shorter windows alone."""
        for window in self._windows:
            if window.rate.seconds > longer_than and turns:
                window.add(moment, turns)

    def fill(self, now: float, *, up_to: float) -> None:
        """Count windows of at most ``up_to`` seconds as used up: what the former owner did just now is not known."""
        for window in self._windows:
            if window.rate.seconds <= up_to and window.taken < window.rate.count:
                window.add(now, window.rate.count - window.taken)

    def _forget(self, now: float) -> None:
        for window in self._windows:
            window.forget(now)
