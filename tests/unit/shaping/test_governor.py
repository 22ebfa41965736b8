"""What a path may do, and how that changes with what receivers say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from delivery.core.outcome import Outcome, judge
from delivery.core.reply import Origin, Phase, made_up
from delivery.core.retry import DEFAULT_SCHEDULE
from delivery.shaping.governor import Governor, Learnt
from delivery.shaping.providers import Limits
from delivery.shaping.windows import Rate

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LIMITS = Limits(
    connections=8,
    messages_per_connection=20,
    tls="opportunistic",
    messages=(Rate(10, 1),),
    new_connections=(Rate(4, 60),),
)


def _outcome(phase: Phase, code: int, enhanced: str, text: str, *, origin: Origin = Origin.PEER) -> Outcome:
    return judge(
        made_up(phase, code, enhanced, text, origin),
        provider_group="google",
        attempts=1,
        accepted_at=NOW,
        schedule=DEFAULT_SCHEDULE,
        now=NOW,
    )


THROTTLED = _outcome(Phase.CONNECT, 421, "4.7.0", "too many connections from your address")
BLOCKED = _outcome(Phase.EOD, 421, "4.7.0", "very low reputation of the sending IP address")
ACCEPTED = _outcome(Phase.EOD, 250, "2.0.0", "ok")


def test_permits_are_bounded_by_connections_and_by_turns() -> None:
    governor = Governor(LIMITS, Learnt())

    assert governor.permits(0, 0, now=0.0) == 8
    assert governor.permits(8, 0, now=0.0) == 0
    for _ in range(7):
        governor.take_turn(0.0)
    assert governor.permits(0, 0, now=0.0) == 3
    assert governor.permits(2, 2, now=0.0) == 1


def test_a_window_has_passed_for_the_host_too_before_it_begins_anew() -> None:
    governor = Governor(LIMITS, Learnt())
    for _ in range(10):
        assert governor.take_turn(0.0) == 0

    # The first of these may have reached the host a little later than it left.
    assert governor.take_turn(1.0) > 0
    assert governor.take_turn(1.06) == 0


def test_a_throttling_reply_halves_connections_and_rates() -> None:
    governor = Governor(LIMITS, Learnt())

    changed = governor.learn(THROTTLED, NOW)

    assert changed
    assert governor.connections == 4
    assert governor.rates == (Rate(5, 1),)


def test_success_climbs_back_to_full_speed() -> None:
    governor = Governor(LIMITS, Learnt())
    governor.learn(THROTTLED, NOW)

    for second in range(0, 600, 10):
        governor.learn(ACCEPTED, NOW + timedelta(seconds=second))

    assert governor.connections == 8


def test_a_reputation_reply_suspends_the_path_and_what_follows_it_does_not_prolong_that() -> None:
    governor = Governor(LIMITS, Learnt())
    governor.learn(BLOCKED, NOW)
    until = governor.learnt.suspension.until if governor.learnt.suspension else None

    changed = governor.learn(BLOCKED, NOW + timedelta(seconds=5))

    assert governor.is_suspended(NOW + timedelta(minutes=29))
    assert not governor.is_suspended(NOW + timedelta(minutes=31))
    assert not changed
    assert governor.learnt.suspension is not None
    assert governor.learnt.suspension.until == until


def test_a_fault_of_ours_teaches_nothing() -> None:
    governor = Governor(LIMITS, Learnt())

    changed = governor.learn(_outcome(Phase.ROUTING, 451, "4.7.1", "too many connections", origin=Origin.OWN), NOW)

    assert not changed
    assert governor.connections == 8


def test_the_daily_volume_does_not_shrink_with_the_pace() -> None:
    governor = Governor(LIMITS.overridden({"daily": 100, "messages": []}), Learnt())
    governor.learn(THROTTLED, NOW)

    taken = sum(governor.take_turn(moment * 1.0) == 0 for moment in range(200))

    assert taken == 100


def test_a_new_owner_counts_what_was_written_down_and_lets_short_windows_pass() -> None:
    governor = Governor(LIMITS.overridden({"messages": ["10/s", "30/min"]}), Learnt())

    governor.take_over(1000.0, messages={20.0: 25}, connections={20.0: 3}, was_in_use=True)

    assert governor.permits(0, 0, now=1000.5) == 0
    assert governor.permits(0, 0, now=1001.5) == 5
    assert governor.take_connection_turn(1001.5) == 0
    assert governor.take_connection_turn(1001.5) > 0


def test_what_the_former_owner_sent_over_kept_connections_does_not_count_as_connections() -> None:
    governor = Governor(LIMITS.overridden({"messages": ["100/s"], "new_connections": ["100/min"]}), Learnt())

    governor.take_over(1000.0, messages={0.0: 5000}, connections={0.0: 12}, was_in_use=True)

    assert sum(governor.take_connection_turn(1001.5) == 0 for _ in range(200)) == 88


def test_connections_are_written_down_before_they_are_opened() -> None:
    governor = Governor(LIMITS.overridden({"new_connections": ["100/min"]}), Learnt())
    assert governor.lacks_openings

    governor.wrote_openings(2)
    governor.take_connection_turn(1000.0)
    assert (governor.openings, governor.lacks_openings) == (1, False)
    governor.take_connection_turn(1000.0)
    assert governor.lacks_openings
