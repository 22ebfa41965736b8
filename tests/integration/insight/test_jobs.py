"""Exports and changes of all that a filter finds, and what a member does to one mail."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry, Membership, Role
from delivery import changes, jobs
from delivery.models import Job, JobPart, Message, QueueEntry, Recipient, Suppression
from tests.support.journeys import EXAMPLES, Cast, Fate, write_message

LOG = "/t/acme/messages/"


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bell rings at a broker that these tests do without; housekeeping looks by itself."""
    from delivery.acceptance import doorbell

    monkeypatch.setattr(doorbell, "ring_for_jobs", lambda: None)
    monkeypatch.setattr(doorbell, "ring", lambda: None)


def _ask(client: Client, kind: str = "export", query: str = "", **posted: str) -> Job:
    answer = client.post(f"{LOG}jobs/new/{kind}/?{query}", posted)
    assert answer.status_code == 302, answer.content
    return Job.objects.get(pk=answer["Location"].rstrip("/").rpartition("/")[2])


def _file(client: Client, job: Job) -> bytes:
    page = client.get(f"{LOG}jobs/{job.pk}/").content.decode()
    link = re.search(r'href="([^"]*/file/\?key=[^"]*)"', page)
    assert link is not None
    return b"".join(client.get(html.unescape(link[1])))  # type: ignore[arg-type]


