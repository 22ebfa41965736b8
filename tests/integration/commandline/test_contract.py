"""The shapes and exit codes that people and programs outside rely on (the contract of the command line)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import AuditEntry, Credential, Tenant, User
from delivery import domains
from delivery.models import QueueEntry, Recipient
from relayweb.commandline import doctor
from relayweb.processes import environment
from tests.support.journeys import Fate, Try, write_message

Relay = Callable[..., Any]


# ---------------------------------------------------------------- people and tenants


def test_operator_create_gives_a_one_time_link(db: None, relay: Relay) -> None:
    said = relay("operator", "create", "--email", "olivia@relay.example", "--json")

    assert said.code == 0
    assert said.document["email"] == "olivia@relay.example"
    assert "/welcome/" in said.document["link"]
    assert User.objects.get(email="olivia@relay.example").is_operator


def test_operator_create_takes_a_password_from_stdin(db: None, relay: Relay) -> None:
    said = relay(
        "operator", "create", "--email", "olivia@relay.example", "--password-stdin", "--json",
        stdin="correct horse battery\n",
    )  # fmt: skip

    assert said.document["link"] is None
    assert User.objects.get(email="olivia@relay.example").check_password("correct horse battery")
    assert "correct horse" not in said.out + said.err


def test_a_weak_password_is_refused_with_a_sentence(db: None, relay: Relay) -> None:
    said = relay("operator", "create", "--email", "o@relay.example", "--password-stdin", stdin="short\n")

    assert said.code == 1
    assert "too short" in said.err
    assert said.out == ""


def test_tenant_create_gives_id_and_slug(db: None, relay: Relay) -> None:
    said = relay("tenant", "create", "--name", "株式会社Acme", "--owner-email", "alice@acme.example", "--json")

    document = said.document
    tenant = Tenant.objects.get(slug="acme")
    assert (document["id"], document["slug"], document["name"]) == (str(tenant.id), "acme", "株式会社Acme")
    assert document["owner_email"] == "alice@acme.example"
    assert AuditEntry.objects.get(action="tenant.create").actor_name.startswith("command line (")


def test_a_tenant_is_named_by_slug_or_id_as_argument_or_option(acme: Tenant, relay: Relay) -> None:
    for words in (["acme"], [str(acme.id)], ["--tenant", "acme"]):
        assert relay("tenant", "show", *words, "--json").document["id"] == str(acme.id)
    assert relay("tenant", "show").code == 2
    assert relay("tenant", "show", "acme", "--tenant", "acme").code == 2


def test_a_tenant_is_suspended_resumed_and_closed(acme: Tenant, relay: Relay) -> None:
    assert relay("tenant", "suspend", "acme", "--reason", "complaints", "--json").document["state"] == "suspended"
    assert relay("tenant", "suspend", "acme").code == 1
    assert relay("tenant", "resume", "acme", "--json").document["state"] == "active"
    assert relay("tenant", "close", "acme", "--json").document["state"] == "closed"


def test_limits_are_shown_and_set(acme: Tenant, relay: Relay) -> None:
    said = relay("limits", "set", "--tenant", "acme", "--daily", "100", "--rate", "0.5", "--json")
    assert (said.document["daily_limit"], said.document["rate_per_second"]) == (100, 0.5)
    assert said.document["used"] == {"hour": 0, "day": 0, "month": 0}

    relay("limits", "set", "--tenant", "acme", "--daily", "none")

    assert relay("limits", "show", "--tenant", "acme", "--json").document["daily_limit"] is None
    assert relay("limits", "set", "--tenant", "acme").code == 2
    assert relay("limits", "set", "--tenant", "acme", "--daily", "many").code == 2
    assert relay("limits", "set", "--tenant", "acme", "--daily", "-1").code in (1, 2)


# ---------------------------------------------------------------- domains and credentials


def test_domain_show_lists_the_records_to_set(acme: Tenant, relay: Relay) -> None:
    added = relay("domain", "add", "--tenant", "acme", "--name", "Acme.Example", "--json").document
    assert (added["name"], added["state"]) == ("acme.example", "pending")

    document = relay("domain", "show", "acme.example", "--json").document

    assert [set(record) for record in document["records"]] == [{"purpose", "type", "name", "value", "found", "ok"}] * 8
    ownership = document["records"][0]
    assert (ownership["purpose"], ownership["type"], ownership["name"]) == ("ownership", "TXT", "_relay.acme.example")
    assert ownership["value"].startswith("relay-verify=")
    keys = [
        record["value"] for record in document["records"] if record["purpose"] == "dkim" and record["type"] == "TXT"
    ]
    assert len(keys) == 2
    assert all("p=" in key for key in keys)


def test_a_vouched_domain_is_verified(acme: Tenant, relay: Relay) -> None:
    said = relay("domain", "add", "--tenant", "acme", "--name", "acme.example", "--assume-verified", "--json")

    assert said.document["state"] == "verified"
    assert relay("domain", "list", "--tenant", "acme", "--json").document[0]["name"] == "acme.example"


def test_signing_is_switched_off_and_on(acme: Tenant, relay: Relay) -> None:
    relay("domain", "add", "--tenant", "acme", "--name", "acme.example", "--assume-verified")

    assert relay("domain", "update", "acme.example", "--signing", "off", "--json").document["signing"] is False
    assert relay("domain", "update", "--name", "acme.example", "--signing", "on", "--json").document["signing"] is True
    changed = relay(
        "domain", "update", "acme.example", "--unsubscribe", "off", "--keep-reverse-path", "on", "--json"
    ).document
    assert (changed["adds_unsubscribe"], changed["keeps_reverse_path"]) == (False, True)
    assert relay("domain", "update", "acme.example").code == 2


def test_a_removed_domain_can_be_restored(acme: Tenant, relay: Relay) -> None:
    relay("domain", "add", "--tenant", "acme", "--name", "acme.example", "--assume-verified")

    assert relay("domain", "remove", "acme.example", "--json").document["state"] == "removed"
    assert relay("domain", "show", "acme.example").code == 1
    assert relay("domain", "restore", "acme.example", "--json").document["state"] == "verified"


def test_refusals_come_with_a_sentence_and_a_word(acme: Tenant, relay: Relay) -> None:
    said = relay("domain", "add", "--tenant", "acme", "--name", "gmail.com", "--json")

    assert said.code == 1
    assert said.document["error"] == "domain_of_mail_provider"
    assert said.document["sentence"] in said.err


@pytest.mark.parametrize("kind", ["smtp", "api"])
def test_a_credential_is_printed_with_its_secret_once(acme: Tenant, relay: Relay, kind: str) -> None:
    document = relay("credential", "issue", "--tenant", "acme", "--kind", kind, "--name", "shop", "--json").document

    assert {"id", "kind", "username", "secret"} <= set(document)
    assert document["kind"] == kind
    assert document["username"].startswith("acme.")
    listed = relay("credential", "list", "--tenant", "acme", "--json")
    assert document["secret"] not in listed.out
    assert listed.document[0]["id"] == document["id"]
    if kind == "api":  # one word, to be put behind "Bearer"
        assert document["secret"].startswith(document["username"] + ".")


def test_an_api_key_has_the_scopes_it_is_given(acme: Tenant, relay: Relay) -> None:
    narrow = ("credential", "issue", "--tenant", "acme", "--scope", "send", "--scope", "read", "--json")

    assert relay(*narrow, "--kind", "api").document["scopes"] == ["send", "read"]
    assert relay("credential", "issue", "--tenant", "acme", "--kind", "api", "--json").document["scopes"] == [
        "send", "read", "manage",
    ]  # fmt: skip
    assert relay(*narrow, "--kind", "smtp").code == 2


def test_an_operators_key_belongs_to_the_service(db: None, relay: Relay) -> None:
    said = relay("operator", "key", "--name", "provisioning", "--only-from", "192.0.2.0/24", "--json")

    assert said.document["scopes"] == ["operate"]
    credential = Credential.objects.get(id=said.document["id"])
    assert (credential.tenant.is_system, str(credential.only_networks[0])) == (True, "192.0.2.0/24")
    assert said.document["secret"].startswith(f"{credential.username}.")


def test_a_network_credential_has_no_secret(acme: Tenant, relay: Relay) -> None:
    said = relay(
        "credential", "issue", "--tenant", "acme", "--kind", "network", "--cidr", "127.0.0.1/32", "--use", "mail-server",
        "--json",
    )  # fmt: skip

    assert (said.document["username"], said.document["secret"]) == (None, None)
    credential = Credential.objects.get(pk=said.document["id"])
    assert (str(credential.network), credential.use) == ("127.0.0.1/32", "mail-server")
    assert credential.approved_at is not None


def test_a_network_that_is_taken_or_too_large_is_refused(acme: Tenant, globex: Tenant, relay: Relay) -> None:
    relay("credential", "issue", "--tenant", "acme", "--kind", "network", "--cidr", "192.0.2.0/28")

    issue = ("credential", "issue", "--tenant", "globex", "--kind", "network")
    assert relay(*issue, "--cidr", "192.0.2.0/30").code == 1
    assert relay(*issue, "--cidr", "10.0.0.0/8").code == 1
    assert relay(*issue).code == 2


def test_a_credential_belongs_to_a_stream_of_its_tenant(acme: Tenant, relay: Relay) -> None:
    issue = ("credential", "issue", "--tenant", "acme", "--kind", "smtp")

    assert relay(*issue, "--stream", "bulk").code == 0
    assert relay(*issue, "--stream", "nosuch").code == 1


def test_a_credential_is_rotated_and_revoked(acme: Tenant, relay: Relay) -> None:
    issued = relay("credential", "issue", "--tenant", "acme", "--kind", "smtp", "--json").document

    rotated = relay("credential", "rotate", issued["id"], "--json").document
    assert rotated["secret"] not in (None, issued["secret"])
    assert rotated["former_secret_until"] is not None
    assert relay("credential", "revoke", "--id", issued["username"], "--json").document["revoked_at"] is not None
    assert relay("credential", "revoke", issued["id"]).code == 1


# ---------------------------------------------------------------- sources and routes


def test_sources_are_added_listed_paused_and_removed(db: None, relay: Relay) -> None:
    added = relay("source", "add", "--address", "127.0.0.2", "--ehlo", "mx.relay.example", "--json").document
    assert (added["address"], added["ehlo"], added["pool"]) == ("127.0.0.2", "mx.relay.example", "default")
    assert relay("source", "pause", "127.0.0.2", "--json").document["state"] == "paused"
    assert relay("source", "resume", added["id"], "--json").document["state"] == "active"
    assert relay("source", "list", "--json").document == [
        {**added, "state_since": relay("source", "list", "--json").document[0]["state_since"]}
    ]
    assert relay("source", "remove", "--address", "127.0.0.2", "--json").document["state"] == "retired"
    assert relay("source", "add", "--address", "nonsense").code == 1


def test_a_source_moves_and_its_queue_goes_elsewhere_and_a_node_is_drained(db: None, relay: Relay) -> None:
    relay("source", "add", "--address", "127.0.0.2", "--ehlo", "mx.relay.example", "--node", "b")
    relay("pool", "add", "spare")
    moved = relay("source", "change", "127.0.0.2", "--pool", "spare", "--json").document
    assert (moved["pool"], moved["ehlo"]) == ("spare", "mx.relay.example")
    assert relay("source", "change", "127.0.0.2", "--ehlo", "no name").code == 1
    suspended = relay("shaping", "suspend", "--provider", "docomo", "--source", "127.0.0.2", "--json")
    assert suspended.code == 0 and suspended.document["suspended_until"]
    assert relay("shaping", "suspend", "--provider", "nobody", "--source", "127.0.0.2").code == 1
    assert relay("source", "remove", "127.0.0.2", "--queue-to", "default", "--json").document["state"] == "retired"
    pools = {pool["name"]: pool["standby"] for pool in relay("pool", "list", "--json").document}
    assert pools == {"default": None, "spare": "default"}

    assert relay("node", "drain", "b", "--json").document["drained"] is True
    assert relay("node", "drain", "b").code == 1
    assert relay("node", "resume", "b", "--json").document["drained"] is False
    assert relay("node", "drain", "nowhere").code == 1
    assert "b" in [node["name"] for node in relay("node", "list", "--json").document]


def test_pools_are_made_assigned_and_removed(acme: Tenant, relay: Relay) -> None:
    assert relay("pool", "add", "fast", "--json").document["name"] == "fast"
    assert relay("pool", "assign", "--tenant", "acme", "--stream", "bulk", "--pool", "fast").code == 0
    assert relay("pool", "remove", "fast").code == 1
    assert relay("pool", "assign", "--tenant", "acme", "--stream", "bulk", "--pool", "default").code == 0
    assert relay("pool", "remove", "fast").code == 0


def test_a_credential_is_given_a_pool_that_may_serve_it(acme: Tenant, globex: Tenant, relay: Relay) -> None:
    relay("pool", "add", "fast")
    relay("pool", "add", "globex-own", "--kind", "dedicated", "--tenant", "globex")
    login = relay("credential", "issue", "--tenant", "acme", "--kind", "smtp", "--json").document["username"]
    words = ("pool", "assign", "--tenant", "acme", "--credential", login)

    assert relay(*words, "--pool", "fast", "--json").document["pool"] == "fast"
    assert relay("credential", "list", "--tenant", "acme", "--json").document[0]["pool"] == "fast"
    assert "belongs to another tenant" in relay(*words, "--pool", "globex-own").err
    assert relay("pool", "remove", "fast").code == 1
    assert relay(*words, "--pool", "none", "--json").document["pool"] is None
    assert relay("pool", "remove", "fast").code == 0
    issue = ("credential", "issue", "--tenant", "acme", "--kind", "smtp", "--pool", "globex-own")
    assert "belongs to another tenant" in relay(*issue).err
    assert relay("pool", "assign", "--tenant", "acme", "--pool", "default").code == 2


def test_routes_are_set_listed_and_removed(acme: Tenant, relay: Relay) -> None:
    said = relay(
        "route", "set", "--domain", "X.example", "--host", "127.0.0.1", "--port", "2526", "--tls", "none",
        "--connections", "20", "--json",
    )  # fmt: skip
    assert said.code == 0
    assert (said.document["domain"], said.document["port"], said.document["tls"]) == ("x.example", 2526, "none")
    relay("route", "set", "--domain", "*", "--host", "smart.example", "--port", "587", "--tenant", "acme")

    assert [route["tenant"] for route in relay("route", "list", "--json").document] == ["acme", None]
    assert relay("route", "remove", "--domain", "x.example").code == 0
    assert relay("route", "remove", "--domain", "x.example").code == 1
    assert AuditEntry.objects.filter(action__startswith="route.").count() == 3


@pytest.mark.parametrize(
    "words", [["--host", "h", "--port", "0"], ["--host", "a b", "--port", "25"], ["--host", "h", "--port", "x"]]
)
def test_what_makes_no_route_is_refused(db: None, relay: Relay, words: list[str]) -> None:
    said = relay("route", "set", "--domain", "x.example", *words)

    assert said.code in (1, 2)
    assert "Traceback" not in said.err


# ---------------------------------------------------------------- mail

WHEN = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)

BOUNCED = Fate(
    address="jiro@x.example",
    state="bounced",
    tries=(Try(reply="550 5.1.1 no such user", phase="rcpt", reply_class="bad_mailbox", action="fail"),),
)
DEFERRED = Fate(
    address="hana@x.example",
    state="deferred",
    next_attempt_in=timedelta(minutes=9),
    tries=(Try(reply="451 4.3.0 later", reply_class="transient", action="retry", is_ambiguous=True),),
)
RETURNED = Fate(address="ken@x.example", returned_after=timedelta(minutes=4), returned_class="mailbox_full")
QUEUED = Fate(address="new@x.example", state="queued", tries=())


def test_message_list_has_the_shape_of_the_contract(acme: Tenant, relay: Relay) -> None:
    message = write_message(acme, BOUNCED, accepted_at=WHEN)

    (row,) = relay("message", "list", "--tenant", "acme", "--json").document

    recipient = Recipient.objects.get()
    assert row == {
        "message_id": str(message.id),
        "recipient_id": str(recipient.id),
        "recipient": "jiro@x.example",
        "state": "bounced",
        "class": "bad_mailbox",
        "reply": recipient.reply,
        "attempts": 1,
        "next_attempt_at": None,
        "returned_class": None,
    }


def test_message_list_is_newest_first_and_filtered(acme: Tenant, globex: Tenant, relay: Relay) -> None:
    for minute, fate in enumerate((BOUNCED, DEFERRED, RETURNED, QUEUED)):
        write_message(acme, fate, accepted_at=WHEN + timedelta(minutes=minute))
    write_message(globex, BOUNCED, accepted_at=WHEN)

    def listed(*words: str) -> list[str]:
        document = relay("message", "list", "--tenant", "acme", *words, "--json").document
        return [row["recipient"].partition("@")[0] for row in document]

    assert listed() == ["new", "ken", "hana", "jiro"]
    assert listed("--limit", "2") == ["new", "ken"]
    assert listed("--limit", "0") == []
    assert listed("--state", "deferred") == ["hana"]
    assert listed("--state", "deferred", "--state", "bounced") == ["hana", "jiro"]
    assert listed("--since", "2026-11-24T05:02:00Z") == ["new", "ken"]
    assert listed("--since", "2026-11-24T14:02:00+09:00") == ["new", "ken"]
    assert relay("message", "list", "--tenant", "acme", "--state", "nosuch").code == 2
    assert relay("message", "list", "--tenant", "acme", "--since", "yesterday").code == 2


def test_what_was_returned_later_stands_beside_the_state(acme: Tenant, relay: Relay) -> None:
    write_message(acme, RETURNED)

    (row,) = relay("message", "list", "--tenant", "acme", "--json").document

    assert (row["state"], row["returned_class"]) == ("delivered", "mailbox_full")


def test_message_list_reads_more_than_one_page(acme: Tenant, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    from delivery import exports

    monkeypatch.setattr(exports, "_PAGE", 3)
    for number in range(10):
        write_message(acme, QUEUED, accepted_at=WHEN + timedelta(seconds=number))

    assert len(relay("message", "list", "--tenant", "acme", "--json").document) == 10
    assert len(relay("message", "list", "--tenant", "acme", "--limit", "7", "--json").document) == 7


def test_an_empty_list_is_a_list(acme: Tenant, relay: Relay) -> None:
    assert relay("message", "list", "--tenant", "acme", "--json").document == []
    assert relay("message", "list", "--tenant", "acme").code == 0


def test_message_show_has_each_recipient_with_its_attempts(acme: Tenant, relay: Relay) -> None:
    message = write_message(acme, DEFERRED, QUEUED, accepted_at=WHEN)

    document = relay("message", "show", str(message.id), "--json").document

    recipients = {recipient["recipient"]: recipient for recipient in document["recipients"]}
    (attempt,) = recipients["hana@x.example"]["attempts"]
    assert {"id", "fence", "phase", "reply", "source", "host", "tls", "started_at", "ended_at", "ambiguous"} <= set(
        attempt
    )
    assert attempt["reply"] == "451 4.3.0 later"
    assert attempt["ambiguous"] is True
    assert attempt["tls"].startswith("TLSv1.3")
    assert recipients["new@x.example"]["attempts"] == []
    by_recipient = relay("message", "show", recipients["new@x.example"]["recipient_id"], "--json").document
    assert by_recipient["message_id"] == str(message.id)


def test_an_unknown_message_is_not_found(acme: Tenant, globex: Tenant, relay: Relay) -> None:
    message = write_message(acme, QUEUED)

    assert relay("message", "show", str(uuid7())).code == 1
    assert relay("message", "show", "nonsense").code == 2
    assert relay("message", "show", str(message.id), "--tenant", "globex").code == 1
    assert relay("message", "cancel", str(message.id), "--tenant", "globex").code == 1
    assert Recipient.objects.get().state == "queued"


def test_open_mail_is_held_released_and_cancelled(acme: Tenant, relay: Relay) -> None:
    message = write_message(acme, QUEUED, BOUNCED)
    waiting = Recipient.objects.get(address="new@x.example")

    assert relay("message", "hold", str(message.id), "--json").document == [
        {"id": str(message.id), "changed": 1, "in_hand": 0}
    ]
    waiting.refresh_from_db()
    assert (waiting.state, waiting.reason) == ("held", "operator")
    assert relay("message", "release", str(waiting.id), "--json").document[0]["changed"] == 1
    assert relay("message", "cancel", str(message.id), "--json").document[0]["changed"] == 1
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
    assert not QueueEntry.objects.exists()
    assert Recipient.objects.get(address="jiro@x.example").state == "bounced"


def test_deferred_mail_is_tried_now(acme: Tenant, relay: Relay) -> None:
    message = write_message(acme, DEFERRED)

    assert relay("message", "retry", str(message.id), "--json").document[0]["changed"] == 1

    assert QueueEntry.objects.get().next_attempt_at <= datetime.now(tz=UTC)


def test_nothing_is_changed_when_one_of_several_ids_is_unknown(acme: Tenant, relay: Relay) -> None:
    message = write_message(acme, QUEUED)

    assert relay("message", "cancel", str(message.id), str(uuid7())).code == 1

    assert Recipient.objects.get().state == "queued"


def test_queue_stats_count_every_open_recipient(acme: Tenant, relay: Relay) -> None:
    write_message(acme, BOUNCED, DEFERRED, QUEUED)
    write_message(acme, Fate(address="kept@x.example", state="held", reason="policy", tries=()))

    document = relay("queue", "stats", "--json").document

    assert {name: document[name] for name in ("open", "due", "claimed", "deferred", "held")} == {
        "open": 3, "due": 1, "claimed": 0, "deferred": 1, "held": 1,
    }  # fmt: skip
    assert document["oldest_age_s"] > 0
    assert sum(row["open"] for row in document["by_provider"]) == 3


# ---------------------------------------------------------------- without the database


def test_a_reply_is_classified(relay: Relay) -> None:
    document = relay(
        "reply", "classify", "--provider", "google", "--phase", "rcpt", "550 5.1.1 no such user", "--json"
    ).document

    assert set(document) == {"class", "action", "scope", "rule"}
    assert document["class"] == "bad_mailbox"


def test_a_reply_without_its_code_is_read_by_its_enhanced_status(relay: Relay) -> None:
    assert relay("reply", "classify", "4.2.2 mailbox full", "--json").document["class"] == "mailbox_full"
    assert relay("reply", "classify", "what").code == 2


def test_the_sandboxes_mailboxes_are_listed(relay: Relay) -> None:
    document = relay("sandbox", "mailboxes", "--json").document

    assert len(document) >= 10
    assert all({"address", "behaviour", "expect"} <= set(row) for row in document)


# ---------------------------------------------------------------- the installation


def test_the_database_check_tells_of_unsafe_settings(db: None, relay: Relay) -> None:
    said = relay("database", "check", "--json")

    # The tests' own server trades durability for speed, and that is just what must be noticed.
    assert said.code == 1
    assert (said.document["ok"], said.document["durable"]) == (False, False)
    assert said.document["pending_migrations"] == []


def test_migrating_twice_changes_nothing(db: None, relay: Relay) -> None:
    assert relay("database", "migrate").code == 0
    assert relay("database", "migrate", "--json").document["applied"] == []


def test_workers_are_listed(db: None, relay: Relay) -> None:
    assert relay("ps", "--json").document == []


def test_keys_are_sealed_anew(acme: Tenant, operator: Actor, relay: Relay) -> None:
    assert relay("key", "rotate", "--json").document == {
        "current_key": "test", "dkim_keys": 0, "route_passwords": 0, "webhook_secrets": 0, "one_time_passwords": 0,
        "content_keys": 0,
    }  # fmt: skip


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "words",
    [["nosuch"], ["tenant", "nosuch"], ["tenant", "create"], ["tenant", "list", "--nosuch"], ["credential", "issue"]],
)
def test_wrong_usage_is_exit_2_and_says_how(db: None, relay: Relay, words: list[str]) -> None:
    said = relay(*words)

    assert said.code == 2
    assert "--help" in said.err
    assert said.out == ""


@pytest.mark.parametrize("words", [["--help"], ["tenant", "--help"], ["message", "list", "--help"]])
def test_help_is_exit_0(relay: Relay, words: list[str]) -> None:
    said = relay(*words)

    assert said.code == 0
    assert said.out.startswith("Usage: relay")


def test_the_json_flag_may_stand_anywhere_but_behind_two_dashes(db: None, relay: Relay) -> None:
    for words in (["--json", "tenant", "list"], ["tenant", "--json", "list"], ["tenant", "list", "--json"]):
        assert isinstance(relay(*words).document, list)
    assert relay("reply", "classify", "--", "--json").code == 2


def test_what_others_wrote_cannot_steer_the_terminal(acme: Tenant, relay: Relay) -> None:
    write_message(acme, Fate(address="taro@x.example", tries=(Try(reply="250 ok \x1b[2J\x07"),)))

    assert "\x1b" not in relay("message", "list", "--tenant", "acme").out


def test_the_doctor_says_which_records_the_second_signature_waits_for(db: None, settings: Any) -> None:
    settings.FEEDBACK_DOMAIN = "feedback.relay-of-ours.com"

    missing = doctor._feedback_domain()
    domains.ensure_own_domains(actor=Actor.command_line())
    waiting = doctor._feedback_domain()
    domains.assume_verified(domains.find_domain(settings.FEEDBACK_DOMAIN), actor=Actor.command_line())
    _name, is_well, seen = doctor._feedback_domain()

    assert "relay database migrate" in missing[2]
    assert not waiting[1]
    assert "CNAME rw1._domainkey.feedback.relay-of-ours.com = rw1." in waiting[2]
    assert (is_well, seen) == (True, "mail is signed with rw1._domainkey.feedback.relay-of-ours.com")


def test_the_doctor_sees_a_certificate_that_ends_soon_or_is_for_another_name(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _key = environment.ensure_certificate(tmp_path, hostname="mx1.example.net")
    settings.TLS_CERT, settings.SUBMISSIONS_BIND, settings.HOSTNAME = str(certificate), [], "mx1.example.net"

    well = doctor._certificate()
    settings.HOSTNAME = "mx2.example.net"
    other_name = doctor._certificate()
    settings.HOSTNAME = "mx1.example.net"
    monkeypatch.setattr(doctor, "_RENEW_WITHIN", timedelta(days=400))
    ends_soon = doctor._certificate()

    assert well[1]
    assert "not for mx2.example.net" in other_name[2]
    assert "renew it" in ends_soon[2]
