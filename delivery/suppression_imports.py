"""Lists of suppressions that people hand in, taken up in the background with progress, and taken back if need be.

A file is kept until it was read. A worker that dies with a list leaves it to the next, which begins again: doing it twice
changes nothing. Each bad row is told by its line; the others are taken.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog
import zstandard
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery import suppression_files, suppressions
from delivery.acceptance import doorbell
from delivery.models import ImportState, Suppression, SuppressionImport
from delivery.suppression_files import MOST_IMPORTED, Imported
from delivery.suppressions import RESTORABLE, Owner, Target

log = structlog.get_logger(__name__)

MOST_OCTETS = 16 * 1024 * 1024
MOST_WAITING = 3
MOST_BAD_ROWS = 5_000
PREVIEWED = 20
KEPT = RESTORABLE
_CLAIMED_FOR_S = 120


def hand_in(owner: Owner, octets: bytes, *, file_name: str, actor: Actor, language: str = "") -> SuppressionImport:
    """Keep a file for a look at it; ``confirm`` lets it be read. Raises Refused for what is no list, or is too long."""
    assert owner.tenant is not None
    text = read_text(octets)
    lines = sum(1 for line in text.splitlines() if line.strip())
    if lines > MOST_IMPORTED + 1:
        raise Refused(
            _("A list has at most %(count)d lines; this one has %(lines)d.") % {"count": MOST_IMPORTED, "lines": lines},
            reason="list_too_long",
            field="file",
        )
    with transaction.atomic():
        # Who looks at another file has left the one before.
        mine = SuppressionImport.objects.of(owner.tenant).filter(created_by=actor.name[:254])
        mine.filter(state=ImportState.PREVIEW).delete()
        return SuppressionImport.objects.create(
            tenant=owner.tenant,
            stream=owner.stream,
            file_name=_plain_name(file_name),
            compressed=zstandard.ZstdCompressor().compress(text.encode()),
            lines=lines,
            created_by=actor.name[:254],
            peer_address=actor.peer_address,
            language=language[:8],
        )


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A row as it would be taken: its target, or a sentence that says why not."""

    line: int
    text: str
    target: Target | None
    fault: str = ""


def preview(job: SuppressionImport) -> list[PreviewRow]:
    """The first rows. Raises Refused where the file is no CSV."""
    found = []
    for line, text, _expires, _detail in islice(suppression_files.read_csv(_lines(job)), PREVIEWED):
        try:
            found.append(PreviewRow(line, text, suppressions.read_target(text)))
        except Refused as refusal:
            found.append(PreviewRow(line, text, None, refusal.sentence))
    return found


def confirm(job: SuppressionImport) -> None:
    """Let the worker have it. Raises Refused when too many wait."""
    with transaction.atomic():
        # One after the other for a tenant, so that no two requests both find room.
        Tenant.objects.select_for_update().get(pk=job.tenant_id)
        if waiting_of(job.tenant).count() >= MOST_WAITING:
            raise Refused(_("Other lists are being read; try again in a moment."), reason="too_many_imports")
        SuppressionImport.objects.filter(pk=job.pk, state=ImportState.PREVIEW).update(state=ImportState.WAITING)
        transaction.on_commit(doorbell.ring_for_imports)


def discard(job: SuppressionImport) -> None:
    """Nothing was written, nothing stays."""
    SuppressionImport.objects.filter(pk=job.pk, state=ImportState.PREVIEW).delete()


