"""Webhooks over the API: managed, tested, replayed, their calls read; another tenant's key finds none of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.urls import URLPattern

from accounts.models import AuditEntry
from delivery.core.states import EVENT_TYPES
from delivery.models import Webhook
from relayweb.api import urls
from tests.integration.api.conftest import IssueKey, Program
from tests.support.engine_room import World
from tests.support.webhook_rows import write_call, write_dead, write_webhook

V1 = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hooks"

READS, ACTS = ("get",), ("post",)
ROUTES: dict[str, tuple[str, ...]] = {
    "api-webhooks": ("get", "post"),
    "api-webhook": ("get", "patch", "delete"),
    "api-webhook-restore": ACTS,
    "api-webhook-enable": ACTS,
    "api-webhook-disable": ACTS,
    "api-webhook-rotate": ACTS,
    "api-webhook-test": ACTS,
    "api-webhook-replay": ACTS,
    "api-webhook-calls": READS,
    "api-webhook-call": READS,
    "api-webhook-dead": READS,
}
BODIES = {"api-webhook-replay": {"dead": True}, "api-webhook": {"name": "taken"}}


def _add(program: Program, **fields: Any) -> Any:
    return program.post(V1, {"url": URL, "events": ["delivered", "bounced"], **fields})


def test_a_webhook_is_added_and_its_secret_is_in_that_answer_alone(acme: Program, world: World):
    answer = _add(acme, name="orders", most_in_a_call=50)

    assert answer.status_code == 201
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    read = acme.get(f"{V1}/{made['id']}").json()
    assert made["secret"] not in str(read)
    assert (read["url"], read["events"], read["most_in_a_call"], read["state"]) == (
        URL,
        ["delivered", "bounced"],
        50,
        "active",
    )
    assert acme.get(V1).json()["data"] == [read]
    assert AuditEntry.objects.of(world.cast.acme).get(action="webhook.add").actor_name.startswith("API key")


@pytest.mark.parametrize(
    ("change", "status", "word", "field"),
    [
        ({"url": "http://10.0.0.7/"}, 422, "url_address", "url"),
        ({"url": "gopher://acme.example/"}, 422, "url_scheme", "url"),
        ({"events": ["delivered", "opened"]}, 400, "invalid_request", "events[1]"),
        ({"events": []}, 400, "invalid_request", "events"),
        ({"most_in_a_call": 101}, 400, "invalid_request", "most_in_a_call"),
        ({"secret": "whsec_mine"}, 400, "invalid_request", "secret"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(acme: Program, change: Any, status: int, word: str, field: str):
    answer = _add(acme, **change)

    assert answer.status_code == status
    problem = answer.json()
    assert problem["type"].endswith(f":{word}")
    assert problem["errors"][0]["field"] == field


def test_a_webhook_is_changed_disabled_enabled_removed_and_restored(acme: Program):
    path = f"{V1}/{_add(acme).json()['id']}"

    assert acme.call("PATCH", path, {"events": ["complained"]}).json()["events"] == ["complained"]
    assert acme.post(f"{path}/disable").json()["disabled_reason"] == "person"
    assert acme.post(f"{path}/disable").status_code == 422
    assert acme.post(f"{path}/replay", {"dead": True}).json()["type"].endswith(":webhook_disabled")
    assert acme.post(f"{path}/enable").json()["state"] == "active"
    assert acme.call("DELETE", path).json()["state"] == "removed"
    assert acme.get(path).status_code == 404
    assert acme.post(f"{path}/restore").json()["state"] == "active"


def test_secrets_are_rotated_and_tests_asked_for(acme: Program):
    made = _add(acme).json()
    path = f"{V1}/{made['id']}"

    rotated = acme.post(f"{path}/rotate", {"overlap_hours": 1}).json()
    test = acme.post(f"{path}/test")

    assert rotated["secret"] != made["secret"]
    assert rotated["former_secret_until"] is not None
    assert test.status_code == 202
    assert str(Webhook.objects.get().test_id) == test.json()["test_id"]


def test_calls_and_dead_events_are_read_page_by_page(acme: Program, world: World):
    webhook = write_webhook(world.cast.acme)
    now = datetime.now(tz=UTC)
    calls = [write_call(webhook, called_at=now - timedelta(seconds=number)) for number in range(3)]
    failed = write_call(webhook, outcome="timeout", status=None, error="no answer", kind="bounced")
    dead = [write_dead(webhook) for _ in range(3)]
    path = f"{V1}/{webhook.id}"

    first = acme.get(f"{path}/calls?limit=2").json()
    second = acme.get(f"{path}/calls?limit=2&cursor={first['next_cursor']}").json()
    only_failed = acme.get(f"{path}/calls?failed=true&type=bounced").json()
    full = acme.get(f"{path}/calls/{calls[0].id}").json()
    dead_first = acme.get(f"{path}/dead?limit=2").json()
    dead_second = acme.get(f"{path}/dead?limit=2&cursor={dead_first['next_cursor']}").json()

    ids = [row["id"] for row in (*first["data"], *second["data"])]
    assert ids == [str(call.id) for call in (failed, *calls)]
    assert second["next_cursor"] is None
    assert [row["error"] for row in only_failed["data"]] == ["no answer"]
    assert full["request_body"] == '{"type":"delivered"}' and full["response_headers"] == {"Server": "test"}
    found = [row["id"] for row in (*dead_first["data"], *dead_second["data"])]
    assert found == [str(event.event_id) for event in reversed(dead)]


def test_dead_events_are_replayed_and_a_period_needs_both_ends(acme: Program, world: World):
    webhook = write_webhook(world.cast.acme)
    write_dead(webhook)
    path = f"{V1}/{webhook.id}/replay"

    assert acme.post(path, {"dead": True}).json() == {"events": 1}
    assert acme.post(path, {"dead": True}).status_code == 422
    assert acme.post(path, {"since": "2026-01-01T00:00:00Z"}).status_code == 400
    assert acme.post(path, {}).status_code == 400
    assert acme.post(path, {"call": str(uuid4())}).status_code == 404


def test_a_key_that_may_only_read_changes_nothing(world: World, issue_key: IssueKey):
    webhook = write_webhook(world.cast.acme)
    reader = issue_key(scopes=["read"])

    assert reader.get(f"{V1}/{webhook.id}").status_code == 200
    assert _add(reader).status_code == 403
    assert reader.post(f"{V1}/{webhook.id}/rotate").status_code == 403


def test_every_route_is_in_the_inventory():
    found = {str(route.name) for route in urls.v1 if isinstance(route, URLPattern)}

    assert {name for name in found if name.startswith("api-webhook")} == set(ROUTES)


@pytest.mark.parametrize("route", [name for name in ROUTES if name != "api-webhooks"])
def test_another_tenants_webhook_is_not_found(route: str, world: World, globex: Program):
    webhook = write_webhook(world.cast.acme, name="confidential")
    call = write_call(webhook)
    removed = write_webhook(world.cast.acme, state="removed", removed_at=datetime.now(tz=UTC))
    write_dead(webhook)
    pattern = next(str(one.pattern) for one in urls.v1 if isinstance(one, URLPattern) and one.name == route)

    for method in ROUTES[route]:
        own = removed if route == "api-webhook-restore" else webhook
        paths = [
            "/api/v1/" + pattern.replace("<uuid:webhook_id>", str(key)).replace("<uuid:call_id>", str(call.id))
            for key in (own.id, uuid4())
        ]
        body = BODIES.get(route, {}) if method in ("post", "patch") else None
        foreign, unknown = (globex.call(method.upper(), path, body) for path in paths)
        assert foreign.status_code == unknown.status_code == 404
        assert b"confidential" not in foreign.content
    assert globex.get(V1).json()["data"] == []


def test_the_vocabulary_is_that_of_the_document():
    from relayweb.api.v1.webhooks import EventType

    assert tuple(kind.value for kind in EventType) == EVENT_TYPES
