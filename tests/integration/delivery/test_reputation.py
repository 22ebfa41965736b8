"""Scores come from what paths met with, warm-ups and the last look at the address; they are kept every hour and shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from delivery import tasks
from delivery.models import Path, PathHour, ProviderGroup, ReputationScore, SourceCheck
from delivery.reputation import scores
from delivery.sources import add_source
from delivery.warmup import plans
from relayweb.commandline.main import main
from relayweb.metrics import exposition

pytestmark = pytest.mark.django_db
OLIVIA = Actor("olivia@relay.example", is_operator=True)
ADDRESS = "192.0.2.10"


@pytest.fixture
def path() -> Path:
    source = add_source(ADDRESS, actor=OLIVIA, ehlo_name="mx1.relay.example")
    group = ProviderGroup.objects.create(key="google", kind="provider", title="Google")
    return Path.objects.create(source=source, group=group)


def _met(path: Path, *, days_ago: float = 0.1, **counts: int) -> None:
    hour = (timezone.now() - timedelta(days=days_ago)).replace(minute=0, second=0, microsecond=0)
    PathHour.objects.create(path_id=path.pk, hour=hour, **counts)


def test_a_score_is_made_of_what_was_met_with(path: Path) -> None:
    _met(path, accepted=800, blocked=100)
    _met(path, days_ago=20, accepted=1000)

    (row,) = scores.compute()

    assert (row.source_id, row.group.key) == (path.source_id, "google")
    assert 40 < row.score < 70
    assert scores.raises(row) == ["blocked"]
    assert row.figures["24"]["blocked"] == 100
    assert row.figures["720"]["accepted"] == 1800


def test_a_warm_up_and_the_last_look_count(path: Path) -> None:
    _met(path, accepted=500)
    plans.start(path.source, actor=OLIVIA)
    assert [row.score for row in scores.compute()] == [30]

    plans.stop(path.source, actor=OLIVIA)
    assert [row.score for row in scores.compute()] == [100]

    listed = {"check": "blocklist:spamhaus_zen", "verdict": "bad", "severity": "severe", "detail": "", "found": []}
    SourceCheck.objects.create(source=path.source, state="bad", results=[listed])
    assert [(row.score, row.cap_reason) for row in scores.compute()] == [(20, "severe_listing")]

    SourceCheck.objects.create(source=path.source, state="ok", results=[])
    assert [row.score for row in scores.compute()] == [100]


def test_scores_are_written_once_an_hour_and_forgotten(path: Path) -> None:
    _met(path, accepted=500)

    tasks.score_sources()
    tasks.score_sources()
    later = scores.write_due(now=timezone.now() + timedelta(hours=1))

    assert (ReputationScore.objects.count(), later) == (2, 1)
    assert scores.forget_old(now=timezone.now() + timedelta(days=101)) == 2


def test_of_sites_only_the_large_ones_are_kept(path: Path) -> None:
    for name, accepted in (("small", 999), ("large", 1000)):
        site = ProviderGroup.objects.create(key=f"site:{name}.test", kind="site", title=name)
        _met(Path.objects.create(source=path.source, group=site), accepted=accepted)

    written = scores.write_due()

    assert (len(scores.compute()), written) == (2, 1)
    assert ReputationScore.objects.get().group.title == "large"


def test_the_command_line_and_the_metrics_show_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _met(path, accepted=500, throttled=300)
    tasks.score_sources()

    def run(*words: str) -> Any:
        capfd.readouterr()
        code = main([*words, "--json"])
        return code, json.loads(capfd.readouterr().out)

    _, (listed,) = run("reputation", "list")
    _, shown = run("reputation", "show", ADDRESS, "--provider", "google")
    code, refused = run("reputation", "show", ADDRESS, "--provider", "nobody")
    _, unknown = run("reputation", "show", ADDRESS, "--provider", "docomo")

    assert listed["would_raise_it"] == ["throttled"]
    assert {term["name"] for term in shown["terms"]} >= {"blocked", "throttled", "age"}
    assert [line["score"] for line in shown["history"]] == [listed["score"]]
    assert (code, refused["error"]) == (1, "not_found")
    assert unknown["score"] is None
    place = f'provider="google",source="{ADDRESS}"'
    assert f"relayweb_reputation_score{{{place}}} {listed['score']:.1f}" in exposition().decode()
