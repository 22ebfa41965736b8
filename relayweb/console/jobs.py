"""Work on all that a filter of the send log finds: asked for with count and sample, watched, cancelled, downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role, Tenant
from accounts.refusals import Refused
from delivery import history, jobs
from delivery.acceptance import doorbell
from delivery.models import LOG_KINDS, Job, JobFault, JobKind, JobState
from delivery.time_limit import TookTooLong
from relayweb.console import entering, job_words, stories, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.entering import proved_page
from relayweb.console.forms import tell, tell_refusal
from relayweb.console.messages import LogQuery, chips_of, unchanged

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
TYPES = {**FORMATS, "zip": "application/zip"}
WITH_FILE = frozenset({JobKind.EXPORT, JobKind.ARCHIVE})
SAMPLE = 5
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Shown:
    job: Job
    title: words.Text
    mark: words.Mark
    answer: str
    is_open: bool
    has_file: bool
    fault: words.Text = ""


@tenant_page()
@require_safe
def job_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    found = Job.objects.of(seat.tenant).exclude(kind=JobKind.ARCHIVE).order_by("-id")[:SHOWN]
    context = {"section": "messages", "shown": [_shown(job) for job in found]}
    return render(request, "console/jobs/list.html", context)


@tenant_page()
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, seat: Seat, kind: str) -> HttpResponse:
    """What will happen to how many, and then it is asked for. The filter travels in the page's address."""
    wanted = _kind(kind)
    if wanted != JobKind.EXPORT and not seat.may_set_up:
        raise PermissionDenied
    now = timezone.now()
    query = LogQuery.read(request.GET)
    narrowed = jobs.fixed(wanted, query.narrowed(now))
    file_format = request.POST.get("format", "csv")
    if request.method == "POST" and (wanted != JobKind.EXPORT or file_format in FORMATS):
        try:
            job = jobs.ask_for(
                seat.tenant,
                wanted,
                query.narrowed(now),
                query=query.encoded,
                actor=seat.actor,
                file_format=file_format if wanted == JobKind.EXPORT else "",
            )
        except Refused as refusal:
            tell_refusal(request, refusal)
        except TookTooLong:
            return render(
                request, "console/jobs/ask.html", {**_ask_words(wanted), "query": query, "took_too_long": True}
            )
        else:
            doorbell.ring_for_jobs()
            return redirect("job", slug=seat.tenant.slug, job_id=job.id)
    context = {"section": "messages", "query": query, "chips": chips_of(query, history.choices_of(seat.tenant))}
    try:
        context["counted"] = history.tally(seat.tenant, narrowed)
        page = history.page_of_recipients(seat.tenant, narrowed, size=SAMPLE)
        context["sample"] = [stories.line_of(row) for row in page.rows]
    except TookTooLong:
        context["took_too_long"] = True
    return render(request, "console/jobs/ask.html", {**context, **_ask_words(wanted)})


def _ask_words(kind: JobKind) -> dict[str, object]:
    return {"kind": kind, "about": job_words.JOBS[kind], "is_export": kind == JobKind.EXPORT}


@tenant_page(Role.ADMIN)
@proved_page
@require_http_methods(["GET", "HEAD", "POST"])
def ask_for_everything(request: HttpRequest, seat: Seat) -> HttpResponse:
    """What will be in it, and then it is asked for."""
    if request.method == "POST":
        try:
            job = jobs.ask_for_archive(seat.tenant, actor=seat.actor)
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            doorbell.ring_for_jobs()
            return redirect("job", slug=seat.tenant.slug, job_id=job.id)
    context = {
        "section": "settings",
        "about": job_words.JOBS[JobKind.ARCHIVE],
        "last": shown_last_archive(seat.tenant),
    }
    return render(request, "console/settings/archive.html", context)


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, job_id: UUID) -> HttpResponse:
    job = _found(seat, job_id)
    if job.kind == JobKind.ARCHIVE:
        context = {"section": "settings", "one": _shown(job), **_file_of(job)}
        return render(request, "console/settings/archive_job.html", context)
    context = {"section": "messages", "one": _shown(job), "query": _query(job)}
    context["chips"] = chips_of(context["query"], history.choices_of(seat.tenant))  # type: ignore[arg-type]
    return render(request, "console/jobs/job.html", {**context, **_file_of(job)})


@tenant_page()
@require_safe
def live(request: HttpRequest, seat: Seat, job_id: UUID) -> HttpResponse:
    """How far it is; 204 while that is as far as before."""
    job = _found(seat, job_id)
    if request.GET.get("seen") == _seen(job):
        return unchanged(timezone.now())
    return render(request, "console/jobs/_progress.html", {"one": _shown(job), "seen": _seen(job), **_file_of(job)})


@tenant_page()
@require_POST
def cancel(request: HttpRequest, seat: Seat, job_id: UUID) -> HttpResponse:
    job = _found(seat, job_id)
    if job.person_id != seat.person.pk and not seat.may_set_up:
        raise PermissionDenied
    if jobs.cancel(job, actor=seat.actor):
        tell(request, gettext("Stopped. What was done before stays done."))
    return redirect("job", slug=seat.tenant.slug, job_id=job.id)


