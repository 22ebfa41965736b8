"""The operator's keys: tenants from their opening to their closing, sources, pools, routes. No mail."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.audit import Actor
from accounts.credentials import api_key, issue_credential
from accounts.models import AuditEntry, Tenant
from accounts.refusals import Refused
from delivery.foundation import lay
from delivery.models import Route
from tests.integration.api.conftest import Program
from tests.integration.api.test_managing import _audited, _ok, _refused
from tests.integration.api.test_sending import URL
from tests.support.engine_room import World

V1 = "/api/v1/operator"


@pytest.fixture
def operator(world: World) -> Program:
    lay()
    system = Tenant.objects.get(is_system=True)
    issued = issue_credential(system, kind="api", scopes=["operate"], actor=Actor.command_line())
    assert issued.secret is not None
    return Program(api_key(issued.credential, issued.secret), Client(raise_request_exception=False))


def test_a_tenant_from_its_opening_to_its_closing(operator: Program) -> None:
    made = _ok(operator.post(f"{V1}/tenants", {"name": "Initech", "owner_email": "peter@initech.example"}), 201)
    assert (made["slug"], made["owners"], made["state"]) == ("initech", ["peter@initech.example"], "active")
    key = _ok(operator.post(f"{V1}/tenants/initech/credentials", {"kind": "api"}), 201)
    assert key["scopes"] == ["send", "read", "manage"]
    program = Program(key["secret"], operator.client)
    assert program.get("/api/v1/tenant").json()["slug"] == "initech"

    limited = _ok(operator.call("PATCH", f"{V1}/tenants/initech/limits", {"daily_limit": 100}))
    assert (limited["limits"]["daily_limit"], limited["usage"]["day"]["remaining"]) == (100, 100)
    back = _ok(operator.call("PATCH", f"{V1}/tenants/{made['id']}/limits", {"daily_limit": None}))
    assert back["limits"]["daily_limit"] is None
    suspended = _ok(operator.post(f"{V1}/tenants/initech/suspend", {"reason": "bounces"}))
    assert (suspended["state"], suspended["state_reason"]) == ("suspended", "bounces")
    assert _ok(operator.post(f"{V1}/tenants/initech/resume"))["state"] == "active"
    assert _ok(operator.post(f"{V1}/tenants/initech/close", {}))["state"] == "closed"

    assert "initech" in [one["slug"] for one in _ok(operator.get(f"{V1}/tenants"))["data"]]
    assert _audited(operator) == [
        "tenant.create", "credential.issue", "limits.set", "limits.set", "tenant.suspend", "tenant.resume",
        "tenant.close",
    ]  # fmt: skip


def test_sources_and_pools(operator: Program) -> None:
    pool = _ok(operator.post(f"{V1}/pools", {"name": "acme-own", "kind": "dedicated", "tenant": "acme"}), 201)
    assert (pool["tenant"], pool["sources"]) == ("acme", [])
    source = _ok(operator.post(f"{V1}/sources", {"address": "192.0.2.77", "pool": "acme-own"}), 201)
    assert (source["address"], source["pool"], source["state"]) == ("192.0.2.77", "acme-own", "active")
    path = f"{V1}/sources/{source['id']}"
    assert _ok(operator.post(f"{path}/pause", {"reason": "listed"}))["state_reason"] == "listed"
    assert _ok(operator.post(f"{path}/resume"))["state"] == "active"
    _refused(operator.call("DELETE", f"{V1}/pools/acme-own"), 422, "pool_in_use")
    assert _ok(operator.call("DELETE", path))["state"] == "retired"
    assert source["id"] not in [one["id"] for one in _ok(operator.get(f"{V1}/sources"))["data"]]
    assert source["id"] in [one["id"] for one in _ok(operator.get(f"{V1}/sources?retired=true"))["data"]]
    assert _ok(operator.get(path))["state"] == "retired"
    _ok(operator.post(f"{V1}/pools", {"name": "empty"}), 201)
    assert _ok(operator.call("DELETE", f"{V1}/pools/empty"))["name"] == "empty"
    _refused(operator.post(f"{V1}/sources", {"address": "192.0.2.78", "pool": "none"}), 422, "unknown_value", "pool")
    _refused(operator.post(f"{V1}/sources", {"address": "here"}), 422, "address_malformed", "address")


def test_an_operators_route_may_be_private(operator: Program) -> None:
    body = {"host": "10.0.0.5", "port": 2600, "tls": "none"}

    assert _ok(operator.call("PUT", f"{V1}/routes/far.test", body))["host"] == "10.0.0.5"

    assert Route.objects.get().tenant is None
    (listed,) = _ok(operator.get(f"{V1}/routes"))["data"]
    assert (listed["domain"], listed["tenant"]) == ("far.test", None)
    _ok(operator.call("DELETE", f"{V1}/routes/far.test"))
    assert _ok(operator.get(f"{V1}/queue"))["open"] == 0


def test_an_operators_key_reads_nobodys_mail(operator: Program, acme: Program) -> None:
    for path in (URL, "/api/v1/recipients", "/api/v1/credentials", "/api/v1/statistics"):
        _refused(operator.get(path), 403, "scope_missing")
    _refused(acme.get(f"{V1}/queue"), 403, "scope_missing")


@pytest.mark.parametrize("actor", [Actor("alice@acme.example"), Actor.command_line()])
def test_only_the_service_itself_has_keys_that_operate(world: World, actor: Actor) -> None:
    with pytest.raises(Refused) as refused:
        issue_credential(world.cast.acme, kind="api", scopes=["operate"], actor=actor)

    assert refused.value.reason == "operators_only"
    assert not AuditEntry.objects.filter(action="credential.issue").exists()


def test_the_systems_keys_come_from_the_command_line_alone(operator: Program) -> None:
    answer: Any = operator.post(f"{V1}/tenants/system/credentials", {"kind": "api", "scopes": ["send"]})

    _refused(answer, 422, "system_tenant")
