"""Work on all that a filter of the send log finds, and the archive of everything a tenant has.

It is done in steps that a kill can neither lose nor double.

A step is one short transaction: it reads the next recipients by their keys, does what is asked, and writes down how far it
came. The table holds the truth; the task that drives it may be lost, and the next beat goes on. What is accepted while a job
runs is not in it: its period is fixed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import psycopg
import structlog
from django.core import signing
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery import archive, changes, exports, history, log_filters
from delivery.core import zipping
from delivery.core.states import OPEN
from delivery.core.zipping import Member
from delivery.log_filters import LogFilter
from delivery.models import Job, JobFault, JobKind, JobPart, JobState
from delivery.queue import control

log = structlog.get_logger(__name__)

KEPT = timedelta(days=7)
AT_ONCE = 5  # jobs of a tenant that may wait or run
MOST_TRIES = 5
_EXPORTED_AT_ONCE = 5000
_CHANGED_AT_ONCE = 500
_LEASE = timedelta(minutes=2)
_SALT = "delivery.jobs.file"


def ask_for(
    tenant: Tenant, kind: JobKind, narrowed: LogFilter, *, query: str, actor: Actor, file_format: str = ""
) -> Job:
    """Written down; housekeeping does it. Raises Refused when too many of the tenant's jobs are open."""
    now = timezone.now()
    narrowed = fixed(kind, replace(narrowed, until=min(narrowed.until or now, now)))
    counted = history.tally(tenant, narrowed)
    with transaction.atomic():
        # One after the other, so that two clicks at once are counted as two.
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        if open_jobs(tenant) >= AT_ONCE:
            raise Refused(
                _("%(n)s jobs are waiting or running already. Let one end, or cancel it.") % {"n": AT_ONCE},
                reason="jobs_too_many",
            )
        job = Job.objects.create(
            tenant=tenant,
            person=actor.user,
            person_name=actor.name[:254],
            kind=kind,
            file_format=file_format,
            wanted=log_filters.as_json(narrowed),
            query=query,
            found=counted.total,
            is_found_exact=counted.is_exact,
            expires_at=now + KEPT,
        )
        audit.record(
            actor,
            f"log.{kind}",
            tenant=tenant,
            object_id=job.id,
            object_name=query,
            after={"filter": query, "found": counted.total, "exact": counted.is_exact},
        )
    return job


def ask_for_archive(tenant: Tenant, *, actor: Actor) -> Job:
    """Everything the tenant has, as one file. Raises Refused while one is being made; the one before goes when it is done."""
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        if _open(tenant).filter(kind=JobKind.ARCHIVE).exists():
            raise Refused(_("An export of everything is being made already."), reason="archive_under_way")
        job = Job.objects.create(
            tenant=tenant,
            person=actor.user,
            person_name=actor.name[:254],
            kind=JobKind.ARCHIVE,
            file_format="zip",
            wanted={},
            found=len(archive.SECTIONS),
            expires_at=timezone.now() + KEPT,
        )
        audit.record(actor, "tenant.export", tenant=tenant, object_id=job.id, object_name=tenant.slug)
    return job


def note_download(job: Job, *, actor: Actor) -> None:
    """Somebody takes everything a tenant has away."""
    audit.record(actor, "tenant.export_download", tenant=job.tenant, object_id=job.id, object_name=job.tenant.slug)


def last_archive(tenant: Tenant) -> Job | None:
    return Job.objects.of(tenant).filter(kind=JobKind.ARCHIVE).order_by("-id").first()


def fixed(kind: JobKind, narrowed: LogFilter) -> LogFilter:
    """A change concerns open mail only."""
    if kind == JobKind.EXPORT:
        return narrowed
    return replace(narrowed, states=(narrowed.states & OPEN) or (OPEN if not narrowed.states else frozenset()))


def open_jobs(tenant: Tenant) -> int:
    return _open(tenant).count()


def _open(tenant: Tenant) -> Any:
    return Job.objects.of(tenant).filter(state__in=[JobState.WAITING, JobState.RUNNING])


def cancel(job: Job, *, actor: Actor) -> bool:
    """False when it had ended already. What is done stays done; an unfinished file is thrown away."""
    with transaction.atomic():
        cancelled = Job.objects.filter(pk=job.pk, state__in=[JobState.WAITING, JobState.RUNNING]).update(
            state=JobState.CANCELLED, ended_at=timezone.now(), claimed_until=None
        )
        if cancelled:
            JobPart.objects.filter(job_id=job.pk).delete()
            audit.record(actor, "job.cancel", tenant=job.tenant, object_id=job.pk, object_name=job.kind)
    return bool(cancelled)


