"""Which rule of a behaviour applies now. The only state of a scripted host: how often it did what, to whom."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sandbox.scenarios import Behaviour, Moment, Rule

_MAX_REMEMBERED = 100_000


@dataclass(slots=True)
class _Occasions:
    count: int
    first_at: float


class Script:
    """Shared by all hosts of a behaviour. `clock` returns seconds and never runs backwards."""

    def __init__(self, behaviour: Behaviour, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.behaviour = behaviour
        self._clock = clock
        self._rules = {at: [rule for rule in behaviour.rules if rule.at is at] for at in Moment}
        self._occasions: OrderedDict[tuple[int, tuple[str, ...]], _Occasions] = OrderedDict()

    def rule_for(self, moment: Moment, facts: Mapping[str, str], *, has_tls: bool) -> Rule | None:
        """The first rule that applies; asking counts as an occasion. `facts` has peer, reverse_path, recipient."""
        for rule in self._rules[moment]:
            if rule.without_tls and has_tls:
                continue
            if rule.recipient is not None and not fnmatchcase(facts["recipient"], rule.recipient):
                continue
            if self._applies(rule, facts):
                return rule
        return None

    def _applies(self, rule: Rule, facts: Mapping[str, str]) -> bool:
        if rule.times is None and rule.for_s is None and rule.every is None:
            return True
        now = self._clock()
        key = (id(rule), tuple(facts[word] for word in rule.counted_by))
        occasions = self._occasions.get(key)
        if occasions is None:
            occasions = self._occasions[key] = _Occasions(0, now)
            if len(self._occasions) > _MAX_REMEMBERED:
                self._occasions.popitem(last=False)
        occasions.count += 1
        return (
            (rule.times is None or occasions.count <= rule.times)
            and (rule.for_s is None or now - occasions.first_at < rule.for_s)
            and (rule.every is None or occasions.count % rule.every == 0)
        )