def read_text(octets: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or what spreadsheets write in Japan. Raises Refused."""
    if len(octets) > MOST_OCTETS:
        raise Refused(
            _("The file is larger than %(size)d MB.") % {"size": MOST_OCTETS // 2**20},
            reason="file_too_large",
            field="file",
        )
    codecs = ("utf-16",) if octets.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp932")
    for codec in codecs:
        try:
            text = octets.decode(codec)
        except UnicodeError:
            continue
        if "\0" not in text and text.strip():
            return text
    raise Refused(_("This is no text file with addresses."), reason="no_text", field="file")


def waiting_of(tenant: Tenant) -> QuerySet[SuppressionImport]:
    return SuppressionImport.objects.of(tenant).filter(state__in=(ImportState.WAITING, ImportState.RUNNING))


def recent(tenant: Tenant, *, limit: int = 20) -> list[SuppressionImport]:
    found = SuppressionImport.objects.of(tenant).exclude(state=ImportState.PREVIEW).defer("compressed", "errors")
    return list(found.select_related("stream").order_by("-id")[:limit])


def find_import(key: UUID, *, tenant: Tenant) -> SuppressionImport:
    """Raises NotFound."""
    job = (
        SuppressionImport.objects.of(tenant)
        .defer("compressed")
        .select_related("stream", "tenant")
        .filter(pk=key)
        .first()
    )
    if job is None:
        raise NotFound(_("There is no such import."), field="id")
    return job


# ---------------------------------------------------------------- in the worker


def run_waiting() -> int:
    """Take up what waits; returns how many lists were read."""
    handled = 0
    while (job := _claim()) is not None:
        _run(job)
        handled += 1
    return handled


def _claim() -> SuppressionImport | None:
    with transaction.atomic():
        waiting = Q(state=ImportState.WAITING) | Q(state=ImportState.RUNNING, claimed_until__lt=timezone.now())
        job = SuppressionImport.objects.select_for_update(skip_locked=True, of=("self",)).filter(waiting).first()
        if job is None:
            return None
        job.state = ImportState.RUNNING
        job.claimed_until = timezone.now() + timedelta(seconds=_CLAIMED_FOR_S)
        job.save(update_fields=["state", "claimed_until"])
    return job


def _run(job: SuppressionImport) -> None:
    def show_progress(so_far: Imported) -> None:
        SuppressionImport.objects.filter(pk=job.pk).update(
            read=so_far.read,
            changed=so_far.changed,
            refused=so_far.refused,
            claimed_until=timezone.now() + timedelta(seconds=_CLAIMED_FOR_S),
        )

    actor = Actor(job.created_by, peer_address=job.peer_address)
    try:
        with override(job.language or None):
            done = suppression_files.import_csv(
                Owner(job.tenant, job.stream),
                _lines(job),
                actor=actor,
                progress=show_progress,
                import_id=job.pk,
                most_errors=MOST_BAD_ROWS,
            )
    except Refused as refusal:
        _finish(job, ImportState.FAILED, fault=refusal.sentence[:500])
    else:
        # A second run finds the rows of the first standing; what counts is what the list has put there.
        written = max(done.changed, Suppression.objects.filter(import_id=job.pk).count())
        _finish(
            job,
            ImportState.DONE,
            read=done.read,
            changed=written,
            refused=done.refused,
            errors=[[line, sentence] for line, sentence in done.errors],
        )


def _lines(job: SuppressionImport) -> Iterator[str]:
    octets = zstandard.ZstdDecompressor().decompress(bytes(job.compressed or b""))
    return iter(io.StringIO(octets.decode(), newline=""))


def _finish(job: SuppressionImport, state: ImportState, **values: object) -> None:
    SuppressionImport.objects.filter(pk=job.pk).update(
        state=state, finished_at=timezone.now(), compressed=None, claimed_until=None, **values
    )
    log.info("suppressions_imported", job=str(job.pk), state=state.value)


def forget_old(*, now: datetime | None = None) -> int:
    moment = now or timezone.now()
    left = Q(state=ImportState.PREVIEW, created_at__lt=moment - timedelta(days=1))
    return SuppressionImport.objects.filter(Q(finished_at__lt=moment - KEPT) | left).delete()[0]


# ---------------------------------------------------------------- taking it back


def undo(job: SuppressionImport, *, actor: Actor) -> int:
    """Remove what the list put there and still stands; what was in force before it stays. Raises Refused."""
    with transaction.atomic():
        if not SuppressionImport.objects.filter(
            pk=job.pk, state__in=(ImportState.DONE, ImportState.FAILED), finished_at__gt=timezone.now() - KEPT
        ).update(state=ImportState.UNDONE):
            raise Refused(_("It cannot be taken back any more."), reason="not_undoable")
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE delivery_suppression SET removed_at = now(), removed_by = %s, removed_reason = %s
                   WHERE import_id = %s AND tenant_id = %s AND removed_at IS NULL""",
                [actor.name[:254], _("The import was taken back.")[:500], job.pk, job.tenant_id],
            )
            removed = int(cursor.rowcount)
        audit.record(
            actor,
            "suppression.import_undo",
            tenant=job.tenant,
            object_id=job.pk,
            object_name=job.file_name,
            after={"removed": removed},
        )
    return removed


def _plain_name(name: str) -> str:
    return "".join(character for character in name.rpartition("/")[2] if character.isprintable())[:200]
