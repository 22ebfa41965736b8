"""When refusals become a suppression, and for how long: functions of what was refused, and when, before.

A *strike* is a refusal that speaks against an address. Some suppress at once; where the word of one host is not enough,
several strikes are needed that lie apart, since a host in trouble, or one that blocks us, says the same thing to
everybody for hours. So a carrier's address never falls to the first refusal of such an episode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from delivery.core.classification import Action, ReplyClass

# The Japanese carriers answer 550 to living addresses while they block a source, and give dead addresses to new people.
CARRIER_GROUPS = frozenset({"docomo", "au", "softbank", "ymobile", "rakuten"})

# A domain that does not exist may be one whose name servers had a bad hour.
SECOND_LOOK_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CountRule:
    """``strikes`` within ``within``; those less than ``apart`` after the one counted before are the same episode."""

    strikes: int
    within: timedelta
    apart: timedelta

    def is_met_by(self, moments: Iterable[datetime], *, now: datetime) -> bool:
        return self.count(moments, now=now) >= self.strikes

    def count(self, moments: Iterable[datetime], *, now: datetime) -> int:
        counted, last = 0, None
        for moment in sorted(one for one in moments if one > now - self.within):
            if last is None or moment - last >= self.apart:
                counted, last = counted + 1, moment
        return counted


SOFT = CountRule(strikes=3, within=timedelta(days=30), apart=timedelta(days=1))
CARRIER = CountRule(strikes=2, within=timedelta(days=30), apart=timedelta(days=1))
LONGEST_MEMORY = max(SOFT.within, CARRIER.within)


class StrikeVerdict(StrEnum):
    SUPPRESS = "suppress"
    COUNT = "count"
    RECOVERED = "recovered"  # the second look found the domain alive


def rule_for(action: Action, *, is_carrier: bool) -> CountRule | None:
    """None: one strike is enough."""
    if action is Action.FAIL_AND_COUNT:
        return SOFT
    return CARRIER if is_carrier else None


def judge_strike(action: Action, *, is_carrier: bool, moments: Iterable[datetime], now: datetime) -> StrikeVerdict:
    """``moments`` are those of all strikes against the address that are remembered, this one among them."""
    rule = rule_for(action, is_carrier=is_carrier)
    if rule is None or rule.is_met_by(moments, now=now):
        return StrikeVerdict.SUPPRESS
    return StrikeVerdict.COUNT


_LASTS = {
    ReplyClass.BAD_MAILBOX: timedelta(days=365),
    ReplyClass.INACTIVE: timedelta(days=180),
    ReplyClass.BAD_DOMAIN: timedelta(days=90),
    ReplyClass.RECIPIENT_FILTER: timedelta(days=90),
    ReplyClass.MAILBOX_FULL: timedelta(days=30),
}
_OTHERWISE = timedelta(days=30)
# A carrier gives an address to somebody else after about half a year.
_CARRIER_LASTS = timedelta(days=90)


def lasts(reply_class: ReplyClass, *, is_carrier: bool) -> timedelta:
    """How long a suppression for this class stands."""
    usual = _LASTS.get(reply_class, _OTHERWISE)
    return min(usual, _CARRIER_LASTS) if is_carrier else usual
