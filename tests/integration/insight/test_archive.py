"""Everything a tenant has as one file: whole, without secrets, made anew after a bad end, for those who may have it."""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import OperationalError
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts import invitations
from accounts.audit import Actor
from accounts.credentials import issue_credential
from accounts.models import AuditEntry, Invitation, Membership, QuotaBucket, Role
from delivery import archive, domains, jobs, suppressions
from delivery.core import zipping
from delivery.core.zipping import Member
from delivery.models import Job, JobPart, Statistic, SuppressionReason
from delivery.suppressions import Cause, Owner, read_target
from relayweb.commandline.main import main
from tests.support.journeys import EXAMPLES, Cast, Fate, write_message
from tests.support.webhook_rows import write_call, write_webhook

SYSTEM = Actor.system("test")
ASK = "/t/acme/settings/export/"


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    from delivery.acceptance import doorbell

    monkeypatch.setattr(doorbell, "ring_for_jobs", lambda: None)


@pytest.fixture
def proved(cast: Cast, alice: Client) -> Client:
    """She has just given her password."""
    session = alice.session
    session["proved_at"] = int(timezone.now().timestamp())
    session.save()
    return alice


@pytest.fixture
def _two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it is made does not depend on how many there are."""
    few = tuple(one for one in archive.SECTIONS if one.name in {"messages.jsonl", "recipients.jsonl"})
    monkeypatch.setattr(archive, "SECTIONS", few)


def _give_everything(cast: Cast) -> list[str]:
    """Something of every kind; returns what must never be in an archive."""
    secrets = [issue_credential(cast.acme, kind="smtp", name="shop", actor=SYSTEM).secret]
    domain = domains.add_domain(cast.acme, "acme.example", actor=SYSTEM, assume_verified=True)
    secrets += [key.sealed_private_key.hex()[:40] for key in domain.dkim_keys.all()]
    by = Membership.objects.get(user=cast.alice)
    invitations.invite(cast.acme, email="dora@acme.example", role="analyst", by=by, actor=SYSTEM)
    secrets.append(str(Invitation.objects.get().nonce))
    owner = Owner(cast.acme)
    suppressions.add(owner, read_target("gone@far.example"), Cause(SuppressionReason.BOUNCE), actor=SYSTEM)
    suppressions.add(owner, read_target("stop@far.example"), Cause(SuppressionReason.UNSUBSCRIBE), actor=SYSTEM)
    write_call(write_webhook(cast.acme, name="hook"))
    QuotaBucket.objects.create(
        owner_id=cast.acme.id, period="month", window_start="2026-10-01T00:00:00Z", used=7
    )  # fmt: skip
    for month, accepted in ((10, 4), (10, 5), (12, 1)):
        Statistic.objects.create(
            tenant_id=cast.acme.id, dimension="all", minutes=60, value="", starts_at=f"2025-{month}-0{accepted}T03:00:00Z",
            accepted=accepted,
        )  # fmt: skip
    write_message(cast.acme, *EXAMPLES)
    write_message(cast.globex, Fate(address="theirs@far.example"))
    return secrets


def _read(data: bytes) -> dict[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        assert whole.testzip() is None
        assert "README.txt" in whole.namelist()
        return {
            name: [json.loads(line) for line in whole.read(name).decode().splitlines()]
            for name in whole.namelist()
            if name.endswith(".jsonl")
        }


def _ask(client: Client) -> Job:
    answer = client.post(ASK)
    assert answer.status_code == 302, answer.content
    return Job.objects.get(pk=answer["Location"].rstrip("/").rpartition("/")[2])


def _link(client: Client, job: Job) -> str:
    link = re.search(
        r'href="([^"]*/file/\?key=[^"]*)"', client.get(f"/t/acme/messages/jobs/{job.pk}/").content.decode()
    )
    assert link is not None
    return html.unescape(link[1])


def _later() -> None:
    Job.objects.filter(claimed_until__isnull=False).update(claimed_until=F("claimed_until") - timedelta(minutes=3))


def test_it_holds_everything_and_no_secret(cast: Cast, proved: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PAGE", 3)
    secrets = _give_everything(cast)
    job = _ask(proved)
    assert b"Waiting for its turn" in proved.get(f"/t/acme/messages/jobs/{job.pk}/").content

    jobs.work()
    answer = proved.get(_link(proved, job))
    data = b"".join(answer)  # type: ignore[arg-type]
    found = _read(data)

    assert answer["Content-Length"] == str(len(data))
    assert {line["address"]: line["state"] for line in found["recipients.jsonl"]} == {
        fate.address: fate.state for fate in EXAMPLES
    }
    assert len(found["attempts.jsonl"]) == sum(len(fate.tries) for fate in EXAMPLES)
    assert {line["recipient_id"] for line in found["events.jsonl"]} == {
        line["id"] for line in found["recipients.jsonl"]
    }  # fmt: skip
    assert [line["value"] for line in found["suppressions.jsonl"]] == ["gone@far.example"]
    assert [line["value"] for line in found["unsubscribes.jsonl"]] == ["stop@far.example"]
    assert {record["type"] for record in found["domains.jsonl"][0]["records"]} >= {"TXT", "CNAME"}
    assert [(line["month"], line["accepted"]) for line in found["statistics.jsonl"]] == [("2025-10", 9), ("2025-12", 1)]
    assert found["usage.jsonl"] == [{"month": "2026-10", "recipients_accepted": 7}]
    assert {line["email"] for line in found["members.jsonl"]} == {"alice@acme.example", "bob@acme.example"}
    empty = {name for name, lines in found.items() if not lines}
    assert empty == {
        "removed-domains.jsonl", "routes.jsonl", "filters.jsonl", "suppression-imports.jsonl", "complaints.jsonl",
        "rejections.jsonl", "reports.jsonl", "brakes.jsonl", "appeals.jsonl", "notices.jsonl", "reasons.jsonl",
        "tenant-events.jsonl",
    } & empty  # fmt: skip
    text = json.dumps(found, ensure_ascii=False)
    assert "theirs@far.example" not in text
    assert [secret for secret in secrets if secret in text] == []
    assert set(AuditEntry.objects.of(cast.acme).values_list("action", flat=True)) >= {
        "tenant.export", "tenant.export_download",
    }  # fmt: skip


def test_every_table_of_a_tenant_is_in_it_or_left_out_with_a_reason() -> None:
    named = {
        model
        for app in ("accounts", "delivery")
        for model in apps.get_app_config(app).get_models()
        if {"tenant_id", "owner_id"} & {one.attname for one in model._meta.concrete_fields}
    }
    held = {model.__name__ for section in archive.SECTIONS for model in section.holds}
    own = {"RateBucket"}  # tokens of the moment

    assert {model.__name__ for model in named} - own == held | set(archive.LEFT_OUT)
    assert not held & set(archive.LEFT_OUT)


@pytest.mark.usefixtures("_two_files")
def test_only_owners_and_admins_who_have_proved_themselves_get_it(
    cast: Cast, alice: Client, proved: Client, charlie: Client, signed_in: Any
) -> None:
    write_message(cast.acme, *EXAMPLES[:1])
    job = _ask(proved)
    jobs.work()
    link = _link(proved, job)
    bob, unproved = signed_in(cast.bob), signed_in(cast.alice)

    for path in (ASK, f"/t/acme/messages/jobs/{job.pk}/", link):
        assert bob.get(path).status_code == 403
        assert charlie.get(path).status_code == 404
    for path in (ASK, link):
        assert unproved.get(path)["Location"].startswith("/accounts/prove/")
    assert unproved.post(ASK)["Location"].startswith("/accounts/prove/")
    assert proved.get(link).status_code == 200
    Membership.objects.filter(user=cast.bob).update(role=Role.ADMIN)
    assert bob.get(f"/t/acme/messages/jobs/{job.pk}/").status_code == 200
    assert str(job.pk) not in bob.get("/t/acme/messages/jobs/").content.decode()


@pytest.mark.usefixtures("_two_files")
def test_one_is_made_at_a_time_and_the_former_goes(cast: Cast, proved: Client) -> None:
    first = _ask(proved)
    assert "already" in proved.post(ASK, follow=True).content.decode()
    jobs.work()
    second = _ask(proved)
    assert Job.objects.filter(pk=first.pk).exists()

    jobs.work()

    assert [one.pk for one in Job.objects.all()] == [second.pk]
    assert set(JobPart.objects.values_list("job_id", flat=True)) == {second.pk}
    assert "Download the export of" in proved.get("/t/acme/settings/close/").content.decode()


@pytest.mark.usefixtures("_two_files")
def test_a_killed_worker_leaves_no_gap(cast: Cast, proved: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PAGE", 4)
    write_message(cast.acme, *(Fate(address=f"r{number:02}@news.example") for number in range(23)))
    job = _ask(proved)
    while Job.objects.get().looked_at < 1:
        jobs.work(most_steps=1)
    jobs.work(most_steps=1)  # within recipients.jsonl
    kept = jobs._STEPS[jobs.JobKind.ARCHIVE]

    def dies(one: Job) -> bool:
        kept(one)
        raise RuntimeError("the worker is gone")

    monkeypatch.setitem(jobs._STEPS, jobs.JobKind.ARCHIVE, dies)
    jobs.work(most_steps=1)
    monkeypatch.setitem(jobs._STEPS, jobs.JobKind.ARCHIVE, kept)
    _later()
    jobs.work()
    found = _read(b"".join(proved.get(_link(proved, job))))  # type: ignore[arg-type]

    assert sorted(line["address"] for line in found["recipients.jsonl"]) == [
        f"r{number:02}@news.example" for number in range(23)
    ]


def _disk_full(_job: Job) -> bool:
    raise OperationalError("could not extend file") from psycopg.errors.DiskFull("could not extend file")


@pytest.mark.usefixtures("_two_files")
@pytest.mark.parametrize(
    ("bad_end", "said"), [("disk", b"no room left on its disk"), ("worker", b"was lost several times")]
)
def test_a_bad_end_says_so_and_can_be_begun_anew(
    bad_end: str, said: bytes, cast: Cast, proved: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = jobs._STEPS[jobs.JobKind.ARCHIVE]
    job = _ask(proved)
    jobs.work(most_steps=1)
    if bad_end == "disk":
        monkeypatch.setitem(jobs._STEPS, jobs.JobKind.ARCHIVE, _disk_full)
    for _ in range(jobs.MOST_TRIES + 1):
        if bad_end == "worker":  # killed without a word: only the claim and its count are left
            Job.objects.update(state="running", tries=F("tries") + 1, claimed_until=timezone.now())
        else:
            jobs.work()
        _later()
    jobs.work()
    monkeypatch.setitem(jobs._STEPS, jobs.JobKind.ARCHIVE, kept)

    page = proved.get(f"/t/acme/messages/jobs/{job.pk}/").content
    assert said in page
    assert b"Ask anew" in page
    assert not JobPart.objects.exists()
    again = _ask(proved)
    jobs.work()
    assert Job.objects.get(pk=again.pk).state == "done"


@pytest.mark.usefixtures("_two_files")
def test_its_file_ends_with_its_time(cast: Cast, proved: Client) -> None:
    job = _ask(proved)
    jobs.work()
    link = _link(proved, job)

    Job.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert proved.get(link).status_code == 404
    assert jobs.forget_old() == 1
    assert not JobPart.objects.exists()


def test_the_command_line_writes_the_same(cast: Cast, tmp_path: Any) -> None:
    _give_everything(cast)
    target = tmp_path / "acme.zip"

    assert main(["tenant", "export", "acme", "--output", str(target)]) == 0
    found = _read(target.read_bytes())

    assert len(found["recipients.jsonl"]) == len(EXAMPLES)
    assert target.stat().st_mode & 0o777 == 0o600
    assert main(["tenant", "export", "acme", "--output", str(tmp_path / "none" / "acme.zip")]) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["acme.zip"]


def test_a_file_beyond_four_gigabytes_is_read_by_others() -> None:
    """Headers alone: a member of 5 GB of zeros, whose directory stands behind 4 GB."""
    now = timezone.now()
    _data, small_member = zipping.piece(Member("small.txt", now, 5 << 30), b"small", is_last=True)
    large = Member("large.txt", now, 0, crc=1, size=5 << 30, deflated=5 << 30)
    end = zipping.directory([large, small_member], offset=(5 << 30) + 100)

    class Sparse(io.RawIOBase):
        """Holds the end, and says that it stands behind so much."""

        def __init__(self) -> None:
            self.at = 0
            self.start = (5 << 30) + 100

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = {0: 0, 1: self.at, 2: self.start + len(end)}[whence] + offset
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, size: int = -1) -> bytes:
            begin = self.at - self.start
            data = end[begin:] if size < 0 else end[begin : begin + size]
            self.at += len(data)
            return data

    members = zipfile.ZipFile(Sparse()).infolist()  # type: ignore[arg-type]

    assert [(one.filename, one.file_size, one.header_offset) for one in members] == [
        ("large.txt", 5 << 30, 0),
        ("small.txt", 5, 5 << 30),
    ]
    assert len(zipping.local_header(large)) == 30 + len("large.txt") + 20