# ---------------------------------------------------------------- doing it


def work(*, most_steps: int = 200) -> int:
    """Do steps of the jobs that wait, in turn, the oldest first; returns how many. Safe beside itself."""
    steps = 0
    while steps < most_steps:
        job_ids = list(_claimable().order_by("id").values_list("id", flat=True)[:AT_ONCE])
        done = sum(_step(job_id) for job_id in job_ids)
        steps += done
        if not done:
            return steps
    return steps


def _claimable() -> Any:
    now = timezone.now()
    return Job.objects.filter(state__in=[JobState.WAITING, JobState.RUNNING]).filter(
        Q(claimed_until=None) | Q(claimed_until__lt=now)
    )


def _step(job_id: UUID) -> bool:
    """One step of a job that nobody else is at; False when there was none to take."""
    # Counted before the work, and taken back by its success, so that a job which kills its worker comes to an end.
    taken = (
        _claimable()
        .filter(pk=job_id)
        .update(state=JobState.RUNNING, claimed_until=timezone.now() + _LEASE, tries=F("tries") + 1)
    )
    if not taken:
        return False
    job = Job.objects.select_related("tenant").get(pk=job_id)
    if job.tries > MOST_TRIES:
        fault = job.fault or JobFault.WORKER_LOST
        _fail(job, fault)
        log.error("job_failed", job=str(job.id), kind=job.kind, fault=fault)
        return True
    try:
        with transaction.atomic():
            # Cancelled meanwhile, or taken over by another: then nothing of this step may stay.
            if not _is_as_read(job):
                return True
            is_last = _STEPS.get(JobKind(job.kind), _change)(job)
            job.claimed_until, job.tries, job.fault = None, 0, ""
            if is_last:
                job.state, job.ended_at = JobState.DONE, timezone.now()
            job.save()
    except (
        Exception
    ) as error:  # one job's trouble must not keep the others waiting; it is tried again, and then given up
        log.exception("job_step_failed", job=str(job.id), kind=job.kind)
        Job.objects.filter(pk=job_id, state=JobState.RUNNING).update(fault=_fault_of(error))
    return True


def _is_as_read(job: Job) -> bool:
    """Locks the row, too."""
    far = {name: getattr(job, name) for name in ("cursor", "looked_at", "changed", "size_bytes")}
    return Job.objects.select_for_update().filter(pk=job.pk, state=JobState.RUNNING, **far).exists()


def _fault_of(error: BaseException) -> JobFault:
    return JobFault.DISK_FULL if isinstance(error.__cause__, psycopg.errors.DiskFull) else JobFault.OURS


def _fail(job: Job, fault: str) -> None:
    JobPart.objects.filter(job_id=job.pk).delete()
    Job.objects.filter(pk=job.pk).update(
        state=JobState.FAILED, fault=fault, ended_at=timezone.now(), claimed_until=None
    )


def _export(job: Job) -> bool:
    lines = exports.log_lines(job.tenant, log_filters.from_json(job.wanted), before=job.cursor, size=_EXPORTED_AT_ONCE)
    is_last = len(lines) < _EXPORTED_AT_ONCE
    part = exports.write_part(lines, file_format=job.file_format, is_first=job.cursor is None, is_last=is_last)
    number = JobPart.objects.filter(job_id=job.pk).count()
    JobPart.objects.create(job_id=job.pk, number=number, compressed=exports.compress(part))
    job.looked_at += len(lines)
    job.changed += len(lines)
    job.size_bytes += len(part)
    job.cursor = lines[-1].recipient_id if lines else job.cursor
    return is_last


def _change(job: Job) -> bool:
    found = exports.matching_ids(
        job.tenant, log_filters.from_json(job.wanted), before=job.cursor, size=_CHANGED_AT_ONCE
    )
    if found:
        changed = changes.VERBS[job.kind](control.Which(tenant_id=job.tenant_id, recipient_ids=tuple(found)))
        job.looked_at += len(found)
        job.changed += changed.changed
        job.in_hand += changed.in_hand
        job.cursor = found[-1]
    is_last = len(found) < _CHANGED_AT_ONCE
    if is_last:
        audit.record(
            Actor(job.person_name, user=job.person),
            f"log.{job.kind}_done",
            tenant=job.tenant,
            object_id=job.pk,
            object_name=job.query,
            after={"changed": job.changed, "in_hand": job.in_hand},
        )
    return is_last


