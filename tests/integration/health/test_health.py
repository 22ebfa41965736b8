"""Health and figures: what is decisive, and who may see more than ok and failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import RequestFactory

from relayweb import health
from relayweb.health import Health
from relayweb.wsgi import application

TOKEN = "a token for tests"

Ask = Callable[..., HttpResponse]


@pytest.fixture
def ask(settings: Any) -> Ask:
    settings.METRICS_TOKEN = TOKEN

    def get(path: str, *, peer: str = "127.0.0.1", **headers: str) -> HttpResponse:
        health._recent = health._Recent()
        return health.VIEWS[path](RequestFactory().get(path, REMOTE_ADDR=peer, headers=headers))

    return get


def parts(response: HttpResponse) -> dict[str, str]:
    return dict(json.loads(response.content)["parts"])


def test_live_asks_nothing(ask: Ask) -> None:
    assert ask("/health/live").status_code == 200


def test_it_is_not_ready_on_a_database_that_may_lose_mail(db: None, ask: Ask) -> None:
    response = ask("/health/ready")

    assert response.status_code == 503
    assert parts(response)["database"] == "ok"
    assert parts(response)["migrations"] == "ok"
    assert parts(response)["durability"] == "failed"  # the database of the tests gives durability up for speed
    assert json.loads(response.content)["durability"]["fsync"] == "off"


def test_a_worker_counts_while_its_heartbeat_is_fresh(transactional_db: None, ask: Ask) -> None:
    assert parts(ask("/health/ready"))["worker"] == "failed"

    beat(seconds_ago=1)
    assert parts(ask("/health/ready"))["worker"] == "ok"

    beat(seconds_ago=60)
    assert parts(ask("/health/ready"))["worker"] == "failed"


def beat(*, seconds_ago: int) -> None:
    from delivery.models import Node, Worker

    node, _ = Node.objects.get_or_create(name="node1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT now() - make_interval(secs => %s)", [seconds_ago])
        at = cursor.fetchone()[0]
    Worker.objects.update_or_create(
        slot="node1/worker-1",
        defaults={
            "incarnation": "01a20bed-002e-7941-af85-38f6ac74beee",
            "node": node,
            "part": "worker",
            "pid": 1,
            "version": "0",
            "heartbeat_at": at,
        },
    )


def test_the_broker_is_reported_and_does_not_decide() -> None:
    everything = dict.fromkeys(["database", "migrations", "durability", "gate", "worker", "broker"], True)

    assert Health(parts=everything | {"broker": False}, durability=None).is_ready
    assert not Health(parts=everything | {"gate": False}, durability=None).is_ready


def test_strangers_see_ok_and_failed_only(db: None, ask: Ask) -> None:
    response = ask("/health/ready", peer="192.0.2.1")

    assert set(json.loads(response.content)) == {"status", "parts"}


def test_a_proxy_on_this_machine_speaks_for_strangers(db: None, ask: Ask) -> None:
    response = ask("/health/ready", peer="127.0.0.1", **{"X-Forwarded-For": "192.0.2.1"})

    assert "durability" not in json.loads(response.content)


def test_a_bearer_of_the_token_sees_the_settings_from_anywhere(db: None, ask: Ask) -> None:
    response = ask("/health/ready", peer="192.0.2.1", Authorization=f"Bearer {TOKEN}")

    assert json.loads(response.content)["profile"] == "development"
    assert json.loads(response.content)["test_profile"] is True


@pytest.mark.parametrize("token", ["", "wrong", "a token for test", TOKEN + "s"])
def test_a_wrong_token_is_worth_nothing(db: None, ask: Ask, token: str) -> None:
    assert ask("/metrics", peer="192.0.2.1", Authorization=f"Bearer {token}").status_code == 403


def test_the_figures_name_the_queue(db: None, ask: Ask) -> None:
    response = ask("/metrics")

    assert response.status_code == 200
    assert b"relayweb_queue_oldest_age_seconds 0.0" in response.content


def test_health_answers_whatever_the_host_field_says(db: None) -> None:
    answers: list[str] = []
    environ = {
        **RequestFactory().get("/health/live").environ,
        "HTTP_HOST": "never.heard.of.example",
    }

    body = b"".join(application(environ, lambda status, _headers: answers.append(status)))

    assert answers == ["200 OK"]
    assert json.loads(body) == {"status": "ok"}
