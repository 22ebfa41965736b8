"""The pages of suppressions, imports and unsubscribes."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry, Membership, Role
from delivery import suppression_files, suppression_imports, suppressions
from delivery.models import Stream, Suppression, SuppressionImport, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast, Fate, write_message

LIST = "/t/acme/suppressions/"


def put(cast: Cast, address: str, reason: str = "manual", *, stream: str = "", **cause: Any) -> Suppression:
    owner = Owner(cast.acme, Stream.objects.of(cast.acme).get(name=stream) if stream else None)
    causes = Cause(SuppressionReason(reason), **cause)
    return suppressions.add(owner, read_target(address), causes, actor=Actor.system("test"))[0]


def read(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode()


def upload(client: Client, text: str, name: str = "list.csv") -> Any:
    return client.post(f"{LIST}import/", {"file": SimpleUploadedFile(name, text.encode()), "stream": ""})


def test_an_empty_list_teaches(cast: Cast, alice: Client) -> None:
    page = alice.get(LIST).content.decode()

    assert "Addresses come here by themselves" in page
    assert "import/" in page


def test_the_list_is_filtered_and_paged_with_few_queries(
    cast: Cast, alice: Client, django_assert_max_num_queries: Any
) -> None:
    suppression_files.import_csv(
        Owner(cast.acme), [f"u{number:03}@example.com" for number in range(120)], actor=Actor.system("test")
    )
    put(cast, "full@example.net", "bounce", reply_class="mailbox_full", expires_at=timezone.now() + timedelta(days=9))

    with django_assert_max_num_queries(15):
        first = alice.get(LIST)
    second = alice.get(f"{LIST}?before={first.context['page'].older}")
    narrowed = alice.get(f"{LIST}?reason=bounce&class=mailbox_full&which=expiring").content.decode()

    assert [len(answer.context["lines"]) for answer in (first, second)] == [50, 50]
    assert "121 entries" in first.content.decode()
    assert second.context["page"].newer is not None
    assert "full@example.net" in narrowed and "u001@example.com" not in narrowed


def test_what_keeps_an_address_back_comes_first(cast: Cast, alice: Client) -> None:
    put(cast, "bob@example.com")
    put(cast, "example.com")
    put(cast, "notbob@example.com")

    answer = alice.get(f"{LIST}?q=Bob@example.com")

    assert [line.row.value for line in answer.context["exact"]] == ["bob@example.com", "example.com"]
    assert [line.row.value for line in answer.context["lines"]] == ["notbob@example.com"]


def test_an_entry_tells_its_cause_and_leads_to_the_mail(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, Fate(address="bob@example.com"), subject="Your order")
    said = "550 5.1.1 <script>alert(1)</script> no such user"
    row = put(cast, "bob@example.com", "bounce", reply_class="bad_mailbox", detail=said, message_id=message.pk)

    page = alice.get(f"{LIST}{row.pk}/").content.decode()

    assert "Your order" in page and f"/messages/{message.pk}/" in page
    assert "No such mailbox" in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_adding_by_hand(cast: Cast, alice: Client) -> None:
    bulk = Stream.objects.of(cast.acme).get(name="bulk")

    page = alice.post(
        f"{LIST}add/", {"address": "*@*.Example.com", "stream": bulk.pk, "ends": "30", "note": "by letter"}, follow=True
    )

    row = Suppression.objects.get()
    assert (row.value, row.stream, row.reason, row.detail) == ("*@*.example.com", bulk, "manual", "by letter")
    assert row.expires_at is not None
    assert "is kept back from now on" in page.content.decode()
    assert AuditEntry.objects.get(action="suppression.add").actor == cast.alice


@pytest.mark.parametrize("address", ["", "no address", "*", "*@*"])
def test_what_is_no_target_is_refused_at_its_field(cast: Cast, alice: Client, address: str) -> None:
    page = alice.post(f"{LIST}add/", {"address": address}).content.decode()

    assert 'id="id_address_error"' in page
    assert not Suppression.objects.exists()


def test_removing_can_be_taken_back(cast: Cast, alice: Client) -> None:
    row = put(cast, "bob@example.com")

    page = alice.post(f"{LIST}{row.pk}/remove/", {"reason": ""}, follow=True).content.decode()
    row.refresh_from_db()
    assert row.removed_at is not None
    assert "Undo the removal" in page
    assert "bob@example.com" in alice.get(f"{LIST}?which=removed").content.decode()

    alice.post(f"{LIST}{row.pk}/restore/")
    row.refresh_from_db()
    assert row.removed_at is None


def test_a_complaint_is_lifted_only_with_a_reason(cast: Cast, alice: Client) -> None:
    row = put(cast, "bob@example.com", "complaint")

    page = alice.post(f"{LIST}{row.pk}/remove/", {"reason": ""}).content.decode()
    row.refresh_from_db()
    assert row.removed_at is None
    assert "say why it is lifted" in page

    alice.post(f"{LIST}{row.pk}/remove/", {"reason": "asked us by phone"})
    row.refresh_from_db()
    assert row.removed_reason == "asked us by phone"


def test_an_export_follows_the_filter_and_holds_no_formula(cast: Cast, alice: Client) -> None:
    put(cast, "bob@example.com", detail="=HYPERLINK(1)")
    put(cast, "dave@example.com", "complaint")

    answer = alice.get(f"{LIST}export/?reason=manual")
    rows = list(csv.DictReader(io.StringIO(read(answer).removeprefix("\ufeff"))))

    assert answer["Content-Disposition"].startswith('attachment; filename="suppressions-acme-')
    assert [(row["address"], row["detail"]) for row in rows] == [("bob@example.com", "'=HYPERLINK(1)")]


def test_a_list_is_looked_at_read_and_taken_back(cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.acceptance.doorbell.ring_for_imports", lambda: None)
    where = upload(alice, "email\nbob@example.com\nnonsense here\ndave@example.com\n")["Location"]

    page = alice.get(where).content.decode()
    assert "Is this the right file?" in page and "neither an address" in page
    alice.post(f"{where}confirm/")
    assert "lines are read. You may leave this page." in alice.get(where).content.decode()
    waiting = alice.get(f"{where}live/?seen=waiting-0")
    assert waiting.status_code == 204

    suppression_imports.run_waiting()
    live = alice.get(f"{where}live/?seen=waiting-0").content.decode()
    assert "1 row could not be" in live and "data-live" not in live.replace("data-live-failed", "").replace(
        "data-live-again", ""
    )
    bad = read(alice.get(f"{where}bad-rows/"))
    assert "3,nonsense here is neither" in bad

    page = alice.post(f"{where}undo/", follow=True).content.decode()
    assert "Taken back: 2 entries" in page
    assert not Suppression.objects.filter(removed_at=None).exists()


def test_a_file_can_be_left_out(cast: Cast, alice: Client) -> None:
    where = upload(alice, "bob@example.com\n")["Location"]

    alice.post(f"{where}discard/")

    assert not SuppressionImport.objects.exists()
    assert alice.get(where).status_code == 404


def test_what_is_no_list_is_refused_at_the_field(cast: Cast, alice: Client) -> None:
    page = upload(alice, "\0\1\2").content.decode()

    assert 'id="id_file_error"' in page
    assert not SuppressionImport.objects.exists()


def test_a_file_beyond_all_bounds_is_not_even_read(cast: Cast, alice: Client) -> None:
    assert upload(alice, "x" * (18 * 1024 * 1024)).status_code == 400


def test_an_analyst_reads_and_changes_nothing(cast: Cast, signed_in: SignedIn) -> None:
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)
    row = put(cast, "bob@example.com")

    page = bob.get(f"{LIST}{row.pk}/").content.decode()

    assert "Allow mail again" not in page
    assert bob.get(LIST).status_code == bob.get(f"{LIST}export/").status_code == 200
    for path in ("add/", "import/", f"{row.pk}/remove/", f"{row.pk}/restore/"):
        assert bob.post(f"{LIST}{path}").status_code == 403


def test_another_tenants_entries_are_neither_listed_nor_exported(cast: Cast, charlie: Client) -> None:
    put(cast, "confidential@example.com")

    assert b"confidential" not in charlie.get("/t/globex/suppressions/?q=example.com").content
    assert "confidential" not in read(charlie.get("/t/globex/suppressions/export/"))
    assert "confidential" not in read(charlie.get("/t/globex/unsubscribes/export/"))


# ---------------------------------------------------------------- unsubscribes


def test_unsubscribes_are_shown_by_stream_with_their_mail(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, Fate(address="reader@example.com"), subject="November news")
    put(cast, "reader@example.com", "unsubscribe", stream="bulk", detail="mail", message_id=message.pk)
    put(cast, "other@example.com", "bounce")

    page = alice.get("/t/acme/unsubscribes/").content.decode()

    assert "November news" in page and "by mail" in page
    assert "other@example.com" not in page
    assert "1 reader asked to stop" in page


def test_no_unsubscribes_teach(cast: Cast, alice: Client) -> None:
    assert "Nobody has unsubscribed" in alice.get("/t/acme/unsubscribes/").content.decode()


@pytest.mark.parametrize("path", ["suppressions/", "unsubscribes/"])
@pytest.mark.parametrize("query", ["before=x", "after=%00", "q=%00", "reason=x&class=y&scope=z&which=w", "stream=%00"])
def test_nonsense_in_the_address_is_no_error(cast: Cast, alice: Client, path: str, query: str) -> None:
    assert alice.get(f"/t/acme/{path}?{query}").status_code == 200
