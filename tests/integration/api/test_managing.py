"""What programs set up: domains, credentials, suppressions, routes. Each key within its own powers, each change audited."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.audit import Actor
from accounts.models import AuditEntry, Credential
from delivery import suppressions
from delivery.models import Route, SendingDomain, Suppression, SuppressionReason
from delivery.statistics import counting, figures
from delivery.suppressions import Cause, Owner, read_target
from tests.integration.api.conftest import IssueKey, Program
from tests.integration.api.test_sending import MAIL, URL
from tests.support.dns_server import FakeDns
from tests.support.engine_room import World
from tests.support.journeys import EXAMPLES, write_message
from tests.support.waiting import until

V1 = "/api/v1"


def _ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.content
    return answer.json()


def _refused(answer: Any, status: int, word: str, field: str = "") -> None:
    document = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"urn:relayweb:problem:{word}"), document
    if field:
        assert [error["field"] for error in document["errors"]] == [field]


def _audited(program: Program) -> list[str]:
    name = f"API key {program.key.rpartition('.')[0]}"
    return list(AuditEntry.objects.filter(actor_name=name).order_by("id").values_list("action", flat=True))


# ---------------------------------------------------------------- domains


def test_a_domain_is_added_proved_given_up_and_taken_back(acme: Program, name_server: FakeDns) -> None:
    added = _ok(acme.post(f"{V1}/domains", {"name": "News.Acme.test"}), 201)
    assert (added["name"], added["state"]) == ("news.acme.test", "pending")
    ownership = next(record for record in added["records"] if record["purpose"] == "ownership")
    assert not ownership["is_ok"]

    name_server.records["news.acme.test"] = {"A": ["192.0.2.1"]}
    checked = _ok(acme.post(f"{V1}/domains/news.acme.test/check"))
    missing = next(record for record in checked["records"] if record["purpose"] == "ownership")
    assert (missing["finding"], missing["level"]) == ("ownership_missing", "problem")
    name_server.records[ownership["name"]] = {ownership["type"]: [ownership["value"]]}
    checked = _ok(acme.post(f"{V1}/domains/{added['id']}/check"))

    assert checked["state"] == "verified"
    assert _ok(acme.call("PATCH", f"{V1}/domains/news.acme.test", {"signs": False}))["signs"] is False
    assert _ok(acme.call("DELETE", f"{V1}/domains/news.acme.test"))["state"] == "removed"
    assert acme.get(f"{V1}/domains/news.acme.test").status_code == 404
    assert _ok(acme.post(f"{V1}/domains/{added['id']}/restore"))["state"] == "verified"
    assert [one["name"] for one in _ok(acme.get(f"{V1}/domains"))["data"]] == ["news.acme.test", "acme.example"]
    assert _audited(acme) == [
        "domain.add", "domain.verify", "domain.update", "domain.remove", "domain.restore",
    ]  # fmt: skip


NO_DOMAINS: list[tuple[Any, int, str, str]] = [
    ({"name": "not a name"}, 422, "domain_malformed", "name"), ({"name": "gmail.com"}, 422, "domain_of_mail_provider", "name"),
    ({"name": "acme.example"}, 422, "domain_added_already", "name"), ({}, 400, "invalid_request", "name"),
    ({"name": 5}, 400, "invalid_request", "name"), ({"name": "a\nb.test"}, 400, "invalid_request", "name"),
    ({"name": "x.test", "state": "verified"}, 400, "invalid_request", "state"),
    ({"name": "x.test", "tenant": "globex"}, 400, "invalid_request", "tenant"),
    ({"name": "x.test", "is_assumed": True}, 400, "invalid_request", "is_assumed"),
]  # fmt: skip


def test_what_cannot_be_added_is_refused_with_its_field(acme: Program) -> None:
    for body, status, word, field in NO_DOMAINS:
        _refused(acme.post(f"{V1}/domains", body), status, word, field)
    assert SendingDomain.objects.count() == 2


# ---------------------------------------------------------------- credentials


def test_a_key_issues_rotates_and_revokes(acme: Program) -> None:
    issued = _ok(acme.post(f"{V1}/credentials", {"kind": "api", "name": "app", "scopes": ["send"]}), 201)
    program = Program(issued["secret"], acme.client)
    assert program.post(URL, MAIL).status_code == 202
    _refused(program.get(URL), 403, "scope_missing")
    assert "secret" not in _ok(acme.get(f"{V1}/credentials/{issued['id']}"))
    assert issued["secret"] not in acme.get(f"{V1}/credentials").content.decode()

    rotated = _ok(acme.post(f"{V1}/credentials/{issued['id']}/rotate", {"overlap_hours": 0}))
    assert rotated["secret"] != issued["secret"]
    newer = Program(rotated["secret"], acme.client)
    # What is remembered of a credential is doubted for a secret that does not fit, some times a second.
    until(lambda: newer.post(URL, MAIL).status_code == 202, seconds=1.5)

    assert _ok(acme.call("DELETE", f"{V1}/credentials/{issued['id']}"))["revoked_at"]
    assert issued["id"] not in [one["id"] for one in _ok(acme.get(f"{V1}/credentials"))["data"]]
    assert issued["id"] in [one["id"] for one in _ok(acme.get(f"{V1}/credentials?revoked=true"))["data"]]
    assert _audited(acme) == ["credential.issue", "credential.rotate", "credential.revoke"]


def test_every_restriction_can_be_given_and_is_shown(acme: Program) -> None:
    end = (datetime.now(tz=UTC) + timedelta(days=30)).replace(microsecond=0)
    wanted = {
        "kind": "smtp", "name": "shop", "use": "application", "stream": "bulk", "only_domain": "acme.example",
        "only_networks": ["192.0.2.0/24"], "daily_limit": 10, "rate_per_second": 2.5, "is_test": True,
        "expires_at": end.isoformat(),
    }  # fmt: skip

    issued = _ok(acme.post(f"{V1}/credentials", wanted), 201)

    wanted["expires_at"] = end.isoformat().replace("+00:00", "Z")
    assert {name: issued[name] for name in wanted} == wanted
    assert issued["secret"]
    network = _ok(acme.post(f"{V1}/credentials", {"kind": "network", "network": "198.51.100.0/28"}), 201)
    assert (network["secret"], network["approved_at"]) == (None, None)


BEYOND: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"scopes": ["read", "manage"]}, {"kind": "api", "scopes": ["send"]}, "scopes"),
    ({"scopes": ["read", "manage"]}, {"kind": "smtp"}, "scopes"),
    ({"is_test": True}, {"kind": "smtp"}, "is_test"),
    ({"only_networks": ["127.0.0.0/8"]}, {"kind": "smtp"}, "only_networks"),
    ({"only_networks": ["127.0.0.0/8"]}, {"kind": "smtp", "only_networks": ["127.0.0.1/32", "10.0.0.0/8"]}, "only_networks"),
    ({"expires": 1}, {"kind": "smtp"}, "expires_at"), ({"expires": 1}, {"kind": "smtp", "expires": 2}, "expires_at"),
    ({"daily_limit": 5}, {"kind": "smtp", "daily_limit": 6}, "daily_limit"),
    ({"rate_per_second": 1.0}, {"kind": "api"}, "rate_per_second"),
    ({}, {"kind": "smtp", "use": "mail-server"}, "use"),
]  # fmt: skip


def test_a_key_never_gives_more_than_it_has(issue_key: IssueKey) -> None:
    now = datetime.now(tz=UTC)
    for holds, wants, field in BEYOND:
        own = {"expires_at" if name == "expires" else name: value for name, value in holds.items()}
        if days := holds.get("expires"):
            own["expires_at"] = now + timedelta(days=days)
        wanted = {name: value for name, value in wants.items() if name != "expires"}
        if days := wants.get("expires"):
            wanted["expires_at"] = (now + timedelta(days=days)).isoformat()

        _refused(issue_key(**own).post(f"{V1}/credentials", wanted), 403, "beyond_own_powers", field)

    assert Credential.objects.count() == len(BEYOND)


def test_a_key_is_not_told_the_secret_of_one_that_may_do_more(issue_key: IssueKey) -> None:
    strong, weak = issue_key(), issue_key(scopes=["manage"])
    theirs, own = (Credential.objects.get(username=program.key.rpartition(".")[0]) for program in (strong, weak))

    _refused(weak.post(f"{V1}/credentials/{theirs.id}/rotate", {}), 403, "beyond_own_powers", "scopes")
    assert _ok(weak.post(f"{V1}/credentials/{own.id}/rotate", {}))["secret"]


def test_no_key_of_a_tenant_can_operate(acme: Program) -> None:
    answer = acme.post(f"{V1}/credentials", {"kind": "api", "scopes": ["operate"]})

    _refused(answer, 400, "invalid_request", "scopes[0]")
    _refused(acme.get(f"{V1}/operator/tenants"), 403, "scope_missing")


# ---------------------------------------------------------------- suppressions


def test_suppressions_are_added_removed_and_restored(acme: Program) -> None:
    added = _ok(acme.post(f"{V1}/suppressions", {"address": "Taro@far.test", "note": "moved"}), 201)
    assert (added["address"], added["kind"], added["reason"], added["scope"]) == (
        "taro@far.test", "address", "manual", "tenant",
    )  # fmt: skip
    bulk = _ok(acme.post(f"{V1}/suppressions", {"address": "far.test", "stream": "bulk"}), 201)
    assert (bulk["scope"], bulk["stream"]) == ("stream", "bulk")
    found = _ok(acme.get(f"{V1}/suppressions?search=far.test&limit=1"))
    assert [one["id"] for one in found["data"]] == [bulk["id"]]
    rest = _ok(acme.get(f"{V1}/suppressions?search=far.test&limit=1&cursor={found['next_cursor']}"))
    assert ([one["id"] for one in rest["data"]], rest["next_cursor"]) == ([added["id"]], None)

    removed = _ok(acme.call("DELETE", f"{V1}/suppressions/{added['id']}?reason=asked"))
    assert (removed["removed_reason"], removed["removed_at"] is None) == ("asked", False)
    assert [one["id"] for one in _ok(acme.get(f"{V1}/suppressions?removed=true"))["data"]] == [added["id"]]
    assert _ok(acme.post(f"{V1}/suppressions/{added['id']}/restore"))["removed_at"] is None
    _refused(acme.post(f"{V1}/suppressions", {"address": "@", "stream": ""}), 422, "target_malformed", "address")
    _refused(acme.post(f"{V1}/suppressions", {"address": "a@b.test", "stream": "x"}), 422, "unknown_value", "stream")


def test_a_thousand_at_once_each_with_its_result(acme: Program, world: World) -> None:
    addresses = [f"user{number}@far.test" for number in range(998)]
    complained = read_target("angry@far.test")
    suppressions.add(Owner(world.cast.acme), complained, Cause(SuppressionReason.COMPLAINT), actor=Actor("test"))

    added = _ok(acme.post(f"{V1}/suppressions/bulk", {"addresses": [*addresses, "no address", "*@far*r.test"]}))
    assert (added["changed"], [one["status"] for one in added["results"][-3:]]) == (
        998, ["suppressed", "refused", "refused"],
    )  # fmt: skip
    again = _ok(acme.post(f"{V1}/suppressions/bulk", {"addresses": addresses[:2]}))
    assert again["changed"] == 0

    body = {"addresses": [addresses[0].upper(), "angry@far.test", "nobody@far.test"]}
    removed = _ok(acme.post(f"{V1}/suppressions/bulk/remove", body))
    assert [one["status"] for one in removed["results"]] == ["removed", "not_found", "not_found"]
    lifted = _ok(acme.post(f"{V1}/suppressions/bulk/remove", {**body, "reason": "wrote to us"}))
    assert [one["status"] for one in lifted["results"]] == ["not_found", "removed", "not_found"]
    assert Suppression.objects.filter(removed_at=None).count() == 997
    assert _audited(acme) == ["suppression.add_many", "suppression.remove_many", "suppression.remove_many"]
    _refused(
        acme.post(f"{V1}/suppressions/bulk", {"addresses": ["a@b.test"] * 1001}), 400, "invalid_request", "addresses"
    )


# ---------------------------------------------------------------- routes


def test_a_tenant_sets_routes_for_its_own_mail(acme: Program, world: World) -> None:
    body = {"host": "smtp.partner.example", "port": 587, "tls": "required", "username": "acme", "password": "secret!"}

    route = _ok(acme.call("PUT", f"{V1}/routes/Far.test", body))

    assert (route["domain"], route["host"], route["username"]) == ("far.test", "smtp.partner.example", "acme")
    assert Route.objects.get().tenant == world.cast.acme
    assert "secret!" not in acme.get(f"{V1}/routes").content.decode() + str(AuditEntry.objects.values_list("after"))
    assert _ok(acme.get(f"{V1}/routes/far.test"))["id"] == route["id"]
    assert _ok(acme.call("PUT", f"{V1}/routes/*", {"host": "203.0.114.5"}))["domain"] == "*"
    assert _ok(acme.call("DELETE", f"{V1}/routes/far.test"))["id"] == route["id"]
    assert acme.call("DELETE", f"{V1}/routes/far.test").status_code == 404
    assert _audited(acme) == ["route.set", "route.set", "route.remove"]


NO_ROUTES: list[tuple[dict[str, Any], str, str]] = [
    ({"host": "10.0.0.5"}, "host_not_public", "host"), ({"host": "[::1]"}, "host_not_public", "host"),
    ({"host": "169.254.169.254"}, "host_not_public", "host"), ({"host": "a b"}, "host_malformed", "host"),
    ({"host": "mx.partner.example", "port": 6379}, "port_not_allowed", "port"),
    ({"host": "mx.partner.example", "username": "a", "password": "b"}, "tls_needed", "tls"),
]  # fmt: skip


def test_a_tenants_route_leads_to_public_mail_servers_only(acme: Program) -> None:
    for body, word, field in NO_ROUTES:
        _refused(acme.call("PUT", f"{V1}/routes/far.test", body), 422, word, field)
    assert not Route.objects.exists()


# ---------------------------------------------------------------- the tenant


def test_who_the_key_belongs_to_and_what_it_used(acme: Program, world: World) -> None:
    from accounts import quotas

    quotas.set_limits(world.cast.acme, {"daily_limit": 10}, actor=Actor("test"))
    acme.post(URL, {**MAIL, "to": ["a@far.test", "b@far.test"]})

    tenant = _ok(acme.get(f"{V1}/tenant"))
    usage = _ok(acme.get(f"{V1}/usage"))

    assert (tenant["slug"], tenant["limits"]["daily_limit"]) == ("acme", 10)
    assert {stream["name"] for stream in tenant["streams"]} == {"transactional", "bulk"}
    assert (usage["day"]["used"], usage["day"]["remaining"], usage["month"]["limit"]) == (2, 8, None)
    assert usage["day"]["resets_at"].endswith("T00:00:00Z")
    members = _ok(acme.get(f"{V1}/members"))["data"]
    assert {member["email"]: member["role"] for member in members}["alice@acme.example"] == "owner"


def test_figures_by_time_are_those_of_the_statistics_page(acme: Program, globex: Program, world: World) -> None:
    acme.post(URL, {**MAIL, "to": ["a@far.test", "b@far.test", "c@farther.test"], "tags": ["invoice"]})
    sent = acme.post(URL, {**MAIL, "stream": "bulk"}).json()["id"]
    acme.post(f"{URL}/{sent}/cancel")
    globex.post(URL, {**MAIL, "from": "info@globex.example"})
    write_message(world.cast.acme, *EXAMPLES, author="news@other.example")
    counting.count_waiting()

    by_stream = _ok(acme.get(f"{V1}/statistics?group_by=stream"))["data"]
    by_domain = _ok(acme.get(f"{V1}/statistics?group_by=domain&bucket=hour"))
    (tagged, *_others) = _ok(acme.get(f"{V1}/statistics?group_by=tag"))["data"]
    everything = _ok(acme.get(f"{V1}/statistics"))

    since, until = (datetime.fromisoformat(everything[edge]) for edge in ("since", "until"))
    whole = asdict(figures.totals(world.cast.acme, since, until))
    assert {name: sum(row[name] for row in everything["data"]) for name in whole} == whole
    assert {row["group"] for row in everything["data"]} == {None}
    assert max(row["p95_seconds"] or 0 for row in everything["data"]) > 0
    assert [(one["class"], one["failed"], one["returned"]) for one in everything["classes"]] == [
        (one.reply_class, one.failed, one.returned) for one in figures.classes(world.cast.acme, since, until)
    ]
    accepted: dict[str, int] = {}
    for row in by_domain["data"]:
        accepted[row["group"]] = accepted.get(row["group"], 0) + row["accepted"]
    assert accepted == {"acme.example": 4, "other.example": len(EXAMPLES)}
    assert {one["name"]: one["cancelled"] for one in by_stream}["bulk"] == 1
    assert (tagged["group"], tagged["accepted"]) == ("invoice", 3)
    for refused in ("since=2020-01-01T00:00:00Z", "group_by=state"):
        _refused(acme.get(f"{V1}/statistics?{refused}"), 400, "invalid_request", refused.partition("=")[0])


def test_a_route_set_many_times_at_once_is_one_route(acme: Program) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: acme.call("PUT", f"{V1}/routes/far.test", {"host": "8.8.8.8"}), range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert Route.objects.count() == 1


def test_what_was_refused_is_listed(acme: Program) -> None:
    acme.post(URL, {**MAIL, "from": "shop@globex.example"})

    (refused,) = _ok(acme.get(f"{V1}/rejections"))["data"]

    assert (refused["reason"], refused["author_domain"], refused["count"]) == (
        "author_not_verified",
        "globex.example",
        1,
    )