# ---------------------------------------------------------------- the archive of everything


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far an archive is. ``header`` is the part that its open member's header goes into."""

    section: int = -1  # before the first of them: the explanations
    after: str | None = None
    bytes_written: int = 0
    header: int = 0
    member: Member | None = None
    finished: tuple[Member, ...] = field(default=())

    @classmethod
    def read(cls, document: dict[str, Any] | None) -> Self:
        if not document:
            return cls()
        member, finished = document["member"], document["finished"]
        return cls(**{
            **document,
            "member": _member_of(member) if member else None,
            "finished": tuple(map(_member_of, finished)),
        })  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        for member in filter(None, [document["member"], *document["finished"]]):
            member["modified"] = member["modified"].isoformat()
        return document


def _member_of(document: dict[str, Any]) -> Member:
    return Member(**{**document, "modified": datetime.fromisoformat(document["modified"])})


def _archive(job: Job) -> bool:
    """The next page of the next section; at last the directory."""
    at = _Progress.read(job.progress)
    if at.section == len(archive.SECTIONS):
        job.size_bytes = at.bytes_written + _add_part(job, zipping.directory(at.finished, offset=at.bytes_written))
        _forget_former(job)
        return True
    name, data, after = _next_lines(job, at)
    if at.member is None:
        header = JobPart.objects.filter(job_id=job.pk).count()
        at = replace(at, member=Member(name, job.created_at, at.bytes_written), header=header)
        _add_part(job, b"")
    assert at.member is not None
    written, member = zipping.piece(at.member, data, is_last=after is None)
    _add_part(job, written)
    at = replace(at, member=member, after=after)
    if after is None:
        head = zipping.local_header(member)
        JobPart.objects.filter(job_id=job.pk, number=at.header).update(compressed=exports.compress(head))
        at = replace(
            at,
            section=at.section + 1,
            member=None,
            finished=(*at.finished, member),
            bytes_written=member.offset + len(head) + member.deflated,
        )
    job.progress, job.looked_at, job.size_bytes = at.as_json(), max(0, at.section), at.bytes_written
    return False


def _next_lines(job: Job, at: _Progress) -> tuple[str, bytes, str | None]:
    """The name of the file, what is written into it, and where it goes on; None at its end."""
    if at.section < 0:
        language = job.person.language if job.person else ""
        text = archive.read_me(job.tenant, until=job.created_at, language=language or job.tenant.language)
        return "README.txt", text, None
    section = archive.SECTIONS[at.section]
    lines, after = section.read(job.tenant, job.created_at, at.after)
    job.changed += len(lines)
    return section.name, archive.write_lines(lines), after


def _add_part(job: Job, data: bytes) -> int:
    number = JobPart.objects.filter(job_id=job.pk).count()
    JobPart.objects.create(job_id=job.pk, number=number, compressed=exports.compress(data))
    return len(data)


def _forget_former(job: Job) -> None:
    """One archive of a tenant is kept, so that asking often fills no disk."""
    former = Job.objects.of(job.tenant_id).filter(kind=JobKind.ARCHIVE, id__lt=job.pk)
    JobPart.objects.filter(job_id__in=former.values("id")).delete()
    former.delete()


_STEPS = {JobKind.EXPORT: _export, JobKind.ARCHIVE: _archive}


def forget_old() -> int:
    """Files and jobs past their time; returns how many jobs went."""
    old = list(Job.objects.filter(expires_at__lt=timezone.now()).values_list("id", flat=True)[:500])
    with transaction.atomic():
        JobPart.objects.filter(job_id__in=old).delete()
        return Job.objects.filter(id__in=old).delete()[0]


# ---------------------------------------------------------------- the file


def file_key(job: Job) -> str:
    """Signs the tenant, the job and the end of its time: part of the link, which opens nothing else and ends with the file."""
    return signing.Signer(salt=_SALT).signature(_signed_words(job))


def is_file_key(job: Job, key: str) -> bool:
    if job.expires_at <= timezone.now():
        return False
    try:
        signing.Signer(salt=_SALT).unsign(f"{_signed_words(job)}:{key}")
    except signing.BadSignature:
        return False
    return True


def _signed_words(job: Job) -> str:
    return f"{job.tenant_id.hex}.{job.pk.hex}.{int(job.expires_at.timestamp())}"


def file_parts(job: Job) -> Sequence[int]:
    return list(JobPart.objects.filter(job_id=job.pk).order_by("number").values_list("number", flat=True))


def read_part(job: Job, number: int) -> bytes:
    """Each by itself, so that nothing is held open while a slow reader takes the file."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT compressed FROM delivery_job_part WHERE job_id = %s AND number = %s", [job.pk, number])
        found = cursor.fetchone()
    return exports.decompress(bytes(found[0])) if found else b""
