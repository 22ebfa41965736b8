"""Work on all that a filter of the send log finds, in steps that a kill can neither lose nor double.

A step is one short transaction: it reads the next recipients by their keys, does what is asked, and writes down how far it
came. The table holds the truth; the task that drives it may be lost, and the next beat goes on. What is accepted while a job
runs is not in it: its period is fixed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

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
from delivery import changes, exports, history, log_filters
from delivery.core.states import OPEN
from delivery.log_filters import LogFilter
from delivery.models import Job, JobKind, JobPart, JobState
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


def fixed(kind: JobKind, narrowed: LogFilter) -> LogFilter:
    """A change concerns open mail only."""
    if kind == JobKind.EXPORT:
        return narrowed
    return replace(narrowed, states=(narrowed.states & OPEN) or (OPEN if not narrowed.states else frozenset()))


def open_jobs(tenant: Tenant) -> int:
    return Job.objects.of(tenant).filter(state__in=[JobState.WAITING, JobState.RUNNING]).count()


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
        _end(job, JobState.FAILED)
        log.error("job_failed", job=str(job.id), kind=job.kind)
        return True
    try:
        with transaction.atomic():
            # Cancelled meanwhile, or taken over by another: then nothing of this step may stay.
            if (
                not Job.objects.select_for_update()
                .filter(pk=job_id, state=JobState.RUNNING, cursor=job.cursor)
                .exists()
            ):
                return True
            is_last = _export(job) if job.kind == JobKind.EXPORT else _change(job)
            job.claimed_until, job.tries = None, 0
            if is_last:
                job.state, job.ended_at = JobState.DONE, timezone.now()
            job.save()
    except Exception:  # one job's trouble must not keep the others waiting; it is tried again, and then given up
        log.exception("job_step_failed", job=str(job.id), kind=job.kind)
    return True


def _end(job: Job, state: JobState) -> None:
    JobPart.objects.filter(job_id=job.pk).delete()
    Job.objects.filter(pk=job.pk).update(state=state, ended_at=timezone.now(), claimed_until=None)


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
