"""The one place that decides what an attempt means for a recipient: delivered, deferred, bounced or expired.

`judge` is a function from values to a value and never raises. When in doubt it defers:

- Only a 2yz to the end of the data delivers. Only a permanent reply whose classification fails bounces.
- Everything else is deferred, also a 5yz that asks for patience or blames the path (suspend, slow, retry).
- Expiry is a verdict on a fresh attempt. A delay that would pass the deadline is cut to it, so that the last attempt is
  made when the lifetime ends; only if that one fails too has the recipient expired. So no recipient expires merely
  because a clock jumped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from delivery.core.classification import EXPIRED, Action, Classification, ReplyClass
from delivery.core.live_rules import NO_LIVE_RULES, LiveRules
from delivery.core.reply import Origin, Phase, Reply
from delivery.core.retry import RetrySchedule
from delivery.core.states import RecipientState

# A peer that names a longer wait than this is not believed.
MAX_HINT = timedelta(hours=24)
# A greylisting host is met at the time it named only so often; then the schedule counts, whatever it says.
MAX_PROMPT_ATTEMPTS = 5
# After the named time, so that a clock that runs a little slower over there agrees.
HINT_MARGIN = timedelta(seconds=2)
# Routes are looked up afresh for every attempt; a way in that is refused permanently by then stays refused.
MAX_REROUTED_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """`classification` is None for delivered. `cause` is the class of the last reply where the state is expired.

    `stays_on_source` asks that the next attempt comes from the same source address.
    """

    state: RecipientState
    reply: Reply
    classification: Classification | None
    next_attempt_at: datetime | None
    stays_on_source: bool = False
    is_ambiguous: bool = False
    cause: Classification | None = None


def judge(
    reply: Reply,
    *,
    provider_group: str,
    attempts: int,
    accepted_at: datetime,
    schedule: RetrySchedule,
    now: datetime,
    is_ambiguous: bool = False,
    jitter: float = 0.0,
    rules: LiveRules = NO_LIVE_RULES,
) -> Outcome:
    """What `reply`, the last word of attempt number `attempts` (from 1), means.

    `rules` are those that operators added; they are asked before our own.
    An ambiguous attempt is never retried before the next step of the schedule. `jitter` (-1 to 1) spreads the delays.
    """
    if _is_delivered(reply):
        return Outcome(RecipientState.DELIVERED, reply, None, None)
    classification = rules.classify(reply, provider_group)
    if _is_final(reply, classification, attempts):
        return Outcome(RecipientState.BOUNCED, reply, classification, None)
    deadline = accepted_at + schedule.lifetime
    if now >= deadline:
        return Outcome(RecipientState.EXPIRED, reply, EXPIRED, None, is_ambiguous=is_ambiguous, cause=classification)
    delay = schedule.delay_after(attempts, jitter=jitter)
    if not is_ambiguous:
        delay = _adapted(delay, reply, classification, attempts)
    return Outcome(
        RecipientState.DEFERRED,
        reply,
        classification,
        next_attempt_at=min(now + delay, deadline),
        stays_on_source=classification.reply_class is ReplyClass.GREYLIST,
        is_ambiguous=is_ambiguous,
    )


def hinted_wait(reply: Reply) -> timedelta | None:
    """The wait a peer asked for: "try again in 5 minutes", "Greylisted for 300 seconds"; None if it named none."""
    if reply.origin is not Origin.PEER:
        return None
    text = reply.text[:_MAX_SEARCHED_CHARACTERS].lower()
    clock = _CLOCK_HINT.search(text)
    if clock:
        parts = [int(part) for part in clock[1].split(":")]
        hours, minutes, seconds = [0] * (3 - len(parts)) + parts
        wait = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    else:
        match = _HINT.search(text)
        if match is None:
            return None
        wait = timedelta(**{_HINT_UNITS[match[2][0]]: int(match[1])})
    return min(wait, MAX_HINT) if wait > timedelta(0) else None


_MAX_SEARCHED_CHARACTERS = 500
_HINT = re.compile(
    r"(?:try again|retry|come back|re-?send|reconnect|wait|gr[ae]ylist\w*|deferred|delayed|blocked|available)"
    r"[^0-9]{0,40}?\b([0-9]{1,6})\s*(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?)\b"
)
_CLOCK_HINT = re.compile(
    r"(?:try again|retry|come back|wait|gr[ae]ylist\w*)\D{0,40}?\b(\d{1,2}:\d{2}(?::\d{2})?)\b(?!:)"
)
_HINT_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


def _is_delivered(reply: Reply) -> bool:
    return reply.phase is Phase.EOD and 200 <= reply.code < 300


def _is_final(reply: Reply, classification: Classification, attempts: int) -> bool:
    if not reply.is_permanent:
        return False
    if classification.action is Action.REROUTE:
        return attempts > MAX_REROUTED_ATTEMPTS
    return classification.action.is_failing


def _adapted(delay: timedelta, reply: Reply, classification: Classification, attempts: int) -> timedelta:
    """The schedule's delay, adapted to what this reply asks for."""
    if classification.action in (Action.SPLIT, Action.REROUTE) and attempts <= 1:
        # What was refused is the way we came. The next attempt comes another way, so it need not wait; a third one must.
        return timedelta(0)
    hint = hinted_wait(reply)
    if hint is None:
        return delay
    if classification.reply_class is ReplyClass.GREYLIST and attempts <= MAX_PROMPT_ATTEMPTS:
        return hint + HINT_MARGIN
    return max(delay, hint)
