"""What people read of the audit log: sentences, filters, pages, and a CSV file that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from django.test import Client
from django.utils import translation
from django.utils.translation import override

from accounts import audit
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import TenantState
from delivery.changes import VERBS
from delivery.models import LOG_KINDS, DomainState, SourceState, WarmUpState, WebhookState
from relayweb.console import deeds
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

ROOT = Path(__file__).resolve().parents[3]
ACTION = re.compile(r'"([a-z_]+\.[a-z_]+)"')


def _write(
    cast: Cast, count: int = 1, *, actor: str = "alice@acme.example", action: str = "member.role", **more: str
) -> None:
    for number in range(count):
        audit.record(
            Actor(actor, peer_address="192.0.2.9"),
            action,
            tenant=cast.acme,
            object_id=uuid7(),
            object_name=more.get("name", f"person {number}"),
            before={"role": "analyst"},
            after={"role": "admin"},
            reason=more.get("reason", ""),
        )


def test_an_entry_says_who_did_what_and_from_where(cast: Cast, alice: Client) -> None:
    _write(cast, name="<bob>")

    page = alice.get("/t/acme/audit/").content.decode()

    assert "alice@acme.example" in page
    assert "Changed the role of &lt;bob&gt;" in page
    assert "192.0.2.9" in page
    assert re.search(r"<del[^>]*>Analyst</del> → Admin", page)


def test_filters_combine_and_hostile_ones_find_nothing(cast: Cast, alice: Client) -> None:
    _write(cast, actor="bob@acme.example")
    _write(cast, action="credential.issue", name="shop")

    def found(query: str) -> int:
        answer = alice.get(f"/t/acme/audit/?{query}")
        assert answer.status_code == 200
        return answer.content.decode().count('class="rw-when"')

    assert found("") == 2
    assert found("person=BOB") == 1
    assert found("noun=credential") == 1
    assert found("noun=credential&person=bob") == 0
    assert found("thing=sho") == 1
    assert found("person=%25") == 0
    assert found("person=%00&noun='--&period=x&before=x") == 2


def test_pages_go_on_by_key_and_hold_the_filter(cast: Cast, alice: Client) -> None:
    _write(cast, 60)
    first = alice.get("/t/acme/audit/?person=alice").content.decode()
    older = re.search(r'href="\?([^"]*before=[^"]*)"', first)
    assert older is not None

    second = alice.get(f"/t/acme/audit/?{older.group(1).replace('&amp;', '&')}").content.decode()

    assert first.count('class="rw-when"') == 50
    assert second.count('class="rw-when"') == 10
    assert "person=alice" in older.group(1)
    assert "after=" in second


def test_a_page_asks_few_questions(cast: Cast, alice: Client, django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    _write(cast, 60)

    with django_assert_max_num_queries(5):
        alice.get("/t/acme/audit/")


def test_the_export_holds_everything_that_fits_and_no_formula(cast: Cast, alice: Client) -> None:
    _write(cast, 3, name="=HYPERLINK(1)", reason="@SUM")
    _write(cast, actor="bob@acme.example")

    answer = alice.get("/t/acme/audit/export/?person=alice")

    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))
    assert len(rows) == 3
    assert (rows[0]["object"], rows[0]["reason"], rows[0]["address"]) == ("'=HYPERLINK(1)", "'@SUM", "192.0.2.9")
    assert rows[0]["before"] == "role=analyst"


def test_operators_read_what_they_did_everywhere_and_no_word_of_mail(cast: Cast, signed_in: SignedIn) -> None:
    olivia = Actor.person(cast.olivia, peer_address="192.0.2.1")
    audit.record(olivia, "pool.add", object_name="fast", after={"kind": "quarantine"})
    audit.record(
        olivia,
        "tenant.suspend",
        tenant=cast.acme,
        object_id=cast.acme.id,
        object_name="acme",
        after={"state": "suspended"},
    )
    audit.record(
        olivia, "message.cancel", tenant=cast.globex, object_id=uuid7(), object_name="secret subject",
        after={"to": "secret"},
    )  # fmt: skip
    audit.record(
        Actor.system("brakes"), "brake.pull", tenant=cast.globex, object_id=uuid7(), object_name="globex",
        after={"step": "hold"},
    )  # fmt: skip
    _write(cast, 3)  # alice's own
    client = signed_in(cast.olivia)

    page = client.get("/operator/audit/").content.decode()
    assert page.count('class="rw-when"') == 4
    assert "secret" not in page and "Quarantine" in page and "suspended" in page and "Held" in page
    for query, number in (("tenant=globex", 2), ("tenant=nobody", 0), ("noun=pool", 1), ("person=relayweb", 1)):
        assert client.get(f"/operator/audit/?{query}").content.decode().count('class="rw-when"') == number, query
    text = b"".join(client.get("/operator/audit/export/?tenant=globex")).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["action"], row["tenant"]) for row in rows] == [("brake.pull", "globex"), ("message.cancel", "globex")]
    assert "secret" not in text
    assert "secret" not in client.get("/operator/tenants/globex/").content.decode()


def test_machine_words_and_names_of_values_are_read_in_ones_language() -> None:
    changed = deeds.changes(
        {"state": "active", "groups": ["docomo"]}, {"state": "suspended", "groups": "all", "brake_level": "strict"}
    )
    with translation.override("ja"):
        words = [(str(name), before, after) for name, before, after in changed]
        written = deeds.changes({"state": "active"}, {"state": "suspended"})
    assert [(before, after) for _name, before, after in words] == [
        ("active", "suspended"),
        ("docomo", "all"),
        ("", "strict"),
    ]
    assert not any(text.isascii() for _name, *both in written for text in both)


def test_every_action_of_the_code_has_words() -> None:
    """What is written by ``audit.record`` under a name made at run time stands in the second list."""
    written = set()
    for folder in ("accounts", "delivery", "relayweb"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "audit" in text and path.name != "deeds.py":
                written |= {name for name in ACTION.findall(text) if name.split(".")[0] in KNOWN_NOUNS}
    made = {f"log.{kind}" for kind in LOG_KINDS} | {f"log.{verb}_done" for verb in VERBS}
    made |= {f"reply_rule.{word}" for word in ("enable", "disable")}
    made |= {f"message.{verb}" for verb in ("hold", "release", "cancel", "retry")}
    made |= {f"source.{verb}" for verb in ("pause", "resume", "remove")}
    made |= {f"tenant.{verb}" for verb in ("suspend", "resume", "close")}

    assert (written | made) - set(deeds.DEEDS) == set()


KNOWN_NOUNS = {name.split(".")[0] for name in deeds.DEEDS}


def test_every_state_that_the_log_names_has_a_word() -> None:
    kinds = (TenantState, DomainState, WebhookState, SourceState, WarmUpState)

    assert {state.value for kind in kinds for state in kind} == set(deeds.STATES)
    with override("ja"):
        assert deeds.changes({"state": "active"}, {"state": "suspended"})[0][1:] == ("有効", "停止中")
