"""How fast a path goes, learnt from what receivers say: halved when they throttle, climbing back step by step.

Pure functions of state and ``now``, so that sixty days can be simulated in seconds. Only what a peer or the network said
changes anything: a reply of our own would otherwise prolong the very suspension it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from delivery.core.classification import Action, Classification, ReplyClass, Scope
from delivery.core.reply import Origin, Reply

SLOWEST = 1 / 64
# A step up needs so many acceptances and so much time since the last change: a burst of luck proves nothing.
CLIMB_AFTER_ACCEPTED = 20
CLIMB_AFTER = timedelta(minutes=2)
# Several throttling replies in one breath are one message.
HALVED_AT_MOST_EVERY = timedelta(seconds=10)

_FIRST_SUSPENSION = {
    ReplyClass.IP_BLOCK: timedelta(minutes=30),
    ReplyClass.AUTHENTICATION: timedelta(hours=1),
    ReplyClass.REVERSE_DNS: timedelta(hours=1),
    ReplyClass.POLICY: timedelta(hours=1),
    ReplyClass.RATE_LIMIT: timedelta(minutes=10),
}
_DEFAULT_SUSPENSION = timedelta(minutes=15)
_LONGEST_SUSPENSION = timedelta(hours=6)
# A suspension that follows the last one within this time is twice as long.
_REMEMBERED = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Pace:
    """``share`` of full speed, from 1 down to SLOWEST; ``reason`` is the rule that changed it last."""

    share: float = 1.0
    changed_at: datetime | None = None
    reason: str = ""
    accepted_since: int = 0


@dataclass(frozen=True, slots=True)
class Suspension:
    """No attempts until then. ``length`` is that of this suspension, the measure for the next one."""

    until: datetime
    reason: str
    length: timedelta


def after_accepted(pace: Pace, *, now: datetime) -> Pace:
    """One more acceptance; twice as fast again when there were enough of them for long enough."""
    if pace.share >= 1.0:
        return pace
    accepted = pace.accepted_since + 1
    is_proved = accepted >= CLIMB_AFTER_ACCEPTED and (pace.changed_at is None or now - pace.changed_at >= CLIMB_AFTER)
    if not is_proved:
        return replace(pace, accepted_since=accepted)
    share = min(1.0, pace.share * 2)
    return Pace(share=share, changed_at=now, reason=f"{CLIMB_AFTER_ACCEPTED} accepted" if share < 1 else "")


def after_throttled(pace: Pace, *, rule: str, now: datetime) -> Pace:
    if pace.changed_at is not None and pace.share < 1 and now - pace.changed_at < HALVED_AT_MOST_EVERY:
        return replace(pace, accepted_since=0)
    return Pace(share=max(SLOWEST, pace.share / 2), changed_at=now, reason=rule)


def is_throttling(reply: Reply, classification: Classification) -> bool:
    """The receiver asks this address to go more slowly."""
    return (
        reply.origin is not Origin.OWN
        and classification.action is Action.SLOW
        and classification.scope in {Scope.ADDRESS_PROVIDER, Scope.PROVIDER}
    )


def suspends_path(reply: Reply, classification: Classification) -> bool:
    """The receiver will take nothing from this address for a while."""
    return _is_suspending(reply, classification) and classification.scope in {Scope.ADDRESS_PROVIDER, Scope.PROVIDER}


def suspends_tenant(reply: Reply, classification: Classification) -> bool:
    """The receiver will take nothing of this tenant's for a while, from whatever address."""
    return _is_suspending(reply, classification) and classification.scope is Scope.TENANT_PROVIDER


def _is_suspending(reply: Reply, classification: Classification) -> bool:
    return reply.origin is not Origin.OWN and classification.action is Action.SUSPEND


def suspension_after(
    classification: Classification, *, last: Suspension | None, now: datetime, hint: timedelta | None = None
) -> Suspension:
    """How long to stay away: what the receiver asked for, else the class's time, doubled when it follows another."""
    first = _FIRST_SUSPENSION.get(classification.reply_class, _DEFAULT_SUSPENSION)
    is_repeated = last is not None and now - last.until < _REMEMBERED
    length = min(last.length * 2, _LONGEST_SUSPENSION) if last is not None and is_repeated else first
    if hint is not None:
        length = max(length, hint) if is_repeated else hint
    return Suspension(until=now + length, reason=classification.rule, length=length)
