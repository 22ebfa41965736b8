"""Content is kept for as long as its tenant chose, and not longer: day partitions of a retention class are dropped.

What an open recipient still needs is never dropped: its day stays until nothing of it is open, and loses the rest of its
rows at once. What a tenant chooses counts for mail accepted afterwards; what was accepted before keeps its class.

A class of its own holds what may be kept until it is delivered and not longer. Its tables hold hardly more than open mail, so
they are looked through every few seconds: whoever died in between, content without an open recipient is found and deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.identifiers import first_of
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery import content_sweep
from delivery.content_sweep import POINTS_ELSEWHERE
from delivery.partitions import CONTENT, DROP_DAY, RETENTION_DAYS, UNTIL_DELIVERED

log = structlog.get_logger(__name__)

# Dropping needs the whole table for a moment. It waits for that no longer than acceptance can bear, and tries again later.
_LOCK_TIMEOUT_MS = 1_000
_DELETED_AT_ONCE = 2_000
# A report that is owed to the reverse-path repeats the header section (RFC 3462 §2), and is usually written within seconds.
_REPORT_WAITED_FOR = timedelta(minutes=10)


def choose_retention(tenant: Tenant, days: int, *, actor: Actor) -> None:
    """For the content of mail accepted from now on, within seconds. Raises Refused for other than the classes."""
    if days not in RETENTION_DAYS:
        raise Refused(
            _("Content is kept for {days} days.").format(days=", ".join(map(str, RETENTION_DAYS))),
            reason="retention_unknown",
            field="days",
        )
    before = tenant.content_retention_days
    if before == days:
        return
    with transaction.atomic():
        Tenant.objects.filter(pk=tenant.pk).update(content_retention_days=days)
        audit.record(
            actor, "tenant.update", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"content_retention_days": before}, after={"content_retention_days": days},
        )  # fmt: skip
    tenant.refresh_from_db()


def choose_privacy(tenant: Tenant, *, keeps_content: bool, actor: Actor) -> None:
    """Whether the content of mail accepted from now on, within seconds, is kept after its last recipient has a result."""
    if tenant.keeps_content_after_delivery == keeps_content:
        return
    with transaction.atomic():
        Tenant.objects.filter(pk=tenant.pk).update(keeps_content_after_delivery=keeps_content)
        audit.record(
            actor, "tenant.update", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"keeps_content_after_delivery": not keeps_content},
            after={"keeps_content_after_delivery": keeps_content},
        )  # fmt: skip
    tenant.refresh_from_db()


def drop_delivered(*, now: datetime | None = None) -> int:
    """Delete the content that is kept until it is delivered, where no recipient is open any more. How many contents went.

    Content and queue entries come in one transaction and entries are never added later, so none that is needed is met.
    """
    waited_for = (now or timezone.now()) - _REPORT_WAITED_FOR
    deleted = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""DELETE FROM delivery_content WHERE retention_days = %(kind)s AND message_id IN (
                       SELECT message_id FROM delivery_content AS content WHERE content.retention_days = %(kind)s
                       AND NOT EXISTS (SELECT 1 FROM delivery_queue_entry AS entry WHERE entry.message_id = content.message_id)
                       AND content.message_id NOT IN (
                           SELECT message_id FROM delivery_owed_dsn WHERE written_at IS NULL AND happened_at > %(since)s)
                       LIMIT %(most)s) RETURNING message_id, retention_days, {POINTS_ELSEWHERE}""",
                {"kind": UNTIL_DELIVERED, "since": waited_for, "most": _DELETED_AT_ONCE},
            )
            rows = cursor.fetchall()
        content_sweep.gone([(message_id, kind) for message_id, kind, is_elsewhere in rows if is_elsewhere])
        deleted += len(rows)
        if len(rows) < _DELETED_AT_ONCE:
            return deleted


def drop_old(*, now: datetime | None = None) -> list[str]:
    """The names of the partitions that went. A table that is busy, or whose mail is open, is left for the next time."""
    moment = now or timezone.now()
    dropped = []
    for name, retention, day in _day_partitions():
        if day + timedelta(days=retention + 1) > moment:
            continue
        lower, upper = first_of(day), first_of(day + timedelta(days=1))
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
                cursor.execute(
                    "SELECT DISTINCT message_id FROM delivery_queue_entry WHERE message_id >= %s AND message_id < %s",
                    [lower, upper],
                )
                if needed := [key for (key,) in cursor.fetchall()]:
                    cursor.execute(
                        """DELETE FROM delivery_content
                           WHERE retention_days = %s AND message_id >= %s AND message_id < %s AND message_id <> ALL(%s)""",
                        [retention, lower, upper, needed],
                    )
                    continue
                cursor.execute(DROP_DAY, [name])
                dropped.append(name)
        except OperationalError as error:
            log.warning("partition_not_dropped", partition=name, error=str(error).strip())
    return dropped


def _day_partitions() -> list[tuple[str, int, datetime]]:
    """Of content: name, retention class, day; the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname LIKE %s ORDER BY right(c.relname, 8), c.relname""",
            [f"{CONTENT}_r%"],
        )
        names = [name for (name,) in cursor.fetchall()]
    found = []
    for name in names:
        kind, _mark, day = name.removeprefix(f"{CONTENT}_r").partition("_p")
        if kind.isdecimal() and day.isdecimal():
            found.append((name, int(kind), datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)))
    return found
