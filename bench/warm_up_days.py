"""Sixty days of four new addresses and three receivers, on a virtual clock: with warm-up and without it, as two lines of JSON.

    python bench/warm_up_days.py

Receivers know nobody at first. Each takes from an address what a stranger may send, or a multiple of the best day it has seen
from it; more is deferred, and half as much more again is blocked for a day and forgets what was known. The mail leaves from a
pool of the four and one address that is known already. Schedules, caps and judging are the product's own.

- blocks, throttled      refusals that blame an address, and deferrals, of the new addresses
- ready_on_day           when each receiver first took the full share of the traffic from each of the four
- last_day_by_new        accepted from the new addresses on the last day; `share_of_last_day` in relation to all mail
- waiting                not accepted at the end
"""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DAYS = 60
NEW = ("new-1", "new-2", "new-3", "new-4")
KNOWN = "known"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# By hour, of a day's mail: little at night, most before noon.
CURVE = (1, 1, 1, 1, 1, 2, 4, 7, 10, 10, 9, 8, 6, 6, 6, 5, 5, 4, 4, 3, 2, 2, 1, 1)


@dataclass(frozen=True)
class Rule:
    """What a receiver does. ``daily`` is the traffic there is for it."""

    key: str
    daily: int
    stranger: int
    growth: float


RULES = (
    Rule("google", daily=200_000, stranger=300, growth=2.6),
    Rule("outlook", daily=50_000, stranger=300, growth=2.6),
    Rule("docomo", daily=10_000, stranger=60, growth=1.7),
)


@dataclass
class Receiver:
    """One receiver's view of one address."""

    rule: Rule
    best_day: int = 0
    blocked_until: int = 0
    taken: deque[int] = field(default_factory=lambda: deque([0] * 24, maxlen=24))
    offered: deque[int] = field(default_factory=lambda: deque([0] * 24, maxlen=24))

    def offer(self, count: int, hour: int) -> Counter[str]:
        if hour % 24 == 0:  # what is sent today makes nobody better known today
            self.best_day = max(self.best_day, sum(self.taken))
        self.taken.append(0)
        self.offered.append(count)
        if hour < self.blocked_until:
            return Counter(blocked=count)
        allowed = max(self.rule.stranger, int(self.rule.growth * self.best_day))
        if sum(self.offered) > 1.5 * allowed:
            self.best_day, self.blocked_until = 0, hour + 24
            return Counter(blocked=count)
        accepted = max(0, min(count, allowed - sum(self.taken)))
        self.taken[-1] = accepted
        return Counter(accepted=accepted, throttled=count - accepted)


@dataclass
class Address:
    """Our side of one address and receiver. ``capped``: it is being warmed up."""

    receiver: Receiver
    schedule: Any
    capped: bool
    stage: int = 0
    stage_since: datetime = BEGIN
    windows: Any = None
    hours: deque[tuple[datetime, Counter[str]]] = field(default_factory=lambda: deque(maxlen=24))
    steps_back: int = 0

    def room(self, wanted: int, seconds: float) -> int:
        if not self.capped:
            return wanted
        self.windows.set_rates([self.schedule.limit(self.stage)])
        return min(wanted, self.windows.available(seconds))

    def send(self, count: int, hour: int) -> Counter[str]:
        now, seconds = BEGIN + timedelta(hours=hour), hour * 3600.0
        met = self.receiver.offer(count, hour)
        if self.capped:
            self.windows.count(seconds, count)
            self.hours.append((now, met))
            self._judge(now + timedelta(hours=1))
        return met

    def _judge(self, now: datetime) -> None:
        from delivery.warmup.judging import Figures, judge

        own = [met for at, met in self.hours if at >= self.stage_since]
        counts = sum(own, Counter())
        figures = Figures(counts, [met["accepted"] for met in own], 0, now if counts["accepted"] else None)
        verdict = judge(self.schedule, self.stage, figures, stage_since=self.stage_since, now=now)
        if verdict.begins_anew:
            self.steps_back += verdict.stage <= self.stage and not verdict.is_over
            self.stage, self.stage_since = verdict.stage, now
            self.capped = not verdict.is_over


def simulate(*, warms_up: bool, rules: Sequence[Rule] = RULES) -> dict[str, Any]:
    from delivery.shaping.windows import Windows
    from delivery.warmup.schedules import made_for

    pools = {
        rule.key: {
            name: Address(Receiver(rule), made_for(rule.key), capped=warms_up and name != KNOWN, windows=Windows())
            for name in (*NEW, KNOWN)
        }
        for rule in rules
    }
    for rule in rules:
        pools[rule.key][KNOWN].receiver.best_day = rule.daily
    met: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    ready: dict[str, int] = {}
    last_day: Counter[str] = Counter()
    for hour in range(DAYS * 24):
        for rule in rules:
            pool = pools[rule.key]
            waiting[rule.key] += rule.daily * CURVE[hour % 24] // sum(CURVE)
            share = waiting[rule.key] // len(pool)
            for name in NEW:
                got = pool[name].send(pool[name].room(share, hour * 3600.0), hour)
                waiting[rule.key] -= got["accepted"]
                met.update(got)
                last_day[name] += got["accepted"] if hour >= (DAYS - 1) * 24 else 0
            got = pool[KNOWN].send(waiting[rule.key], hour)
            waiting[rule.key] -= got["accepted"]
            last_day[KNOWN] += got["accepted"] if hour >= (DAYS - 1) * 24 else 0
            full_share = 0.9 * rule.daily / len(pool)
            if rule.key not in ready and all(sum(pool[name].receiver.taken) >= full_share for name in NEW):
                ready[rule.key] = hour // 24 + 1
    by_new = sum(last_day[name] for name in NEW)
    return {
        "warms_up": warms_up,
        "blocks": met["blocked"],
        "throttled": met["throttled"],
        "steps_back": sum(pool[name].steps_back for pool in pools.values() for name in NEW),
        "ready_on_day": {rule.key: ready.get(rule.key) for rule in rules},
        "last_day_by_new": by_new,
        "share_of_last_day": round(by_new / sum(last_day.values()), 3),
        "waiting": sum(waiting.values()),
    }


if __name__ == "__main__":
    from relayweb.commandline import surroundings

    surroundings.set_up_django()
    for warms_up in (True, False):
        print(json.dumps(simulate(warms_up=warms_up)))
