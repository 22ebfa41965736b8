"""The operator's pages of rules about replies."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern

from accounts.models import AuditEntry
from delivery import reply_rules
from delivery.models import ReplyRule, UnmatchedReply
from relayweb import urls
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast

RULES = "/operator/rules/"
FIELDS = {
    "name": "oracle",
    "text": "oracle is displeased",
    "reply_class": "policy",
    "action": "fail",
    "scope": "message",
    "sample": "rcpt 550 the oracle is displeased",
    "note": "seen in November",
}


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


@pytest.fixture
def group(db: None) -> UnmatchedReply:
    said = "550 5.9.9 <address> the (new) oracle, ticket 4711 is *displeased*"
    return UnmatchedReply.objects.create(
        key=b"k" * 16, group_key="docomo", phase="rcpt", text=said, example=said, count=12
    )


def names() -> list[str]:
    return [rule.name for rule in reply_rules.rules()]


def test_a_rule_is_added_listed_and_in_the_audit_log(cast: Cast, olivia: Client) -> None:
    page = olivia.post(f"{RULES}add/", FIELDS, follow=True).content.decode()

    assert "The rule “oracle” counts from now on." in page
    assert "oracle is displeased" in page and "Refused by the receiver" in page
    entry = AuditEntry.objects.get(action="reply_rule.add")
    assert (entry.actor, entry.object_name) == (cast.olivia, "oracle")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text": "("}, "text"), ({"text": "", "codes": ""}, "text"), ({"sample": "nonsense"}, "sample"),
        ({"codes": "250"}, "codes"), ({"enhanced": "5"}, "enhanced"), ({"name": "No!"}, "name"),
        ({"text": "(?:(?:a{1,30}){1,30})b"}, "text"),
    ],
)  # fmt: skip
def test_a_fault_stands_at_its_field(olivia: Client, changes: dict[str, str], field: str) -> None:
    page = olivia.post(f"{RULES}add/", FIELDS | changes).content.decode()

    assert f'id="id_{field}_error"' in page
    assert not ReplyRule.objects.exists()


def test_what_a_rule_changes_is_shown_before_it_counts(olivia: Client) -> None:
    greedy = FIELDS | {"text": "very low reputation", "sample": "eod 421 4.7.0 very low reputation"}

    page = olivia.post(f"{RULES}add/", greedy).content.decode()
    assert "known replies would be decided otherwise" in page and "google-ip-reputation" in page
    assert not ReplyRule.objects.exists()

    agreed = page.split('name="agreed" value="')[1].split('"')[0]
    olivia.post(f"{RULES}add/", greedy | {"agreed": agreed})
    assert names() == ["oracle"]


def test_rules_are_changed_switched_moved_removed_and_restored(olivia: Client) -> None:
    olivia.post(f"{RULES}add/", FIELDS)
    olivia.post(f"{RULES}add/", FIELDS | {"name": "second", "text": "", "codes": "571", "sample": "eod 571 no"})
    assert names() == ["second", "oracle"]

    olivia.post(f"{RULES}second/move/", {"to": "2"})
    assert names() == ["oracle", "second"]
    olivia.post(f"{RULES}oracle/switch/", {"enabled": "0"})
    assert [rule.name for rule in reply_rules.in_force().rules] == ["second"]
    assert "Switch on" in olivia.get(RULES).content.decode()
    olivia.post(f"{RULES}oracle/switch/", {"enabled": "1"})
    olivia.post(f"{RULES}oracle/", FIELDS | {"action": "retry"})
    assert ReplyRule.objects.get(name="oracle").action == "retry"

    assert "Within seconds" in olivia.get(f"{RULES}oracle/remove/").content.decode()
    olivia.post(f"{RULES}oracle/remove/")
    assert names() == ["second"]
    assert "Removed lately" in olivia.get(RULES).content.decode()
    olivia.post(f"{RULES}oracle/restore/")
    assert names() == ["oracle", "second"]


def test_a_pasted_reply_shows_class_action_reach_and_rule(olivia: Client) -> None:
    olivia.post(f"{RULES}add/", FIELDS)

    known = olivia.post(
        f"{RULES}try/",
        {"reply": "550-5.1.1 <bob@gmail.com>\n550 5.1.1 does not exist", "group": "google", "phase": "rcpt"},
    ).content.decode()
    own = olivia.post(f"{RULES}try/", {"reply": "550 The oracle is displeased", "phase": "rcpt"}).content.decode()
    unknown = olivia.post(f"{RULES}try/", {"reply": "550 hm", "phase": "rcpt"}).content.decode()

    assert "bad_mailbox" in known and "fail_and_suppress" in known and "of the product" in known
    assert f'href="{RULES}oracle/"' in own
    assert "unclassified" in unknown and "Make a rule from this" in unknown


@pytest.mark.parametrize("reply", ["", "hello", "250 OK", "   "])
def test_what_is_no_refusal_is_told(olivia: Client, reply: str) -> None:
    assert 'id="id_reply_error"' in olivia.post(f"{RULES}try/", {"reply": reply, "phase": "rcpt"}).content.decode()


def test_a_bare_status_is_taken_for_a_reply(olivia: Client) -> None:
    page = olivia.post(f"{RULES}try/", {"reply": "5.1.1 no such user", "phase": "rcpt"}).content.decode()

    assert "bad_mailbox" in page


def test_a_rule_is_made_from_an_unclassified_reply(olivia: Client, group: UnmatchedReply) -> None:
    page = olivia.get("/operator/unclassified/").content.decode()
    assert "ticket 4711" in page and f"?unmatched={group.pk}" in page
    form = olivia.get(f"{RULES}add/?unmatched={group.pk}").context["form"]

    given: dict[str, Any] = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    given = {name: " ".join(value) if isinstance(value, tuple) else value or "" for name, value in given.items()}
    olivia.post(f"{RULES}add/?unmatched={group.pk}", given | {"reply_class": "policy", "action": "fail"})

    rule = ReplyRule.objects.get()
    assert (rule.groups, rule.phases, rule.codes, rule.enhanced) == (["docomo"], ["rcpt"], ["550"], ["5.9.9"])
    assert rule.text == r"<address> the \(new\) oracle, ticket \d+ is \*displeased\*"
    assert not UnmatchedReply.objects.exists()


def test_a_group_is_ignored_with_a_reason_and_listed_again(olivia: Client, group: UnmatchedReply) -> None:
    where = f"/operator/unclassified/{group.pk}/"

    assert 'id="id_reason_error"' in olivia.post(f"{where}ignore/", {"reason": " "}).content.decode()
    page = olivia.post(f"{where}ignore/", {"reason": "one odd host"}, follow=True).content.decode()
    assert "ticket 4711" not in page and "Show 1 ignored" in page
    assert "one odd host" in olivia.get("/operator/unclassified/?ignored=1").content.decode()

    olivia.post(f"{where}heed/")
    assert "ticket 4711" in olivia.get("/operator/unclassified/").content.decode()


def test_the_rules_of_the_product_can_be_searched(olivia: Client) -> None:
    whole = olivia.get(f"{RULES}built-in/")
    narrowed = olivia.get(f"{RULES}built-in/?q=reputation&group=google")

    assert len(whole.context["lines"]) == whole.context["total"]
    assert {rule.id for rule, _verdict in narrowed.context["lines"]} >= {"google-ip-reputation"}
    assert all("google" in rule.groups for rule, _verdict in narrowed.context["lines"])
    assert "Nothing matches" in olivia.get(f"{RULES}built-in/?q=%00zzz").content.decode()


def test_empty_pages_teach(olivia: Client) -> None:
    assert "No rules of your own" in olivia.get(RULES).content.decode()
    assert "Every reply could be classified" in olivia.get("/operator/unclassified/").content.decode()


def test_pages_ask_few_queries(olivia: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        olivia.post(
            f"{RULES}add/",
            FIELDS | {"name": f"r{number}", "text": f"oracle {number}", "sample": f"eod 550 oracle {number} x"},
        )
    with django_assert_max_num_queries(15):
        olivia.get(RULES)


def test_rules_exist_for_operators_only(cast: Cast, alice: Client, olivia: Client, group: UnmatchedReply) -> None:
    olivia.post(f"{RULES}add/", FIELDS)
    values = {"name": "oracle", "group_id": group.pk}
    for pattern in urls.operator_pages:
        assert isinstance(pattern, URLPattern)
        path = "/operator/" + str(pattern.pattern).replace("<slug:name>", "oracle").replace(
            "<int:group_id>", str(values["group_id"])
        )
        if "rules" not in path and "unclassified" not in path:
            continue
        assert alice.get(path).status_code == 404 and alice.post(path).status_code in (404, 405), path
        assert Client().get(path).status_code == 302, path
    assert names() == ["oracle"]
