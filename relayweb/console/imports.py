"""Lists of suppressions as files: looked at, taken up in the background with progress, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from accounts.refusals import NotFound, Refused
from delivery import suppression_files, suppression_imports
from delivery.models import ImportState, Stream, SuppressionImport
from delivery.suppressions import Owner
from relayweb.console import messages, suppression_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.suppressions import csv_answer

MOST_ERRORS_SHOWN = 100


class ImportForm(ConsoleForm):
    file = forms.FileField(
        label=_("File"),
        help_text=_("CSV or text, one address, domain or pattern a line, up to 100,000 lines and 16 MB."),
    )
    stream = forms.ChoiceField(label=_("Whose mail"), required=False)

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._streams = {str(stream.pk): stream for stream in Stream.objects.of(seat.tenant).order_by("name")}
        self.fields["stream"].choices = [  # type: ignore[attr-defined]
            ("", gettext("all mail of this tenant")),
            *((key, f"{stream.name} ({words.STREAM_KINDS[stream.kind]})") for key, stream in self._streams.items()),
        ]

    @property
    def chosen_stream(self) -> Stream | None:
        return self._streams.get(self.cleaned_data["stream"])


@dataclass(frozen=True, slots=True)
class Standing:
    """An import as it stands; ``seen`` changes when anything does."""

    job: SuppressionImport
    mark: words.Mark
    percent: int
    is_open: bool
    may_undo: bool

    @property
    def seen(self) -> str:
        return f"{self.job.state}-{self.job.read}"


def standing_of(job: SuppressionImport) -> Standing:
    is_open = job.state in (ImportState.WAITING, ImportState.RUNNING)
    done = job.state in (ImportState.DONE, ImportState.UNDONE)
    percent = 100 if done else min(99, job.read * 100 // max(1, job.lines))
    may_undo = job.state in (ImportState.DONE, ImportState.FAILED) and (
        job.finished_at is not None and timezone.now() < job.finished_at + suppression_imports.KEPT
    )
    return Standing(job, suppression_words.IMPORT_STATES[ImportState(job.state)], percent, is_open, may_undo)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def begin(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = ImportForm(seat, request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            job = suppression_imports.hand_in(
                Owner(seat.tenant, form.chosen_stream),
                file.read(suppression_imports.MOST_OCTETS + 1),
                file_name=file.name,
                actor=seat.actor,
                language=get_language() or "",
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            return redirect("suppression-import", slug=seat.tenant.slug, import_id=job.pk)
    context = {
        "section": "suppressions",
        "form": form,
        "earlier": [standing_of(job) for job in suppression_imports.recent(seat.tenant)],
    }
    return render(request, "console/suppressions/import.html", context)


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponse:
    job = _found(seat, import_id)
    context = {"section": "suppressions", "standing": standing_of(job), "job": job}
    if job.state == ImportState.PREVIEW:
        try:
            context["rows"] = suppression_imports.preview(job)
        except Refused as refusal:
            context |= {"rows": [], "fault": refusal.sentence}
        return render(request, "console/suppressions/preview.html", context)
    return render(request, "console/suppressions/progress.html", context | _errors(job))


@tenant_page()
@require_safe
def live(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponse:
    job = _found(seat, import_id)
    standing = standing_of(job)
    if request.GET.get("seen") == standing.seen:
        return messages.unchanged(timezone.now())
    context = {"standing": standing, "job": job, **_errors(job)}
    return render(request, "console/suppressions/_progress.html", context)


def _errors(job: SuppressionImport) -> dict[str, object]:
    return {"errors": job.errors[:MOST_ERRORS_SHOWN], "untold": max(0, job.refused - MOST_ERRORS_SHOWN)}


@tenant_page(Role.DEVELOPER)
@require_POST
def confirm(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponse:
    job = _found(seat, import_id)
    try:
        suppression_imports.confirm(job)
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("suppression-import", slug=seat.tenant.slug, import_id=job.pk)


@tenant_page(Role.DEVELOPER)
@require_POST
def discard(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponse:
    suppression_imports.discard(_found(seat, import_id))
    tell(request, gettext("The file was left out; nothing has changed."))
    return redirect("suppression-import-new", slug=seat.tenant.slug)


@tenant_page(Role.DEVELOPER)
@require_POST
def undo(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponse:
    job = _found(seat, import_id)
    try:
        removed = suppression_imports.undo(job, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("Taken back: {n} entries were removed.").format(n=f"{removed:,}"))
    return redirect("suppression-import", slug=seat.tenant.slug, import_id=job.pk)


@tenant_page()
@require_safe
def bad_rows(request: HttpRequest, seat: Seat, import_id: UUID) -> HttpResponseBase:
    """Every bad row that was kept, as CSV."""
    job = _found(seat, import_id)

    def lines() -> Iterator[str]:
        yield suppression_files.csv_line(("line", "reason"))
        for number, sentence in job.errors:
            yield suppression_files.csv_line((str(number), sentence))

    return csv_answer(lines(), name="bad-rows")


def _found(seat: Seat, key: UUID) -> SuppressionImport:
    try:
        return suppression_imports.find_import(key, tenant=seat.tenant)
    except NotFound:
        raise Http404 from None
