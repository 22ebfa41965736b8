"""The operator's keys: tenants from their opening to their closing, sources, pools, routes. No mail."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from accounts.credentials import api_key, issue_credential
from accounts.models import AuditEntry, Tenant
from accounts.refusals import Refused
from delivery.brakes import pulling
from delivery.foundation import lay
from delivery.models import (
    Alert,
    Brake,
    Lane,
    Path,
    ProviderGroup,
    QueueEntry,
    ReputationScore,
    Route,
    SenderScore,
    SendingDomain,
    SourceAddress,
    SourceCheck,
)
from tests.integration.api.conftest import Program
from tests.integration.api.test_managing import _audited, _ok, _refused
from tests.integration.api.test_sending import MAIL, URL
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
    results = [{"check": "spf", "verdict": "ok", "detail": "x", "found": [], "severity": None, "look_up": ""}]
    SourceCheck.objects.create(source_id=source["id"], state="ok", results=results)
    (look,) = _ok(operator.get(f"{path}/checks"))["data"]
    assert (look["state"], look["results"][0]["verdict"], look["results"][0]["look_up"]) == ("ok", "ok", None)
    nameless = SourceAddress.objects.filter(address=None).first()
    assert nameless is not None
    _refused(operator.post(f"{V1}/sources/{nameless.pk}/check"), 422, "no_address")
    _ok(operator.post(f"{V1}/pools", {"name": "empty"}), 201)
    assert _ok(operator.call("DELETE", f"{V1}/pools/empty"))["name"] == "empty"
    _refused(operator.post(f"{V1}/sources", {"address": "192.0.2.78", "pool": "none"}), 422, "unknown_value", "pool")
    _refused(operator.post(f"{V1}/sources", {"address": "here"}), 422, "address_malformed", "address")


def test_sources_and_pools_are_changed_and_the_rest_stays(operator: Program) -> None:
    for name in ("own", "other"):
        _ok(operator.post(f"{V1}/pools", {"name": name, "note": "first"}), 201)
    source = _ok(operator.post(f"{V1}/sources", {"address": "192.0.2.77", "pool": "own", "note": "rack 3"}), 201)
    path = f"{V1}/sources/{source['id']}"

    moved = _ok(operator.call("PATCH", path, {"pool": "other", "weight": 3}))
    assert (moved["pool"], moved["weight"], moved["note"]) == ("other", 3, "rack 3")
    assert _ok(operator.call("PATCH", path, {}))["pool"] == "other"
    _refused(operator.call("PATCH", path, {"pool": "none"}), 422, "unknown_value", "pool")
    _refused(operator.call("PATCH", path, {"ehlo_name": "no name"}), 422, "ehlo_malformed", "ehlo")
    changed = _ok(operator.call("PATCH", f"{V1}/pools/own", {"standby": "other"}))
    assert (changed["standby"], changed["note"]) == ("other", "first")
    assert _ok(operator.call("PATCH", f"{V1}/pools/own", {"standby": None, "note": ""}))["standby"] is None
    _refused(operator.call("PATCH", f"{V1}/pools/own", {"standby": "own"}), 422, "standby_chain", "standby")
    assert _ok(operator.get(f"{V1}/pools/own"))["note"] is None

    assert _audited(operator)[-5:] == ["source.update", "source.move", "pool.standby", "pool.standby", "pool.update"]


def test_streams_and_credentials_are_given_pools(operator: Program, acme: Program, world: World) -> None:
    for name, more in (("quick", {}), ("globex-own", {"kind": "dedicated", "tenant": "globex"})):
        _ok(operator.post(f"{V1}/pools", {"name": name, **more}), 201)
    (own,) = _ok(operator.get(f"{V1}/tenants/acme/credentials"))["data"]
    path = f"{V1}/tenants/acme/credentials/{own['id']}"
    assert own["pool"] is None

    assert _ok(operator.call("PATCH", path, {"pool": "quick"}))["pool"] == "quick"
    _ok(acme.post(URL, MAIL), 202)
    assert Lane.objects.get(pk=QueueEntry.objects.get().lane_id).pool.name == "quick"
    _refused(operator.call("PATCH", path, {"pool": "globex-own"}), 422, "pool_tenant", "pool")
    _refused(operator.call("PATCH", path, {"pool": "none"}), 422, "unknown_value", "pool")
    assert operator.call("PATCH", path.replace("/acme/", "/globex/"), {"pool": None}).status_code == 404
    assert _ok(operator.call("PATCH", path, {"pool": None}))["pool"] is None

    (stream, *_more) = _ok(operator.get(f"{V1}/tenants/acme/streams"))["data"]
    stream_path = f"{V1}/tenants/acme/streams/{stream['name']}"
    assert _ok(operator.call("PATCH", stream_path, {"pool": "quick"}))["pool"] == "quick"
    _refused(operator.call("PATCH", stream_path, {"pool": "globex-own"}), 422, "pool_tenant")
    assert _ok(operator.call("PATCH", stream_path, {"pool": None}))["pool"] is None


def test_brakes_are_pulled_answered_and_let_go(operator: Program, acme: Program, world: World) -> None:
    body = {"tenant": "acme", "step": "hold", "reason": "spam traps"}
    pulled = _ok(operator.post(f"{V1}/brakes", body), 201)
    path = f"{V1}/brakes/{pulled['id']}"
    assert (pulled["tenant"], pulled["rule"], pulled["appeal_waits"]) == ("acme", "operator", False)
    _refused(operator.post(f"{V1}/brakes", body), 422, "state_unchanged", "step")
    _refused(operator.post(f"{V1}/brakes", {**body, "tenant": "nobody"}), 422, "unknown_value", "tenant")
    _refused(operator.post(f"{V1}/brakes", {**body, "credential": "none"}), 422, "unknown_value", "credential")
    _refused(operator.post(f"{path}/refuse", {"answer": "no"}), 422, "state_unchanged")
    sample = {
        "domain": "far.test",
        "class": "bad_mailbox",
        "reply": "550 <x@far.test>",
        "recipient": "r",
        "message": "m",
    }
    Brake.objects.update(evidence={"bad": 1, "samples": [sample]})
    pulling.appeal(Brake.objects.select_related("tenant").get(), "please", actor=Actor("alice@acme.example"))

    (listed,) = _ok(operator.get(f"{V1}/brakes?tenant=acme"))["data"]
    assert listed["appeal_waits"] is True
    assert _ok(operator.get(f"{V1}/brakes?tenant=globex"))["data"] == []
    kept = _ok(operator.post(f"{path}/refuse", {"answer": "Clean the list."}))
    assert [(one["text"], one["answer"], one["is_granted"]) for one in kept["appeals"]] == [
        ("please", "Clean the list.", False)
    ]
    assert kept["evidence"]["samples"] == [{"domain": "far.test", "class": "bad_mailbox", "reply": "550 <***>"}]
    assert _ok(operator.post(f"{path}/release", {"answer": "Thank you."}))["ended_at"] is not None
    assert [one["id"] for one in _ok(operator.get(f"{V1}/brakes?ended=true"))["data"]] == [pulled["id"]]
    _refused(acme.post(f"{path}/release", {}), 403, "scope_missing")
    assert _audited(operator)[-3:] == ["brake.pull", "brake.refuse", "brake.release"]


def test_alerts_are_taken_given_back_and_muted(operator: Program, acme: Program) -> None:
    now = timezone.now()
    made = [
        Alert.objects.create(kind="disk", subject=name, severity="critical", opened_at=now, evidence={"percent": 4.2})
        for name in ("a", "b")
    ]
    path = f"{V1}/alerts/{made[0].pk}"

    first = _ok(operator.get(f"{V1}/alerts?limit=1"))
    assert [one["subject"] for one in first["data"]] == ["b"]
    assert [one["subject"] for one in _ok(operator.get(f"{V1}/alerts?cursor={first['next_cursor']}"))["data"]] == ["a"]
    assert _ok(operator.post(f"{path}/acknowledge", {"note": "on it"}))["acknowledged_note"] == "on it"
    assert _ok(operator.post(f"{path}/give-back"))["acknowledged_by"] is None
    assert _ok(operator.post(f"{path}/mute", {"hours": 2160, "reason": "known"}))["mute_reason"] == "known"
    _refused(operator.post(f"{path}/mute", {"hours": 1}), 400, "invalid_request", "reason")
    assert _ok(operator.post(f"{path}/unmute"))["muted_until"] is None
    Alert.objects.filter(pk=made[0].pk).update(closed_at=now)
    _refused(operator.post(f"{path}/acknowledge", {}), 422, "alert_closed")
    assert [one["subject"] for one in _ok(operator.get(f"{V1}/alerts?closed=true"))["data"]] == ["a"]
    assert _ok(operator.get(path))["evidence"] == {"percent": 4.2}
    _refused(acme.get(f"{V1}/alerts"), 403, "scope_missing")
    assert _audited(operator)[-4:] == ["alert.acknowledge", "alert.take_back", "alert.mute", "alert.unmute"]


def test_scores_are_read_with_their_terms(operator: Program, acme: Program, world: World) -> None:
    assert _ok(operator.get(f"{V1}/tenants/acme/scores")) == {"tenant": "acme", "score": None, "domains": []}
    terms = [{"name": "unknown", "value": 0.05, "factor": 0.65, "costs": 35.0}]
    domain = SendingDomain.objects.get(tenant=world.cast.acme)
    for of in (None, domain):
        SenderScore.objects.create(
            tenant=world.cast.acme, domain=of, score=65, terms=terms, figures={"24": {"accepted": 95, "unknown": 5}}
        )
    source = _ok(operator.post(f"{V1}/sources", {"address": "192.0.2.77"}), 201)
    path = Path.objects.create(
        source_id=source["id"], group=ProviderGroup.objects.create(key="g", kind="provider", title="G")
    )
    ReputationScore.objects.create(
        source=path.source, group=path.group, score=40, cap=40, cap_reason="reverse_dns", terms=terms, figures={}
    )

    found = _ok(operator.get(f"{V1}/tenants/acme/scores"))
    assert (found["score"]["score"], found["score"]["would_raise_it"]) == (65, ["unknown"])
    assert found["score"]["terms"] == terms
    assert [(one["domain"], one["score"]["score"]) for one in found["domains"]] == [(domain.name, 65)]
    (one,) = _ok(operator.get(f"{V1}/sources/{source['id']}/scores"))["data"]
    assert (one["provider"], one["score"]["would_raise_it"]) == ("g", ["reverse_dns", "unknown"])
    _refused(acme.get(f"{V1}/tenants/acme/scores"), 403, "scope_missing")


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