@tenant_page()
@require_safe
def file(request: HttpRequest, seat: Seat, job_id: UUID) -> HttpResponse:
    """The file, part by part: for members, through the signed link of this job, until it ends."""
    job = _found(seat, job_id)
    if job.kind == JobKind.ARCHIVE and not entering.is_proved(request):
        return entering.to_proof(request, back=reverse("job", args=[seat.tenant.slug, job.id]))
    if job.kind not in WITH_FILE or job.state != JobState.DONE or not jobs.is_file_key(job, request.GET.get("key", "")):
        raise Http404
    if job.kind == JobKind.ARCHIVE and request.method == "GET":
        jobs.note_download(job, actor=seat.actor)
    numbers = jobs.file_parts(job)

    def parts() -> Iterator[bytes]:
        for number in numbers:
            yield jobs.read_part(job, number)

    what = "everything" if job.kind == JobKind.ARCHIVE else "send-log"
    name = f"{seat.tenant.slug}-{what}-{job.created_at:%Y%m%d-%H%M}.{job.file_format}"
    streamed = StreamingHttpResponse(
        parts(),
        content_type=TYPES[job.file_format],
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(job.size_bytes)},
    )
    return cast(HttpResponse, streamed)


def shown_last_archive(tenant: Tenant) -> Shown | None:
    last = jobs.last_archive(tenant)
    return _shown(last) if last else None


def _found(seat: Seat, job_id: UUID) -> Job:
    job = Job.objects.of(seat.tenant).select_related("tenant").filter(pk=job_id).first()
    if job is None:
        raise Http404
    if job.kind == JobKind.ARCHIVE and not seat.may_manage:
        raise PermissionDenied
    return job


def _kind(kind: str) -> JobKind:
    """Of what a filter is asked for."""
    try:
        wanted = JobKind(kind)
    except ValueError:
        raise Http404 from None
    if wanted not in LOG_KINDS:
        raise Http404
    return wanted


def _query(job: Job) -> LogQuery:
    return LogQuery.read(QueryDict(job.query))


def _seen(job: Job) -> str:
    return f"{job.state}-{job.looked_at}-{job.changed}"


def _file_of(job: Job) -> dict[str, object]:
    has_file = job.kind in WITH_FILE and job.state == JobState.DONE and job.expires_at > timezone.now()
    return {"seen": _seen(job), "file_key": jobs.file_key(job) if has_file else ""}


def _shown(job: Job) -> Shown:
    state = JobState(job.state)
    return Shown(
        job=job,
        title=job_words.JOBS[JobKind(job.kind)].title,
        mark=job_words.JOB_STATES[state],
        answer=_answer(job, state),
        is_open=state in {JobState.WAITING, JobState.RUNNING},
        has_file=job.kind in WITH_FILE and state == JobState.DONE,
        fault=job_words.JOB_FAULTS[JobFault(job.fault)] if state == JobState.FAILED and job.fault else "",
    )


def _answer_of_archive(job: Job, state: JobState) -> str:
    lines = f"{job.changed:,}"
    match state:
        case JobState.WAITING:
            return gettext("Waiting for its turn; usually a few seconds.")
        case JobState.RUNNING:
            return gettext("{n} of {all} files are written, {lines} lines so far.").format(
                n=job.looked_at, all=job.found, lines=lines
            )
        case JobState.CANCELLED:
            return gettext("Stopped; nothing of it is kept.")
        case JobState.FAILED:
            return gettext("It ended without a file.")
        case JobState.DONE:
            return gettext("{all} files with {lines} lines are ready.").format(all=job.found, lines=lines)


def _answer(job: Job, state: JobState) -> str:
    if job.kind == JobKind.ARCHIVE:
        return _answer_of_archive(job, state)
    found = f"{job.found:,}" if job.is_found_exact else gettext("{n} or more").format(n=f"{job.found:,}")
    match state:
        case JobState.WAITING:
            return gettext("Waiting for its turn; usually a few seconds.")
        case JobState.RUNNING:
            return gettext("{n} of {found} done.").format(n=f"{job.looked_at:,}", found=found)
        case JobState.CANCELLED:
            return gettext("Stopped after {n} of {found}.").format(n=f"{job.looked_at:,}", found=found)
        case JobState.FAILED:
            return gettext("A fault of ours ended it after {n} of {found}.").format(n=f"{job.looked_at:,}", found=found)
        case JobState.DONE:
            if job.kind == JobKind.EXPORT:
                return gettext("{n} lines are ready.").format(n=f"{job.changed:,}")
            done = gettext("{n} of {looked} open recipients were changed.").format(
                n=f"{job.changed:,}", looked=f"{job.looked_at:,}"
            )
            if job.in_hand:
                done += " " + gettext("{n} were being sent at that moment and stayed as they were.").format(
                    n=f"{job.in_hand:,}"
                )
            return done
