"""Figures over the whole queue, for pages that refresh by themselves and that several people look at.

A short queue is counted each time. A long one is counted at most so often that counting takes a twentieth of the time, by one
thread of a process at a time; whoever looks meanwhile gets the last figures, at most a minute old (and older only while they
are being counted).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

COUNTED_EACH_TIME_UP_TO = 20_000  # recipients
_SHARE = 20.0
_SHORTEST_S, _LONGEST_S = 5.0, 60.0


@dataclass(frozen=True, slots=True)
class _Counted(Generic[Value]):
    value: Value
    until: float


class Remembered(Generic[Value]):
    """``size`` says how many recipients were counted."""

    def __init__(self, count: Callable[[], Value], *, size: Callable[[Value], int]) -> None:
        self._count, self._size = count, size
        self._turn = threading.Lock()
        self._last: _Counted[Value] | None = None

    def get(self) -> Value:
        last = self._last
        if last is not None and time.monotonic() < last.until:
            return last.value
        # Whoever finds somebody counting takes the last figures; where there are none, it counts as well.
        has_turn = self._turn.acquire(blocking=False)
        if not has_turn and last is not None:
            return last.value
        try:
            return self._count_now()
        finally:
            if has_turn:
                self._turn.release()

    def _count_now(self) -> Value:
        begun = time.monotonic()
        value = self._count()
        took = time.monotonic() - begun
        is_long = self._size(value) > COUNTED_EACH_TIME_UP_TO
        until = time.monotonic() + min(_LONGEST_S, max(_SHORTEST_S, took * _SHARE))
        self._last = _Counted(value, until) if is_long else None
        return value
