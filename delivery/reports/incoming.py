"""Reading what came back: claimed rows, each acted on once, whoever dies in between.

A row is claimed for a while; a worker that dies with it leaves it to the next, and one that nobody survives is put aside
after ``MOST_TRIES``. Parsing is bounded in time and memory, and what it finds is acted on in one transaction with the mark
that it was handled. Whatever a report says, it reaches its own signed recipient and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
import zstandard
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.refusals import NotFound
from delivery import unsubscribes
from delivery.content_store import StoreTrouble
from delivery.core.aggregates import find_aggregates
from delivery.core.reports import Kind, Report
from delivery.models import Message, Recipient, ReturnedKind, ReturnedMail
from delivery.partitions import UNTIL_DELIVERED
from delivery.reports import aggregates, complaints, desk, returned
from delivery.reports.reading import read_returned

log = structlog.get_logger(__name__)

MOST_TRIES = 3
KEPT = timedelta(days=30)
_CLAIMED_FOR = timedelta(minutes=5)
_AT_ONCE = 10
# A report may overtake our own note that its mail was delivered.
_LOOK_AGAIN = timedelta(seconds=30)
_PATIENCE = timedelta(days=1)

POISON, UNREADABLE = "poison", "unreadable"


class NotYet(Exception):
    """It cannot be judged before something else has been settled."""


def read_waiting() -> int:
    """Read what waits; returns how many were handled."""
    handled = 0
    while True:
        claimed = _claim()
        for key in claimed:
            handled += _read(key)
        if len(claimed) < _AT_ONCE:
            return handled


def forget_old(*, now: datetime | None = None) -> int:
    return ReturnedMail.objects.filter(received_at__lt=(now or timezone.now()) - KEPT).delete()[0]


def _claim() -> list[UUID]:
    """In a transaction of its own, so that a try is counted even if it kills us."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE delivery_returnedmail SET claimed_until = now() + make_interval(secs => %s), tries = tries + 1
               WHERE id IN (SELECT id FROM delivery_returnedmail
                            WHERE handled_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
                            ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
               RETURNING id""",
            [_CLAIMED_FOR.total_seconds(), _AT_ONCE],
        )
        return sorted(row[0] for row in cursor.fetchall())


def _read(key: UUID) -> bool:
    row = ReturnedMail.objects.get(pk=key)
    if row.tries > MOST_TRIES:
        log.error("returned_mail_put_aside", returned=str(row.pk), kind=row.kind)
        return _finish(row, lambda: POISON)
    try:
        act = _reading(row)
        return _finish(row, act)
    except (NotYet, StoreTrouble):
        ReturnedMail.objects.filter(pk=row.pk).update(claimed_until=timezone.now() + _LOOK_AGAIN, tries=0)
    except DatabaseError:
        raise
    except Exception:
        # The edge: whatever a stranger wrote, the others are read all the same; the claim runs out, and tries are counted.
        log.exception("returned_mail_not_read", returned=str(row.pk), kind=row.kind)
    return False


def _finish(row: ReturnedMail, act: Callable[[], str]) -> bool:
    """Act and note it, together and once."""
    with transaction.atomic():
        locked = ReturnedMail.objects.select_for_update().filter(pk=row.pk, handled_at=None).only("pk").first()
        if locked is None:
            return False
        outcome = act()
        ReturnedMail.objects.filter(pk=row.pk).update(handled_at=timezone.now(), outcome=outcome[:30])
        if _is_private(row):
            ReturnedMail.objects.filter(pk=row.pk).update(compressed=b"")
    log.info("returned_mail_read", returned=str(row.pk), kind=row.kind, outcome=outcome)
    return True


def _is_private(row: ReturnedMail) -> bool:
    """Whether it may repeat a mail whose tenant keeps no content after delivery."""
    if row.recipient_id is None:
        return False
    about = Recipient.objects.filter(pk=row.recipient_id).values("message_id")
    return Message.objects.filter(pk__in=about, retention_days=UNTIL_DELIVERED).exists()


def _reading(row: ReturnedMail) -> Callable[[], str]:
    """What is to be done about it, found out before any transaction."""
    try:
        # Compressed by ourselves, from no more than the listener takes.
        content = zstandard.ZstdDecompressor().decompress(bytes(row.compressed))
    except zstandard.ZstdError:
        return lambda: UNREADABLE
    match ReturnedKind(row.kind):
        case ReturnedKind.BOUNCE | ReturnedKind.FEEDBACK:
            report = read_returned(content)
            return lambda: _act_on_report(row, report)
        case ReturnedKind.UNSUBSCRIBE:
            return lambda: _unsubscribe(row)
        case ReturnedKind.POSTMASTER | ReturnedKind.ABUSE:
            return lambda: desk.forward(row, content)
        case ReturnedKind.DMARC | ReturnedKind.TLS:
            found = find_aggregates(content)
            return lambda: aggregates.take(row, found)


def _act_on_report(row: ReturnedMail, report: Report) -> str:
    if report.kind is Kind.COMPLAINT:
        return complaints.take(row, report)
    if row.kind == ReturnedKind.BOUNCE and report.kind is Kind.BOUNCE:
        outcome = returned.take(row, report)
        if outcome == returned.STILL_OPEN and timezone.now() - row.received_at < _PATIENCE:
            raise NotYet
        return outcome
    return report.kind.value


def _unsubscribe(row: ReturnedMail) -> str:
    try:
        subscription = unsubscribes.find_of(row.recipient_id) if row.recipient_id else None
    except NotFound:
        subscription = None
    if subscription is None:
        return "unknown"
    unsubscribes.unsubscribe(subscription, how=unsubscribes.MAIL)
    return "unsubscribed"
