"""Counts that keep one peer from taking what belongs to all: connections, content in memory, failed logins.

Everything here belongs to one process. Gates share a port by the kernel's choice, so over a whole node a bound is that
of a process times their number.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter

from smtpgate.limits import Limits

_MOST_ADDRESSES_REMEMBERED = 50_000


def neighbourhood(address: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 that an IPv6 host can choose addresses from."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))


class Connections:
    """Sessions that are open, in all and by peer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_peer: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.count = 0

    def enter(self, peer: str) -> bool:
        """Count a session in, unless the peer or the process has enough of them."""
        if self.count >= self._limits.connections or self._by_peer[peer] >= self._limits.connections_per_address:
            self._refused[peer] += 1
            return False
        self._by_peer[peer] += 1
        self.count += 1
        return True

    def leave(self, peer: str) -> None:
        self.count -= 1
        self._by_peer[peer] -= 1
        if self._by_peer[peer] <= 0:
            del self._by_peer[peer]
            self._refused.pop(peer, None)

    def times_refused(self, peer: str) -> int:
        """Since the peer last had no session open: the log mentions the first, not each of a flood."""
        return self._refused[peer]

    @property
    def is_stressed(self) -> bool:
        """Nearly full: those who dawdle have to make room."""
        return self.count > 0.8 * self._limits.connections


class ContentMemory:
    """What is left of the process's memory for content on its way in."""

    def __init__(self, limit_octets: int) -> None:
        self._limit = limit_octets
        self.used = 0

    def take(self, octets: int) -> bool:
        if self.used + octets > self._limit:
            return False
        self.used += octets
        return True

    def give_back(self, octets: int) -> None:
        self.used -= octets

    @property
    def is_short(self) -> bool:
        return self.used > 0.9 * self._limit


class LoginFailures:
    """Failed logins by peer. They slow and finally stop that peer; nobody elsewhere notices, least of all the owner."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Per peer a count that leaks away over the window, and when it was last right.
        self._levels: dict[str, tuple[float, float]] = {}

    def note(self, peer: str, *, now: float) -> float:
        """Count one more; gives the seconds to wait before saying so."""
        if len(self._levels) >= _MOST_ADDRESSES_REMEMBERED:
            self._forget_the_forgiven(now)
        level = self._level(peer, now) + 1
        self._levels[peer] = (level, now)
        delay = math.ldexp(self._limits.login_delay_seconds, min(math.ceil(level) - 1, 30))
        return min(delay, self._limits.login_delay_maximum_seconds)

    def are_too_many(self, peer: str, *, now: float) -> bool:
        # Rounded up: a failure counts until the whole of it is forgiven.
        return math.ceil(self._level(peer, now)) >= self._limits.login_failures_per_address

    def _level(self, peer: str, now: float) -> float:
        level, then = self._levels.get(peer, (0.0, now))
        leaked = (now - then) * self._limits.login_failures_per_address / self._limits.login_window_seconds
        return max(0.0, level - leaked)

    def _forget_the_forgiven(self, now: float) -> None:
        self._levels = {peer: known for peer, known in self._levels.items() if self._level(peer, now) > 0}
        if len(self._levels) >= _MOST_ADDRESSES_REMEMBERED:
            self._levels.clear()
