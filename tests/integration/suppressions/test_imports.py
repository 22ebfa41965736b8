"""Lists that people hand in: read in the background, told row by row, taken back whole."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry, Tenant
from accounts.refusals import NotFound, Refused
from delivery import suppression_files, suppression_imports, suppression_search, suppressions
from delivery.models import Stream, Suppression, SuppressionImport, SuppressionReason
from delivery.suppression_search import ListFilter
from delivery.suppressions import Cause, Owner, read_target
from relayweb.processes.catalogues import compile_outdated

ALICE = Actor("alice@acme.example", peer_address="192.0.2.7")


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.acceptance.doorbell.ring_for_imports", lambda: None)


@pytest.fixture
def acme(db: None) -> Tenant:
    from delivery.tenants import open_tenant

    return open_tenant("Acme", owner_email="alice@acme.example", actor=ALICE)[0]


def hand_in(owner: Owner, text: str | bytes, **more: Any) -> SuppressionImport:
    octets = text.encode() if isinstance(text, str) else text
    return suppression_imports.hand_in(owner, octets, file_name="list.csv", actor=ALICE, **more)


def run(job: SuppressionImport) -> SuppressionImport:
    suppression_imports.confirm(job)
    suppression_imports.run_waiting()
    return SuppressionImport.objects.get(pk=job.pk)


def active(tenant: Tenant) -> set[str]:
    return {row.value for row in suppression_search.all_rows(tenant, ListFilter())}


def test_a_hundred_thousand_rows_are_taken_up_with_progress_in_seconds(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "email\n" + "".join(f"user{number}@example{number % 977}.com\n" for number in range(100_000))
    seen: list[int] = []
    really = suppression_files.import_csv

    def watched(*arguments: Any, progress: Any, **more: Any) -> Any:
        def look(so_far: Any) -> None:
            progress(so_far)
            seen.append(SuppressionImport.objects.values_list("read", flat=True).get())

        return really(*arguments, progress=look, **more)

    monkeypatch.setattr(suppression_files, "import_csv", watched)
    job = hand_in(Owner(acme), text)
    started = time.process_time()
    done = run(job)
    took = time.process_time() - started

    assert (done.state, done.read, done.changed, done.refused) == ("done", 100_000, 100_000, 0)
    assert seen == sorted(seen) and len(seen) >= 10 and 0 < seen[0] < 20_000
    # Our own time; the database's share is about a third on top.
    assert took <= 4
    assert done.compressed is None


def test_bad_rows_are_told_by_line_in_the_language_of_who_asked(acme: Tenant) -> None:
    compile_outdated()
    done = run(hand_in(Owner(acme), "address\nbob@example.com\nnonsense here\n\ndave@example.com\n*\n", language="ja"))

    assert (done.read, done.changed, done.refused) == (4, 2, 2)
    assert [line for line, _sentence in done.errors] == [3, 6]
    assert all(not sentence.isascii() for _line, sentence in done.errors)


def test_taking_it_back_leaves_what_stood_before(acme: Tenant) -> None:
    for address, days in (("stays@example.com", None), ("longer@example.com", 3)):
        until = timezone.now() + timedelta(days=days) if days else None
        cause = Cause(SuppressionReason.BOUNCE, reply_class="bad_mailbox", expires_at=until)
        suppressions.add(Owner(acme), read_target(address), cause, actor=ALICE)
    done = run(hand_in(Owner(acme), "stays@example.com\nlonger@example.com\nnew@example.com\n"))
    assert active(acme) == {"stays@example.com", "longer@example.com", "new@example.com"}

    assert suppression_imports.undo(done, actor=ALICE) == 1

    assert active(acme) == {"stays@example.com", "longer@example.com"}
    assert AuditEntry.objects.get(action="suppression.import_undo").after == {"removed": 1}
    with pytest.raises(Refused):
        suppression_imports.undo(done, actor=ALICE)
    suppressions.restore(Suppression.objects.get(value="new@example.com"), actor=ALICE)


def test_a_worker_that_died_leaves_the_list_to_the_next(acme: Tenant) -> None:
    job = hand_in(Owner(acme), "bob@example.com\n")
    assert suppression_imports._claim() is None
    suppression_imports.confirm(job)
    assert suppression_imports._claim() is not None
    assert suppression_imports._claim() is None

    SuppressionImport.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))

    assert run(job).state == "done"


def test_a_list_of_a_stream_is_the_streams(acme: Tenant) -> None:
    stream = Stream.objects.of(acme).exclude(is_default=True).first()

    run(hand_in(Owner(acme, stream), "bob@example.com"))

    assert Suppression.objects.get().stream == stream


@pytest.mark.parametrize(
    "octets",
    [
        "宛先,detail\n".encode("cp932") + b"bob@example.com,x\n",
        "bob@example.com\n".encode("utf-16"),
        b"\xef\xbb\xbfaddress\r\nbob@example.com\r\n",
        b"bob@example.com\rdave@example.com\r",
    ],
)
def test_files_of_spreadsheets_are_read(acme: Tenant, octets: bytes) -> None:
    run(hand_in(Owner(acme), octets))

    assert "bob@example.com" in active(acme)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "no_text"), (b"\0\1\2\3" * 100, "no_text"), (b"a@b.example\n" * 100_002, "list_too_long"),
        (b"x" * (16 * 1024 * 1024 + 1), "file_too_large"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_at_once(acme: Tenant, octets: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        hand_in(Owner(acme), octets)

    assert refused.value.reason == reason


def test_no_tenant_fills_the_worker(acme: Tenant) -> None:
    for _number in range(3):
        suppression_imports.confirm(hand_in(Owner(acme), "bob@example.com"))

    with pytest.raises(Refused):
        suppression_imports.confirm(hand_in(Owner(acme), "bob@example.com"))


def test_a_list_is_looked_at_before_it_is_read(acme: Tenant) -> None:
    job = hand_in(Owner(acme), "email\nBob@Example.com\nnonsense here\n" + "x@example.com\n" * 50)

    rows = suppression_imports.preview(job)

    assert [row.target.value if row.target else row.fault[:12] for row in rows[:2]] == [
        "bob@example.com",
        "nonsense her",
    ]
    assert len(rows) == 20
    suppression_imports.run_waiting()
    assert active(acme) == set()
    suppression_imports.discard(job)
    assert not SuppressionImport.objects.exists()


def test_a_file_that_nobody_confirmed_is_dropped(acme: Tenant) -> None:
    hand_in(Owner(acme), "a@example.com")
    hand_in(Owner(acme), "b@example.com")

    assert SuppressionImport.objects.count() == 1
    assert suppression_imports.forget_old(now=timezone.now() + timedelta(days=2)) == 1


def test_no_more_patterns_than_allowed_come_with_a_list(acme: Tenant) -> None:
    done = run(hand_in(Owner(acme), "".join(f"user{number}*@example.com\n" for number in range(150))))

    assert (done.changed, done.refused) == (100, 50)


def test_another_tenants_import_is_not_found(acme: Tenant) -> None:
    from delivery.tenants import open_tenant

    globex = open_tenant("Globex", owner_email="charlie@globex.example", actor=ALICE)[0]
    job = hand_in(Owner(acme), "bob@example.com")

    with pytest.raises(NotFound):
        suppression_imports.find_import(job.pk, tenant=globex)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ListFilter(), {"a@x.example", "b@y.example", "soon@x.example"}),
        (ListFilter(query="X.EXAMPLE"), {"a@x.example", "soon@x.example"}),
        (ListFilter(reason="complaint"), {"b@y.example"}),
        (ListFilter(scope="stream"), {"b@y.example"}),
        (ListFilter(stream="bulk"), {"b@y.example"}),
        (ListFilter(reply_class="mailbox_full"), {"soon@x.example"}),
        (ListFilter(which="expiring"), {"soon@x.example"}),
        (ListFilter(which="expired"), {"past@x.example"}),
        (ListFilter(which="removed"), {"gone@x.example"}),
    ],
)
def test_a_list_is_narrowed(acme: Tenant, wanted: ListFilter, found: set[str]) -> None:
    now = timezone.now()
    bulk = Stream.objects.of(acme).get(name="bulk")

    def add(address: str, owner: Owner, reason: SuppressionReason, **more: Any) -> Suppression:
        return suppressions.add(owner, read_target(address), Cause(reason, **more), actor=ALICE)[0]

    add("a@x.example", Owner(acme), SuppressionReason.MANUAL)
    add("b@y.example", Owner(acme, bulk), SuppressionReason.COMPLAINT)
    full = {"reply_class": "mailbox_full", "expires_at": now + timedelta(days=9)}
    add("soon@x.example", Owner(acme), SuppressionReason.BOUNCE, **full)
    add("past@x.example", Owner(acme), SuppressionReason.BOUNCE, expires_at=now - timedelta(days=1))
    suppressions.remove(add("gone@x.example", Owner(acme), SuppressionReason.MANUAL), actor=ALICE)

    assert {row.value for row in suppression_search.page_of(acme, wanted).rows} == found
    assert suppression_search.count_up_to(acme, wanted) == len(found)


def test_pages_lead_to_each_other(acme: Tenant) -> None:
    suppression_files.import_csv(Owner(acme), [f"u{number:02}@x.example" for number in range(7)], actor=ALICE)

    first = suppression_search.page_of(acme, ListFilter(), size=3)
    second = suppression_search.page_of(acme, ListFilter(), before=first.older, size=3)
    last = suppression_search.page_of(acme, ListFilter(), before=second.older, size=3)
    back = suppression_search.page_of(acme, ListFilter(), after=last.newer, size=3)

    assert (first.newer, last.older, len(last.rows)) == (None, None, 1)
    assert back.rows == second.rows
    assert suppression_search.page_of(acme, ListFilter(), after=second.newer, size=3).newer is None


def test_what_keeps_an_address_back_is_found_whole(acme: Tenant) -> None:
    for text in ("bob@x.example", "x.example", "*ob@*.example", "*carol*@*.example", "bob@x.example.com"):
        suppressions.add(Owner(acme), read_target(text), Cause(SuppressionReason.MANUAL), actor=ALICE)

    found = [row.value for row in suppression_search.exact_matches(acme, " Bob@X.example ")]

    assert found == ["bob@x.example", "x.example", "*ob@*.example"]