def test_an_export_has_a_line_for_each_recipient(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    write_message(cast.globex, EXAMPLES[0])
    job = _ask(alice, query="days=30", format="csv")
    assert b"Waiting for its turn" in alice.get(f"{LOG}jobs/{job.pk}/").content

    jobs.work()
    rows = list(csv.DictReader(io.StringIO(_file(alice, job).decode("utf-8-sig"))))

    assert {row["recipient"]: row["state"] for row in rows} == {fate.address: fate.state for fate in EXAMPLES}
    assert {row["subject"] for row in rows} == {"ご注文の確認 #1234"}
    assert AuditEntry.objects.filter(action="log.export", tenant=cast.acme).exists()


def test_json_is_one_document_over_several_parts(cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_EXPORTED_AT_ONCE", 4)
    write_message(cast.acme, *EXAMPLES)
    job = _ask(alice, query="provider=other", format="json")

    jobs.work()
    document = json.loads(_file(alice, job))

    assert JobPart.objects.count() > 2
    assert len(document) == len(EXAMPLES) - 3
    assert document[0]["class"] is not None


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_an_export_of_nothing_is_a_whole_file(file_format: str, cast: Cast) -> None:
    from delivery.exports import write_part

    part = write_part([], file_format=file_format, is_first=True, is_last=True).decode("utf-8-sig")

    assert part == "[\n\n]\n" if file_format == "json" else part.startswith("accepted_at,message_id,recipient_id,")


def test_no_cell_of_an_export_is_a_formula(cast: Cast, alice: Client) -> None:
    for subject in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("x","y")'):
        write_message(cast.acme, EXAMPLES[0], subject=subject)
    job = _ask(alice, format="csv")

    jobs.work()
    rows = list(csv.DictReader(io.StringIO(_file(alice, job).decode("utf-8-sig"))))

    assert {row["subject"][0] for row in rows} == {"'"}


def test_a_killed_step_leaves_no_gap_and_no_double(cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_EXPORTED_AT_ONCE", 5)
    write_message(cast.acme, *(Fate(address=f"r{number:02}@news.example") for number in range(23)))
    job = _ask(alice, format="csv")
    kept = jobs.exports.compress

    def dies(part: bytes) -> bytes:
        if JobPart.objects.count() == 2 and Job.objects.get().tries < 3:
            raise RuntimeError("the worker is gone")
        return kept(part)

    monkeypatch.setattr(jobs.exports, "compress", dies)
    for _ in range(4):
        jobs.work()
        Job.objects.filter(claimed_until__isnull=False).update(claimed_until=F("claimed_until") - timedelta(minutes=3))
    lines = _file(alice, job).decode("utf-8-sig").splitlines()

    assert sorted(line.split(",")[3] for line in lines[1:]) == [f"r{number:02}@news.example" for number in range(23)]


def test_a_job_that_always_fails_is_given_up_and_holds_up_no_other(
    cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_message(cast.acme, *EXAMPLES)
    bad, good = _ask(alice, format="csv"), _ask(alice, format="json")
    Job.objects.filter(pk=bad.pk).update(wanted={"unknown": 1})

    for _ in range(jobs.MOST_TRIES + 1):
        jobs.work()
        Job.objects.filter(claimed_until__isnull=False).update(claimed_until=F("claimed_until") - timedelta(minutes=3))

    assert Job.objects.get(pk=bad.pk).state == "failed"
    assert Job.objects.get(pk=good.pk).state == "done"
    assert b"A fault of ours ended it" in alice.get(f"{LOG}jobs/{bad.pk}/").content


def test_a_cancelled_job_stops_and_leaves_no_file(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    job = _ask(alice, format="csv")

    alice.post(f"{LOG}jobs/{job.pk}/cancel/")

    assert jobs.work() == 0
    assert Job.objects.get().state == "cancelled"
    assert not JobPart.objects.exists()


def test_the_link_is_the_tenants_and_ends(cast: Cast, alice: Client, charlie: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    job = _ask(alice, format="csv")
    jobs.work()
    job.refresh_from_db()
    path, key = f"{LOG}jobs/{job.pk}/file/", jobs.file_key(job)
    assert alice.get(f"{path}?key={key}").status_code == 200

    assert alice.get(path).status_code == 404
    assert alice.get(f"{path}?key={key[:-1]}x").status_code == 404
    assert charlie.get(f"{path}?key={key}").status_code == 404
    assert charlie.get(f"/t/globex/messages/jobs/{job.pk}/file/?key={key}").status_code == 404
    Job.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert alice.get(f"{path}?key={jobs.file_key(job)}").status_code == 404
    assert jobs.forget_old() == 1
    assert not JobPart.objects.exists()


def test_a_tenant_has_only_so_many_open_jobs(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0])
    for _ in range(jobs.AT_ONCE):
        _ask(alice, format="csv")

    page = alice.post(f"{LOG}jobs/new/export/", {"format": "csv"})

    assert b"waiting or running already" in page.content
    assert Job.objects.count() == jobs.AT_ONCE


def test_progress_is_told_when_it_changed(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    job = _ask(alice, format="csv")
    page = alice.get(f"{LOG}jobs/{job.pk}/").content.decode()
    live = html.unescape(re.search(r'hx-get="([^"]*/live/[^"]*)"', page)[1])  # type: ignore[index]
    assert alice.get(live).status_code == 204

    jobs.work()
    done = alice.get(live).content.decode()

    assert f"{len(EXAMPLES)} lines are ready." in done
    assert "data-live=" not in done


# ---------------------------------------------------------------- changes


def _states(cast: Cast) -> dict[str, str]:
    return dict(Recipient.objects.of(cast.acme).values_list("address", "state"))


def test_a_change_concerns_what_is_found_and_open(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    write_message(cast.globex, EXAMPLES[1])
    before = _states(cast)
    page = alice.get(f"{LOG}jobs/new/cancel/?class=rate_limit&class=greylist&class=bad_domain").content.decode()
    assert "2 recipients are found." in page
    assert "This cannot be undone." in page

    _ask(alice, "cancel", "class=rate_limit&class=greylist&class=bad_domain")
    jobs.work()

    changed = {address for address, state in _states(cast).items() if state != before[address]}
    assert changed == {"hana@docomo.example", "grey@school.example"}
    assert Recipient.objects.of(cast.globex).get().state == "deferred"
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == ["log.cancel", "log.cancel_done"]
    assert AuditEntry.objects.get(action="log.cancel_done").after == {"changed": 2, "in_hand": 0}


def test_hold_and_release_undo_each_other_and_leave_what_the_service_holds(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    before = _states(cast)

    _ask(alice, "hold")
    jobs.work()
    held = {address for address, state in _states(cast).items() if state == "held"}
    assert held == {address for address, state in before.items() if state in {"queued", "deferred", "held"}} - {
        "now@waiting.example"  # in an engine's hands
    }
    assert b"1 were being sent at that moment" in alice.get(f"{LOG}jobs/{Job.objects.get().pk}/").content
    _ask(alice, "release")
    jobs.work()

    assert _states(cast) == before


def test_an_analyst_exports_and_changes_nothing(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    message = write_message(cast.acme, *EXAMPLES)
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    assert bob.get(f"{LOG}jobs/new/export/").status_code == 200
    for kind in changes.VERBS:
        assert bob.post(f"{LOG}jobs/new/{kind}/").status_code == 403
        assert bob.post(f"{LOG}{message.pk}/change/{kind}/").status_code == 403
    assert b"change/cancel" not in bob.get(f"{LOG}{message.pk}/").content
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("verb", "address", "state", "said"),
    [
        ("retry", "hana@docomo.example", "deferred", b"1 recipient is tried now."),
        ("hold", "grey@school.example", "held", b"1 recipient is held."),
        ("cancel", "new@waiting.example", "cancelled", b"1 recipient is cancelled."),
    ],
)
def test_one_recipient_is_changed_from_its_message(
    verb: str, address: str, state: str, said: bytes, cast: Cast, alice: Client
) -> None:
    message = write_message(cast.acme, *EXAMPLES)
    before, recipient = _states(cast), Recipient.objects.get(address=address)
    path = f"{LOG}{message.pk}/change/{verb}/?recipient={recipient.pk}"
    assert b"This concerns 1 recipient." in alice.get(path).content

    page = alice.post(path, follow=True).content

    assert said in page
    assert _states(cast) == {**before, address: state}
    assert AuditEntry.objects.get().action == f"message.{verb}"
    if verb == "retry":
        assert QueueEntry.objects.get(recipient_id=recipient.pk).next_attempt_at <= timezone.now()


def test_a_recipient_of_another_message_is_not_changed(cast: Cast, alice: Client) -> None:
    mine, others = write_message(cast.acme, EXAMPLES[1]), write_message(cast.globex, EXAMPLES[1])

    answer = alice.post(f"{LOG}{mine.pk}/change/cancel/?recipient={others.recipients.get().pk}")

    assert answer.status_code == 404
    assert others.recipients.get().state == "deferred"


def test_a_whole_message_is_held(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, *EXAMPLES)

    page = alice.post(f"{LOG}{message.pk}/change/hold/", follow=True).content

    assert b"recipients are held. 1 were being sent at that moment" in page


# ---------------------------------------------------------------- suppressions for this address


def _suppress(
    cast: Cast, value: str, *, scope: str = "tenant", kind: str = "address", reason: str = "bounce"
) -> Suppression:
    return Suppression.objects.create(
        scope=scope,
        owner_id=cast.acme.pk if scope == "tenant" else "00000000-0000-0000-0000-000000000000",
        tenant=cast.acme if scope == "tenant" else None,
        kind=kind,
        value=value,
        reason=reason,
        like_pattern=value.replace("*", "%") if kind == "pattern" else "",
    )


def test_suppressions_of_an_address_are_found_and_lifted(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[3])
    recipient = message.recipients.get()
    path = f"{LOG}{message.pk}/suppressions/?recipient={recipient.pk}"
    assert b"No suppression keeps mail from this address." in alice.get(path).content
    own = _suppress(cast, "unknown@corp.example", reason="complaint")
    everybodys = _suppress(cast, "corp.example", scope="operator", kind="domain")
    _suppress(cast, "*@other.example", kind="pattern")

    page = alice.get(path).content
    assert b"2 suppressions keep mail from this address." in page
    assert alice.post(path, {"suppression": everybodys.pk}).status_code == 404
    assert b"say why it is lifted" in alice.post(path, {"suppression": own.pk}, follow=True).content
    alice.post(path, {"suppression": own.pk, "reason": "they asked for it"})

    own.refresh_from_db()
    assert own.removed_at is not None
    assert everybodys.removed_at is None


def test_suppressions_of_other_tenants_are_not_shown(cast: Cast, charlie: Client) -> None:
    message = write_message(cast.globex, EXAMPLES[3])
    _suppress(cast, "unknown@corp.example")

    path = f"/t/globex/messages/{message.pk}/suppressions/?recipient={message.recipients.get().pk}"

    assert b"No suppression keeps mail" in charlie.get(path).content


def test_message_and_job_pages_take_few_queries(cast: Cast, alice: Client) -> None:
    from django.test.utils import CaptureQueriesContext

    message = write_message(cast.acme, *EXAMPLES)
    job = _ask(alice, format="csv")
    jobs.work()
    recipient = Message.objects.get().recipients.first()
    for path in (
        f"{LOG}{message.pk}/",
        f"{LOG}{message.pk}/suppressions/?recipient={recipient.pk}",
        f"{LOG}{message.pk}/change/cancel/",
        f"{LOG}jobs/",
        f"{LOG}jobs/{job.pk}/",
        f"{LOG}jobs/new/retry/",
        f"{LOG}filters/",
    ):
        with CaptureQueriesContext(connection) as captured:
            assert alice.get(path).status_code == 200
        assert len(captured) <= 15, path
