"""The score, as a pure function of what was met with: every term is in the answer, for an unexplained number is of no use."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).with_name("formula.toml")


@dataclass(frozen=True, slots=True)
class Met:
    """What was met with in a window. ``counts`` by kind of delivery.shaping.encounters, and ``complaints``."""

    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind != "complaints")

    def share(self, name: str) -> float:
        count = self.counts.get(name, 0)
        whole = self.counts.get("accepted", 0) if name == "complaints" else self.attempts
        if count <= 1:
            return 0.0
        return min(1.0, count / whole) if whole else 1.0


@dataclass(frozen=True, slots=True)
class History:
    """Of one address and provider group, or of one sender. ``windows`` by hours, as the formula names them.

    ``passed``: share of the warm-up's stages that were passed, 1 where none is running; of a sender, of its first days.
    """

    windows: Mapping[int, Met]
    passed: float = 1.0
    has_severe_listing: bool = False
    has_broken_reverse_dns: bool = False
    caps: frozenset[str] = frozenset()  # names of further caps of the formula that hold


@dataclass(frozen=True, slots=True)
class Term:
    """``value`` is what was looked at: a share, times as many, or a share of stages. ``costs``: points lost by it."""

    name: str
    value: float
    factor: float
    costs: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """0 to 100, None where too little was sent to say. ``cap`` and ``cap_reason``: what keeps it down, whatever the terms."""

    value: int | None
    terms: tuple[Term, ...] = ()
    cap: int | None = None
    cap_reason: str = ""

    @property
    def what_would_raise_it(self) -> list[str]:
        """Names, the one that would help most first."""
        first = [self.cap_reason] if self.cap_reason else []
        costly = sorted((term for term in self.terms if term.costs >= 0.5), key=lambda term: -term.costs)
        return first + [term.name for term in costly]


Formula = Mapping[str, Any]


@cache
def formula() -> Formula:
    return tomllib.loads(_DATA.read_text(encoding="utf-8"))


@cache
def formula_of_senders() -> Formula:
    return tomllib.loads(_DATA.with_name("senders.toml").read_text(encoding="utf-8"))


def windows(by: Formula | None = None) -> tuple[int, ...]:
    """Their lengths in hours."""
    return tuple(window["hours"] for window in (by or formula())["windows"])


def score(history: History, *, by: Formula | None = None) -> Score:
    """``by``: the formula; that of source addresses where none is named."""
    used = by or formula()
    if history.windows[max(windows(used))].attempts < used["least_attempts"]:
        return Score(None)
    factors = [_of_shares(term, history, used) for term in used["term"]]
    factors += [_of_spike(history, used), _of_age(history, used)]
    product = 100.0
    for term in factors:
        product *= term.factor
    terms = tuple(
        Term(term.name, term.value, term.factor, costs=round(product / term.factor - product, 1)) for term in factors
    )
    cap, reason = _cap(history, used)
    value = round(product)
    is_capped = cap is not None and cap < value
    return Score(cap if is_capped else value, terms, cap, reason if is_capped else "")


def _of_shares(term: Mapping[str, Any], history: History, used: Formula) -> Term:
    share = _weighted(history, term["name"], used)
    return Term(term["name"], round(share, 5), _factor(share / term["full_at"], term["most"]))


def _weighted(history: History, name: str, used: Formula) -> float:
    """Over the windows that say something; their weights are shared out anew."""
    telling = [
        (window["weight"], history.windows[window["hours"]])
        for window in used["windows"]
        if history.windows[window["hours"]].attempts >= used["least_attempts"]
    ]
    return sum(weight * met.share(name) for weight, met in telling) / sum(weight for weight, _met in telling)


def _of_spike(history: History, used: Formula) -> Term:
    rule = used["spike"]
    today, week = history.windows[24].attempts, history.windows[168].attempts
    before = (week - today) / 6
    # Without a week behind it there is nothing to compare with: the age counts then.
    times = today / before if before > 0 and today >= rule["least_attempts"] else 0.0
    return Term(
        "spike", round(times, 2), _factor((times - rule["from"]) / (rule["full_at"] - rule["from"]), rule["most"])
    )


def _of_age(history: History, used: Formula) -> Term:
    first = used["age"]["first"]
    return Term("age", round(history.passed, 3), first + (1 - first) * history.passed)


def _factor(part: float, most: float) -> float:
    return 1 - most * min(1.0, max(0.0, part))


def _cap(history: History, used: Formula) -> tuple[int | None, str]:
    holding = set(history.caps)
    if history.has_severe_listing:
        holding.add("severe_listing")
    if history.has_broken_reverse_dns:
        holding.add("reverse_dns")
    return min(((used["caps"][name], name) for name in holding), default=(None, ""))
