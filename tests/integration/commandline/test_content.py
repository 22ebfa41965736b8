"""relay content, relay tenant seal-content, and what doctor says about an object store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accounts.models import AuditEntry, Tenant
from delivery.models import ContentKey
from tests.support.ports import find_free_ports

Relay = Callable[..., Any]


def test_content_of_a_tenant_is_sealed_from_then_on(acme: Tenant, relay: Relay) -> None:
    on = relay("tenant", "seal-content", "acme", "--on", "--json")
    again = relay("tenant", "seal-content", "acme", "--on", "--json")
    off = relay("tenant", "seal-content", "acme", "--off", "--json")

    assert [said.document["seals_content"] for said in (on, again, off)] == [True, True, False]
    assert [key.is_current for key in ContentKey.objects.of(acme)] == [False]
    assert AuditEntry.objects.filter(action="tenant.seal_content").count() == 2
    assert relay("key", "rotate", "--json").document["content_keys"] == 0


def test_without_an_object_store_there_is_nothing_to_move(db: None, relay: Relay) -> None:
    shown = relay("content", "show", "--json")
    moved = relay("content", "move", "--to", "object-store", "--json")

    assert shown.document == {
        "object_store": False, "in_database": 0, "octets_in_database": 0, "in_object_store": 0, "sealed": 0,
    }  # fmt: skip
    assert moved.code == 1 and "RELAY_OBJECT_STORE" in moved.err + moved.out


def test_doctor_says_what_an_object_store_that_is_away_does_to_mail(
    transactional_db: None, relay: Relay, settings: Any
) -> None:
    settings.OBJECT_STORE, settings.OBJECT_STORE_ENDPOINT = "s3://mail", f"http://127.0.0.1:{find_free_ports(1)[0]}"
    settings.OBJECT_STORE_KEY_ID, settings.OBJECT_STORE_SECRET = "key", "secret"

    said = relay("doctor", "--json")
    found = {check["name"]: check for check in said.document["checks"]}

    assert not found["object store"]["ok"] and "451" in found["object store"]["sentence"]
