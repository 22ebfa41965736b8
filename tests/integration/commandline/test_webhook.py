"""relay webhook …"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accounts.models import Tenant
from delivery.core.states import EVENT_TYPES
from delivery.models import Webhook
from tests.support.webhook_rows import write_call, write_dead

Relay = Callable[..., Any]
URL = "http://127.0.0.1:9/hooks"


def _add(relay: Relay, *words: str) -> Any:
    return relay("webhook", "add", "--tenant", "acme", "--url", URL, *words, "--json")


def test_add_list_show_update_and_rotate(acme: Tenant, relay: Relay) -> None:
    added = _add(relay, "--event", "bounced", "--name", "orders").document
    assert added["secret"].startswith("whsec_")
    assert added["events"] == ["bounced"]

    (listed,) = relay("webhook", "list", "--tenant", "acme", "--json").document
    assert "secret" not in listed
    changed = relay("webhook", "update", added["id"], "--batch", "20", "--json").document
    assert (changed["most_in_a_call"], changed["name"]) == (20, "orders")
    rotated = relay("webhook", "rotate", added["id"], "--json").document
    assert rotated["secret"] != added["secret"] and rotated["former_secret_until"] is not None
    assert relay("webhook", "show", added["id"], "--json").document["waiting"] == 0


def test_all_events_unless_some_are_chosen(acme: Tenant, relay: Relay) -> None:
    assert tuple(_add(relay).document["events"]) == EVENT_TYPES


def test_disable_enable_remove_and_restore(acme: Tenant, relay: Relay) -> None:
    key = _add(relay).document["id"]

    assert relay("webhook", "disable", key, "--json").document["state"] == "disabled"
    assert relay("webhook", "disable", key).code == 1
    assert relay("webhook", "enable", key, "--json").document["state"] == "active"
    assert relay("webhook", "remove", key, "--json").document["state"] == "removed"
    assert relay("webhook", "show", key).code == 1
    assert relay("webhook", "restore", key, "--json").document["state"] == "active"


def test_calls_and_replay(acme: Tenant, relay: Relay) -> None:
    key = _add(relay).document["id"]
    webhook = Webhook.objects.get()
    write_call(webhook, outcome="timeout", status=None)
    write_call(webhook)
    write_dead(webhook)

    assert len(relay("webhook", "calls", key, "--json").document) == 2
    (failed,) = relay("webhook", "calls", key, "--failed", "--json").document
    assert failed["outcome"] == "timeout"
    assert relay("webhook", "replay", key, "--dead", "--json").document == {"id": key, "events": 1}
    assert relay("webhook", "replay", key).code == 2
    assert relay("webhook", "replay", key, "--since", "2026-01-01").code == 1  # nothing happened


def test_a_url_that_is_not_called_is_refused_with_a_sentence(acme: Tenant, relay: Relay) -> None:
    said = relay("webhook", "add", "--tenant", "acme", "--url", "http://10.1.2.3/")

    assert said.code == 1
    assert "private network" in said.err
