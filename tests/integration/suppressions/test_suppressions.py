"""The list as people change it: what stands, for whom, until when, and what the audit log says of it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from accounts.refusals import NotFound, Refused
from delivery import suppression_files, suppression_search, suppressions
from delivery.models import Stream, Suppression, SuppressionKind, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target

ALICE = Actor("alice@acme.example")
BY_HAND = Cause(SuppressionReason.MANUAL)


@pytest.fixture
def acme(db: None) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Acme", owner_email="alice@acme.example", actor=ALICE)[0]


@pytest.fixture
def globex(db: None) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Globex", owner_email="charlie@globex.example", actor=ALICE)[0]


def add(owner: Owner, text: str, **cause: Any) -> tuple[Suppression, bool]:
    return suppressions.add(owner, read_target(text), Cause(SuppressionReason.MANUAL, **cause), actor=ALICE)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Bob@Example.COM", SuppressionKind.ADDRESS, "bob@example.com"),
        (" 例え@例え.jp ", SuppressionKind.ADDRESS, "例え@xn--r8jz45g.jp"),
        ("taro..@docomo.ne.jp", SuppressionKind.ADDRESS, "taro..@docomo.ne.jp"),
        ("example.com", SuppressionKind.DOMAIN, "example.com"),
        ("@Example.com", SuppressionKind.DOMAIN, "example.com"),
        ("*@*.Example.com", SuppressionKind.PATTERN, "*@*.example.com"),
    ],
)
def test_a_target_has_one_form(text: str, kind: SuppressionKind, value: str) -> None:
    target = read_target(text)

    assert (target.kind, target.value) == (kind, value)


@pytest.mark.parametrize("text", ["*", "*@*", "*.jp", "no address at all", "", "a@b@"])
def test_what_would_stop_everything_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        read_target(text)


def test_percent_and_underscore_mean_themselves_in_a_pattern() -> None:
    assert read_target("a_b%c*@example.com").like_pattern == r"a\_b\%c%@example.com"


def test_adding_twice_changes_nothing(acme: Tenant) -> None:
    first, changed = add(Owner(acme), "bob@example.com")
    second, changed_again = add(Owner(acme), "BOB@example.com")

    assert (changed, changed_again) == (True, False)
    assert first == second
    assert AuditEntry.objects.filter(action="suppression.add").count() == 1


def test_a_longer_suppression_replaces_a_shorter_and_never_the_other_way_round(acme: Tenant) -> None:
    now = timezone.now()
    add(Owner(acme), "bob@example.com", expires_at=now + timedelta(days=5))
    row, longer = add(Owner(acme), "bob@example.com", expires_at=now + timedelta(days=50))
    _row, shorter = add(Owner(acme), "bob@example.com", expires_at=now + timedelta(days=10))

    assert (longer, shorter) == (True, False)
    assert row.expires_at == now + timedelta(days=50)


def test_an_expired_one_is_taken_up_again(acme: Tenant) -> None:
    add(Owner(acme), "bob@example.com", expires_at=timezone.now() - timedelta(days=1))
    row, changed = add(Owner(acme), "bob@example.com", expires_at=timezone.now() + timedelta(days=1))

    assert changed
    assert row.is_active()


def test_removed_is_restorable_for_thirty_days(acme: Tenant) -> None:
    row, _changed = add(Owner(acme), "bob@example.com")

    suppressions.remove(row, actor=ALICE)
    assert not row.is_active()
    assert [one.value for one in suppression_search.rows_of(acme, removed=True)] == ["bob@example.com"]

    suppressions.restore(row, actor=ALICE)
    assert row.is_active()

    suppressions.remove(row, actor=ALICE)
    Suppression.objects.update(removed_at=timezone.now() - timedelta(days=31))
    with pytest.raises(Refused):
        suppressions.restore(row, actor=ALICE)
    assert suppressions.forget_old() == 1
    actions = list(AuditEntry.objects.filter(action__startswith="suppression.").values_list("action", flat=True))
    assert sorted(actions) == ["suppression.add", "suppression.remove", "suppression.remove", "suppression.restore"]


def test_lifting_what_the_recipient_asked_for_needs_a_reason(acme: Tenant) -> None:
    cause = Cause(SuppressionReason.UNSUBSCRIBE)
    row, _changed = suppressions.add(Owner(acme), read_target("bob@example.com"), cause, actor=ALICE)

    with pytest.raises(Refused):
        suppressions.remove(row, actor=ALICE)
    suppressions.remove(row, actor=ALICE, reason="asked for it by telephone")

    assert AuditEntry.objects.get(action="suppression.remove").reason == "asked for it by telephone"


def test_charlie_sees_and_finds_nothing_of_acme(acme: Tenant, globex: Tenant) -> None:
    add(Owner(acme), "bob@example.com")
    add(Owner(acme, Stream.objects.get(tenant=acme, name="bulk")), "dave@example.com")

    assert list(suppression_search.rows_of(globex)) == []
    with pytest.raises(NotFound):
        suppression_search.find(Owner(globex), "bob@example.com")
    assert {row.value for row in suppression_search.rows_of(acme)} == {"bob@example.com", "dave@example.com"}


def test_patterns_are_bounded(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressions, "MOST_PATTERNS", 2)
    add(Owner(acme), "*@one.example.com")
    add(Owner(acme), "*@two.example.com")

    add(Owner(acme), "*@two.example.com")
    with pytest.raises(Refused):
        add(Owner(acme), "*@three.example.com")


# ---------------------------------------------------------------- CSV


def test_a_long_list_is_imported_and_comes_out_again(acme: Tenant) -> None:
    lines = (f"user{number}@example.com\n" for number in range(5_000))

    done = suppression_files.import_csv(Owner(acme), lines, actor=ALICE)
    again = suppression_files.import_csv(Owner(acme), suppression_files.export_csv(acme), actor=ALICE)

    assert (done.read, done.changed, done.refused) == (5_000, 5_000, 0)
    assert (again.read, again.changed) == (5_000, 0)
    assert sum(1 for _line in suppression_files.export_csv(acme)) == 5_001
    assert AuditEntry.objects.filter(action="suppression.import").first().after["read"] == 5_000


def test_bad_lines_are_told_by_their_number_and_the_others_taken(acme: Tenant) -> None:
    lines = ["email,note\n", "bob@example.com,x\n", "not an address,y\n", "\n", '"dave@example.com","a,b"\n']

    done = suppression_files.import_csv(Owner(acme), lines, actor=ALICE)

    assert (done.read, done.changed, done.refused) == (3, 2, 1)
    assert done.errors[0][0] == 3


def test_more_than_the_limit_is_refused_and_what_was_read_stays(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression_files, "MOST_IMPORTED", 2)

    with pytest.raises(Refused):
        suppression_files.import_csv(Owner(acme), [f"u{number}@example.com" for number in range(3)], actor=ALICE)

    assert Suppression.objects.of(acme).count() == 2


@pytest.mark.parametrize("address", ["=cmd@example.com", "+81901234@example.com", "-a@example.com", "'=a@example.com"])
def test_no_cell_is_a_formula_and_every_address_comes_back_as_it_was(acme: Tenant, address: str) -> None:
    add(Owner(acme), address, detail="=HYPERLINK(1)")

    text = "".join(suppression_files.export_csv(acme))
    cells = list(csv.reader(io.StringIO(text)))[1]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)

    Suppression.objects.all().delete()
    suppression_files.import_csv(Owner(acme), io.StringIO(text), actor=ALICE)
    assert Suppression.objects.get().value == address
    assert Suppression.objects.get().detail == "=HYPERLINK(1)"
