"""relay warmup: started, shown, set, forecast and stopped, each change on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from accounts.models import AuditEntry
from delivery.sources import add_source

if TYPE_CHECKING:
    from accounts.audit import Actor

ADDRESS = "192.0.2.10"


@pytest.fixture
def source(db: None, operator: Actor) -> Any:
    return add_source(ADDRESS, actor=operator, ehlo_name="mx1.relay.example")


def test_a_warm_up_from_start_to_stop(source: Any, relay: Callable[..., Any]) -> None:
    started = relay("warmup", "start", ADDRESS, "--provider", "google", "--provider", "docomo", "--json").document
    listed = relay("warmup", "list", "--json").document
    changed = relay("warmup", "set", ADDRESS, "--provider", "google", "--stage", "5", "--json").document
    told = relay("warmup", "forecast", ADDRESS, "--provider", "google", "--daily", "50000", "--json").document
    sentence = relay("warmup", "forecast", ADDRESS, "--provider", "google", "--daily", "50000").out
    history = relay("warmup", "list", "--provider", "google", "--history", "--json").document[0]["history"]
    stopped = relay("warmup", "stop", ADDRESS, "--json").document

    assert started["running"] == 2
    assert [(line["provider"], line["schedule"], line["limit"]) for line in listed] == [
        ("docomo", "carrier", 50),
        ("google", "sparkpost", 200),
    ]
    assert (changed["stage"], changed["limit"]) == (5, 5000)
    assert told["days"] == 4
    assert "Ready for 50,000 a day at google in 4 days." in sentence
    assert [step["to_stage"] for step in history] == [5, 1]
    assert stopped["stopped"] == 2
    assert {line["limit"] for line in relay("warmup", "list", "--json").document} == {None}
    recorded = AuditEntry.objects.filter(action__startswith="warmup").order_by("id").values_list("action", flat=True)
    assert list(recorded) == ["warmup.start", "warmup.set", "warmup.stop"]


def test_a_planned_address_is_forecast_towards_groups_it_has_not_met(source: Any, relay: Callable[..., Any]) -> None:
    before = relay("warmup", "forecast", ADDRESS, "--provider", "google", "--daily", "50000", "--json").document
    relay("warmup", "start", ADDRESS)
    after = relay("warmup", "forecast", ADDRESS, "--provider", "google", "--daily", "50000", "--json").document
    relay("warmup", "stop", ADDRESS, "--provider", "google")
    stopped = relay("warmup", "forecast", ADDRESS, "--provider", "google", "--daily", "50000", "--json").document

    assert [answer["days"] for answer in (before, after, stopped)] == [0, 8, 0]


@pytest.mark.parametrize(
    "words",
    [
        ("start", ADDRESS, "--schedule", "hasty"),
        ("start", ADDRESS, "--provider", "nobody"),
        ("start", "192.0.2.99"),
        ("stop", ADDRESS),
        ("set", ADDRESS, "--provider", "google", "--stage", "2"),
        ("forecast", ADDRESS, "--provider", "nobody", "--daily", "5"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(source: Any, relay: Callable[..., Any], words: Any) -> None:
    said = relay("warmup", *words, "--json")

    assert said.code == 1
    assert said.document["sentence"]
    assert not AuditEntry.objects.filter(action__startswith="warmup").exists()


def test_a_stage_that_the_schedule_has_not_is_refused(source: Any, relay: Callable[..., Any]) -> None:
    relay("warmup", "start", ADDRESS, "--provider", "google")

    assert relay("warmup", "set", ADDRESS, "--provider", "google", "--stage", "30", "--json").code == 1
    assert relay("warmup", "list", "--json").document[0]["stage"] == 1


def test_metrics_show_running_warm_ups(source: Any, relay: Callable[..., Any]) -> None:
    from relayweb.metrics import exposition

    relay("warmup", "start", ADDRESS, "--provider", "google")

    figures = exposition().decode()

    place = 'provider="google"'
    assert f'relayweb_warmup_stage{{{place},schedule="sparkpost",source="{ADDRESS}"}} 1.0' in figures
    assert f'relayweb_warmup_limit_messages{{per="day",{place},source="{ADDRESS}"}} 200.0' in figures
