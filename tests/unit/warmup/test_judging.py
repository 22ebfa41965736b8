"""A stage is passed when it was used and clean, kept while in doubt, and given up on trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from delivery.warmup.judging import FORGOTTEN_AFTER, Figures, forecast, is_forgotten, judge
from delivery.warmup.schedules import made_for, schedule_of, schedules

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
A_DAY_AGO = NOW - timedelta(days=1)
SPARKPOST, SENDGRID, CARRIER = map(schedule_of, ("sparkpost", "sendgrid", "carrier"))


def _figures(complaints: int = 0, by_hour: tuple[int, ...] = (), **counts: int) -> Figures:
    return Figures(counts, by_hour, complaints, last_used_at=NOW)


def _judge(
    figures: Figures, *, schedule: Any = SPARKPOST, stage: int = 1, since: datetime = A_DAY_AGO, **more: Any
) -> Any:
    return judge(schedule, stage, figures, stage_since=since, now=NOW, **more)


def test_a_stage_that_was_used_and_clean_is_passed() -> None:
    verdict = _judge(_figures(accepted=450, other=100))

    assert (verdict.stage, verdict.begins_anew, verdict.is_over) == (2, True, False)


@pytest.mark.parametrize(
    "figures",
    [
        _figures(accepted=449),
        _figures(accepted=490, throttled=60),
        _figures(accepted=490, unknown=12),
        _figures(accepted=950, complaints=2),
        _figures(accepted=490, blocked=1),
    ],
)
def test_a_stage_that_was_not_used_or_not_clean_is_kept(figures: Figures) -> None:
    verdict = _judge(figures)

    assert (verdict.stage, verdict.begins_anew) == (1, False)
    assert verdict.why


def test_no_stage_is_passed_before_it_lasted_a_day() -> None:
    assert _judge(_figures(accepted=500), since=NOW - timedelta(hours=23)).stage == 1


@pytest.mark.parametrize(
    "figures",
    [
        _figures(accepted=200, blocked=2),
        _figures(accepted=90, unknown=10),
        _figures(accepted=60, throttled=40),
        _figures(accepted=490, complaints=3),
    ],
)
def test_trouble_takes_it_back_at_once_and_counts_from_then(figures: Figures) -> None:
    verdict = _judge(figures, since=NOW - timedelta(hours=1))

    assert (verdict.stage, verdict.begins_anew) == (0, True)


def test_one_single_case_is_chance_and_few_attempts_prove_nothing() -> None:
    assert not _judge(_figures(accepted=10, unknown=5), since=NOW - timedelta(hours=1)).begins_anew
    assert _judge(_figures(accepted=30, unknown=1), schedule=CARRIER, stage=0, since=NOW).begins_anew is False


def test_one_block_by_a_carrier_is_trouble() -> None:
    assert _judge(_figures(accepted=70, blocked=1), schedule=CARRIER).stage == 0


def test_the_first_stage_stays_the_first() -> None:
    verdict = _judge(_figures(accepted=10, blocked=9), stage=0)

    assert (verdict.stage, verdict.begins_anew) == (0, True)


def test_the_last_stage_or_the_target_ends_it() -> None:
    last = len(SPARKPOST.stages) - 1

    assert _judge(_figures(accepted=10_000_000), stage=last).is_over
    assert _judge(_figures(accepted=500), target=500).is_over
    assert not _judge(_figures(accepted=500), target=501).is_over


def test_an_hours_stage_is_used_when_an_hour_was_also_across_the_clocks() -> None:
    assert _judge(_figures(accepted=30, by_hour=(0, 16, 14)), schedule=SENDGRID, stage=1).stage == 2
    assert _judge(_figures(accepted=30, by_hour=(10, 0, 10, 0, 10)), schedule=SENDGRID, stage=1).stage == 1


def test_who_rests_for_a_month_begins_anew() -> None:
    long_ago = NOW - FORGOTTEN_AFTER
    rested = Figures(last_used_at=long_ago)

    assert judge(SPARKPOST, 5, rested, stage_since=long_ago, now=NOW).stage == 0
    assert is_forgotten(finished_at=long_ago, last_used_at=None, now=NOW)
    assert not is_forgotten(finished_at=long_ago, last_used_at=NOW - timedelta(days=29), now=NOW)


def test_a_forecast_counts_the_stages_that_are_left() -> None:
    begun = forecast(SPARKPOST, 0, daily=50_000, stage_since=NOW, now=NOW, figures=Figures())
    later = forecast(SPARKPOST, 0, daily=50_000, stage_since=NOW - timedelta(hours=12), now=NOW, figures=Figures())
    idle = forecast(SPARKPOST, 0, daily=50_000, stage_since=A_DAY_AGO, now=NOW, figures=Figures())

    assert (begun.days, begun.waits_for_use) == (8, False)
    assert later.ready_at == NOW + timedelta(days=7, hours=12)
    assert (idle.days, idle.waits_for_use) == (8, True)
    assert forecast(SPARKPOST, 8, daily=50_000, stage_since=NOW, now=NOW, figures=Figures()).days == 0
    assert forecast(CARRIER, 0, daily=1_000_000, stage_since=NOW, now=NOW, figures=Figures()).days is None


def test_a_forecast_is_what_a_clean_sender_meets() -> None:
    """Day by day, with every stage used, the simulation arrives when the forecast says."""
    for schedule in schedules().values():
        predicted = forecast(schedule, 0, daily=50_000, stage_since=NOW, now=NOW, figures=Figures())
        stage, since, now = 0, NOW, NOW
        while schedule.daily(stage) < 50_000:
            now += timedelta(days=1)
            sent = schedule.limit(stage).count
            stage = judge(
                schedule, stage, Figures({"accepted": sent}, (sent,), 0, now), stage_since=since, now=now
            ).stage
            since = now
        assert (now - NOW).days == predicted.days


def test_schedules_only_rise_and_carriers_have_their_own() -> None:
    for schedule in schedules().values():
        assert list(schedule.stages) == sorted(set(schedule.stages))
    assert len(SPARKPOST.stages) == 29
    assert (SENDGRID.stages[0], SENDGRID.stages[20]) == (20, 16_734)
    assert (made_for("docomo"), made_for("google"), made_for("site:mx.far.test")) == (CARRIER, SPARKPOST, SPARKPOST)
