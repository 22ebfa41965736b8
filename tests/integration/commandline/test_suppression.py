from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accounts.models import Tenant

Relay = Callable[..., Any]


def test_add_list_remove_and_restore(acme: Tenant, relay: Relay) -> None:
    added = relay("suppression", "add", "Bob@example.com", "--tenant", "acme", "--note", "asked by letter", "--json")
    assert added.code == 0
    assert (added.document["address"], added.document["scope"], added.document["changed"]) == (
        "bob@example.com", "tenant", True,
    )  # fmt: skip

    (listed,) = relay("suppression", "list", "--tenant", "acme", "--json").document
    assert (listed["reason"], listed["detail"], listed["hits"]) == ("manual", "asked by letter", 0)

    assert relay("suppression", "remove", "--address", "bob@example.com", "--tenant", "acme").code == 0
    assert relay("suppression", "list", "--tenant", "acme", "--json").document == []
    assert relay("suppression", "restore", "bob@example.com", "--tenant", "acme").code == 0
    assert len(relay("suppression", "list", "--tenant", "acme", "--json").document) == 1


def test_the_operators_list_is_apart(acme: Tenant, relay: Relay) -> None:
    relay("suppression", "add", "trap.example")

    assert [row["address"] for row in relay("suppression", "list", "--json").document] == ["trap.example"]
    assert relay("suppression", "list", "--tenant", "acme", "--json").document == []


def test_a_stream_has_its_own(acme: Tenant, relay: Relay) -> None:
    relay("suppression", "add", "bob@example.com", "--tenant", "acme", "--stream", "bulk")

    (row,) = relay("suppression", "list", "--tenant", "acme", "--scope", "stream", "--json").document
    assert row["stream"] == "bulk"
    assert relay("suppression", "remove", "bob@example.com", "--tenant", "acme").code == 1
    assert relay("suppression", "add", "bob@example.com", "--stream", "bulk").code == 1


def test_import_tells_what_it_did_and_export_gives_it_back(acme: Tenant, relay: Relay, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("email\nbob@example.com\nnonsense here\ndave@example.com\n")

    done = relay("suppression", "import", str(file), "--tenant", "acme", "--json")
    assert done.code == 0
    assert (done.document["read"], done.document["changed"], done.document["refused"]) == (3, 2, 1)
    assert done.document["errors"][0]["line"] == 3

    rows = list(csv.DictReader(io.StringIO(relay("suppression", "export", "--tenant", "acme").out)))
    assert {row["address"] for row in rows} == {"bob@example.com", "dave@example.com"}
    assert len(relay("suppression", "export", "--tenant", "acme", "--json").document) == 2


def test_what_is_no_address_is_refused_with_a_sentence(acme: Tenant, relay: Relay) -> None:
    said = relay("suppression", "add", "no address", "--tenant", "acme")

    assert said.code == 1
    assert "neither an address" in said.err


def test_policy_says_what_happens_at_rcpt(acme: Tenant, relay: Relay) -> None:
    assert relay("suppression", "policy", "--tenant", "acme", "refuse").code == 0

    acme.refresh_from_db()
    assert acme.refuses_suppressed
