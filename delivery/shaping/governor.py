"""What one path may do now: its limits, the turns it has taken, the pace it has learnt, a suspension.

Everything the driver of a path asks before it claims and a conversation before it speaks. Times are the caller's: ``now`` in
monotonic seconds for turns, a datetime for what is kept in the database and shown to people.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from delivery.core.outcome import Outcome, hinted_wait
from delivery.core.states import RecipientState
from delivery.shaping import pace as learning
from delivery.shaping.pace import Pace, Suspension
from delivery.shaping.providers import Limits
from delivery.shaping.windows import Rate, Windows

# Shorter windows are not written down: a new owner of a path lets one pass instead.
PERSISTED_FROM_S = 10.0
# Connections are written down before they are opened, so many in advance; what a dead owner had not used counts as opened.
OPENINGS_IN_ADVANCE = 10
# The host counts what arrives. One turn may take longer to get there than the next one, or be read later by a busy host;
# dated as it left, a window could then look shorter from there than it was here.
_SEEN_WITHIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a path has learnt; survives its owner."""

    pace: Pace = field(default_factory=Pace)
    suspension: Suspension | None = None


class Governor:
    def __init__(self, limits: Limits, learnt: Learnt) -> None:
        self.learnt = learnt
        self._limits = limits
        self._messages = Windows()
        self._new_connections = Windows()
        self._openings = 0  # written down, and not yet opened
        self._apply()

    # ---------------------------------------------------------------- what may be done

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def connections(self) -> int:
        """At the present pace."""
        return max(1, int(self._limits.connections * self.learnt.pace.share))

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Of messages, at the present pace."""
        return self._messages.rates

    @property
    def has_long_rates(self) -> bool:
        """Whether turns must be written down before they are taken, so that a kill cannot overspend them."""
        rates = (*self._messages.rates, *self._new_connections.rates)
        return any(rate.seconds > PERSISTED_FROM_S for rate in rates)

    def is_suspended(self, now: datetime) -> bool:
        return self.learnt.suspension is not None and self.learnt.suspension.until > now

    def permits(self, in_flight: int, awaiting_turn: int, *, now: float) -> int:
        """How many more attempts may begin: as many as find a connection and, soon, a turn."""
        free = self.connections - in_flight
        turns = self._messages.available(now)
        return max(0, free if turns is None else min(free, turns - awaiting_turn))

    def wait(self, now: float) -> float:
        """Seconds until a message has its turn."""
        return self._messages.wait(now)

    def take_turn(self, now: float) -> float:
        """A message's turn: 0 when taken, else how long to wait before asking again."""
        return self._messages.take(now, seen_within=_SEEN_WITHIN_S)

    def take_connection_turn(self, now: float) -> float:
        wait = self._new_connections.take(now, seen_within=_SEEN_WITHIN_S)
        if wait <= 0:
            self._openings = max(0, self._openings - 1)
        return wait

    # ---------------------------------------------------------------- what the next owner must know

    @property
    def openings(self) -> int:
        """How many connections may be opened that are written down already."""
        return self._openings

    @property
    def lacks_openings(self) -> bool:
        """Whether the next connection must be written down before it is opened."""
        return self._openings == 0 and any(rate.seconds > PERSISTED_FROM_S for rate in self._new_connections.rates)

    def wrote_openings(self, count: int) -> None:
        self._openings += count

    # ---------------------------------------------------------------- what the former owner did

    def take_over(
        self, now: float, *, messages: dict[float, int], connections: dict[float, int], was_in_use: bool
    ) -> None:
        """Count what was written down, as age in seconds → turns; let the short windows pass where the path was in use."""
        for age, turns in messages.items():
            self._messages.count(now - age, turns, longer_than=PERSISTED_FROM_S)
        for age, turns in connections.items():
            self._new_connections.count(now - age, turns, longer_than=PERSISTED_FROM_S)
        if was_in_use:
            self._messages.fill(now, up_to=PERSISTED_FROM_S)
            self._new_connections.fill(now, up_to=PERSISTED_FROM_S)

    # ---------------------------------------------------------------- what is learnt

    def set_limits(self, limits: Limits) -> None:
        self._limits = limits
        self._apply()

    def set_learnt(self, learnt: Learnt) -> None:
        """What somebody else changed: an operator released or suspended the path."""
        self.learnt = learnt
        self._apply()

    def differs(self, learnt: Learnt) -> bool:
        """Whether what the database has was changed by somebody else; how many were accepted since is not kept there."""
        mine, theirs = self.learnt, learnt
        return (mine.pace.share, mine.suspension) != (theirs.pace.share, theirs.suspension)

    def learn(self, outcome: Outcome, now: datetime) -> bool:
        """True when something changed that must be written down."""
        before = self.learnt
        if outcome.state is RecipientState.DELIVERED:
            self.learnt = replace(before, pace=learning.after_accepted(before.pace, now=now))
        elif outcome.classification is not None:
            self.learnt = self._after_refusal(outcome, now)
        has_changed = self.learnt.pace.share != before.pace.share or self.learnt.suspension is not before.suspension
        if has_changed:
            self._apply()
        return has_changed

    def _after_refusal(self, outcome: Outcome, now: datetime) -> Learnt:
        assert outcome.classification is not None
        reply, classification = outcome.reply, outcome.cause or outcome.classification
        if learning.is_throttling(reply, classification):
            return replace(
                self.learnt, pace=learning.after_throttled(self.learnt.pace, rule=classification.rule, now=now)
            )
        if learning.suspends_path(reply, classification) and not self.is_suspended(now):
            suspension = learning.suspension_after(
                classification, last=self.learnt.suspension, now=now, hint=hinted_wait(reply)
            )
            # After a suspension the way back is taken slowly.
            pace = learning.after_throttled(self.learnt.pace, rule=classification.rule, now=now)
            return Learnt(pace=pace, suspension=suspension)
        return self.learnt

    def _apply(self) -> None:
        share = self.learnt.pace.share
        daily = () if self._limits.daily is None else (Rate(self._limits.daily, 86_400.0),)
        # The day's volume is a budget, not a speed: it does not shrink with the pace.
        self._messages.set_rates((*(rate.scaled(share) for rate in self._limits.messages), *daily))
        self._new_connections.set_rates(rate.scaled(share) for rate in self._limits.new_connections)
