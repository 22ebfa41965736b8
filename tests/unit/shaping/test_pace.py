"""How receivers' replies change the pace of a path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from delivery.core.classification import classify
from delivery.core.reply import Origin, Phase, Reply, made_up
from delivery.shaping import pace as shaping
from delivery.shaping.pace import Pace

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def _said(code: int, enhanced: str, text: str) -> Reply:
    return made_up(Phase.RCPT, code, enhanced, text, Origin.PEER)


def test_a_throttling_reply_halves_the_pace() -> None:
    slowed = shaping.after_throttled(Pace(), rule="too-many", now=NOW)

    assert slowed.share == 0.5
    assert slowed.reason == "too-many"


def test_replies_in_one_breath_halve_it_once() -> None:
    slowed = shaping.after_throttled(Pace(), rule="too-many", now=NOW)

    again = shaping.after_throttled(slowed, rule="too-many", now=NOW + timedelta(seconds=3))

    assert again.share == 0.5


def test_it_is_never_slower_than_the_slowest() -> None:
    pace, now = Pace(), NOW
    for _ in range(50):
        now += timedelta(minutes=1)
        pace = shaping.after_throttled(pace, rule="too-many", now=now)

    assert pace.share == shaping.SLOWEST


def test_it_climbs_back_step_by_step_with_enough_acceptances_over_enough_time() -> None:
    pace, now = Pace(share=0.25, changed_at=NOW), NOW
    shares = []
    for _ in range(60):
        now += timedelta(seconds=10)
        pace = shaping.after_accepted(pace, now=now)
        shares.append(pace.share)

    assert shares[18] == 0.25
    assert shares[19] == 0.5
    assert shares[39] == 1.0


def test_a_burst_of_acceptances_alone_does_not_raise_it() -> None:
    pace = Pace(share=0.5, changed_at=NOW)
    for _ in range(100):
        pace = shaping.after_accepted(pace, now=NOW + timedelta(seconds=5))

    assert pace.share == 0.5


def test_what_we_said_ourselves_never_changes_anything() -> None:
    own = made_up(Phase.ROUTING, 451, "4.7.1", "too many connections, sending is suspended", Origin.OWN)
    classification = classify(own, "google")

    assert not shaping.is_throttling(own, classification)
    assert not shaping.suspends_path(own, classification)


def test_a_reputation_reply_suspends_and_doubles_when_it_follows_another() -> None:
    reply = _said(421, "4.7.0", "very low reputation of the sending IP")
    classification = classify(reply, "google")

    first = shaping.suspension_after(classification, last=None, now=NOW)
    second = shaping.suspension_after(classification, last=first, now=first.until + timedelta(minutes=1))
    much_later = shaping.suspension_after(classification, last=second, now=second.until + timedelta(days=2))

    assert shaping.suspends_path(reply, classification)
    assert first.length == timedelta(minutes=30)
    assert second.length == timedelta(hours=1)
    assert much_later.length == timedelta(minutes=30)


def test_suspensions_have_a_longest() -> None:
    classification = classify(_said(421, "4.7.0", "very low reputation of the sending IP"), "google")
    suspension, now = None, NOW
    for _ in range(20):
        suspension = shaping.suspension_after(classification, last=suspension, now=now)
        now = suspension.until

    assert suspension is not None
    assert suspension.length == timedelta(hours=6)
