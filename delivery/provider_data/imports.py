"""Takes files of providers up and back, and reads what they told."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.models import ProviderDataKind, ProviderDay, ProviderImport, SendingDomain, SourceAddress, Statistic
from delivery.provider_data import reading

MOST_OCTETS = 16 * 1024 * 1024
KEPT = timedelta(days=400)
# Smart Network Data Services tell of what Outlook.com takes.
_GROUP = "microsoft"
# Postmaster Tools tell of what personal Gmail accounts are sent.
_GOOGLE_GROUP = "google"


def take_up(content: bytes, *, file_name: str, actor: Actor, is_dry: bool = False) -> ProviderImport:
    """All rows that can be read, at once; the others stand in the import. Raises Refused where none can be.

    Dry, nothing is written, and what would have been made is returned.
    """
    if not actor.is_operator:
        raise Refused(_("Only an operator can import figures of providers."), reason="operators_only")
    found = _read(content)
    # A day that stands twice in a file counts once, as it stands last.
    days = {(day.subject, day.day, day.period): day for day in found.days}
    made = ProviderImport(
        kind=found.kind, file_name=file_name[:255], imported_by=actor.name[:254], rows=len(days),
        bad_rows=[asdict(one) for one in found.bad],
    )  # fmt: skip
    if is_dry:
        return made
    with transaction.atomic():
        made.save(force_insert=True)
        ProviderDay.objects.bulk_create(
            (
                ProviderDay(
                    origin=made, kind=found.kind, subject=day.subject, day=day.day, period=day.period,
                    figures=dict(day.figures),
                )
                for day in days.values()
            ),
            batch_size=1000,
        )  # fmt: skip
        audit.record(
            actor, "provider_data.import", object_id=made.pk, object_name=made.file_name,
            after={"kind": made.kind, "read": made.rows, "refused": len(found.bad)},
        )  # fmt: skip
    return made


def _read(content: bytes) -> reading.Read:
    if len(content) > MOST_OCTETS:
        raise Refused(_("The file is larger than 16 MB."), reason="file_too_large", field="file")
    try:
        return reading.read(content)
    except reading.Unreadable as error:
        raise Refused(
            _("The file cannot be read: %(why)s.") % {"why": error}, reason="file_unreadable", field="file"
        ) from None


def take_back(made: ProviderImport, *, actor: Actor) -> ProviderImport:
    """Its days are gone; those of earlier files count again. Its bad rows stay. Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can import figures of providers."), reason="operators_only")
    with transaction.atomic():
        if not ProviderImport.objects.filter(pk=made.pk, undone_at=None).update(undone_at=timezone.now()):
            raise Refused(_("This import was taken back already."), reason="state_unchanged")
        ProviderDay.objects.filter(origin=made).delete()
        audit.record(actor, "provider_data.undo", object_id=made.pk, object_name=made.file_name)
    made.refresh_from_db()
    return made


def find(import_id: UUID) -> ProviderImport:
    """Raises NotFound."""
    made = ProviderImport.objects.filter(pk=import_id).first()
    if made is None:
        raise NotFound(_("There is no such import."), field="import")
    return made


def page(*, before: UUID | None = None, size: int = 50) -> tuple[list[ProviderImport], UUID | None]:
    """The newest first, and the key that the next page begins before."""
    found = ProviderImport.objects.order_by("-id")
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found[: size + 1])
    return rows[:size], rows[size - 1].pk if len(rows) > size else None


def forget_old(*, now: datetime | None = None) -> int:
    gone, _by_table = ProviderDay.objects.filter(day__lt=((now or timezone.now()) - KEPT).date()).delete()
    return gone


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Own:
    """Our own count of the day (UTC): attempts or recipients with an end, what was accepted, and complaints."""

    total: int = 0
    accepted: int = 0
    complaints: int = 0

    @property
    def complaint_rate(self) -> float | None:
        return self.complaints / self.accepted if self.accepted else None


@dataclass(frozen=True, slots=True)
class Beside:
    """What the provider told of a day, beside what we counted."""

    day: date
    period: str
    figures: Mapping[str, Any]
    own: Own
    at_provider: Own = Own()


def of_source(source: SourceAddress, *, days: int = 60) -> list[Beside]:
    """Microsoft's, the newest first, beside this address's attempts at Microsoft."""
    if source.address is None:
        return []
    told = _latest(ProviderDataKind.MICROSOFT, str(ipaddress.ip_address(source.address)), days)
    own = _own_of_source(source, days) if told else {}
    return [Beside(one.day, one.period, one.figures, own.get(one.day, Own())) for one in told]


def of_domain(domain: SendingDomain, *, days: int = 60) -> list[Beside]:
    """Google's, the newest first, beside what the domain sent to everybody, and what its whole tenant sent to Gmail.

    Nothing counts a domain's mail at one provider by itself.
    """
    told = _latest(ProviderDataKind.GOOGLE, domain.name, days)
    own = _counted(domain.tenant, "domain", domain.name, days) if told else {}
    there = _counted(domain.tenant, "provider", _GOOGLE_GROUP, days) if told else {}
    return [
        Beside(one.day, one.period, one.figures, own.get(one.day, Own()), there.get(one.day, Own())) for one in told
    ]


def _latest(kind: ProviderDataKind, subject: str, days: int) -> list[ProviderDay]:
    since = (timezone.now() - timedelta(days=days)).date()
    rows = ProviderDay.objects.filter(kind=kind, subject=subject, day__gte=since)
    return list(rows.order_by("-day", "period", "-origin_id").distinct("day", "period"))


def _own_of_source(source: SourceAddress, days: int) -> dict[date, Own]:
    sql = """SELECT (hour.hour AT TIME ZONE 'UTC')::date, sum(hour.accepted),
                    sum(hour.accepted + hour.throttled + hour.blocked + hour.unknown + hour.content + hour.policy
                        + hour.other)
             FROM delivery_path_hour AS hour JOIN delivery_path AS path ON path.id = hour.path_id
             JOIN delivery_providergroup AS grp ON grp.id = path.group_id
             WHERE path.source_id = %s AND grp.key = %s AND hour.hour > %s GROUP BY 1"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [source.pk, _GROUP, timezone.now() - timedelta(days=days + 1)])
        return {day: Own(int(total), int(accepted)) for day, accepted, total in cursor.fetchall()}


def _counted(tenant: Tenant, dimension: str, value: str, days: int) -> dict[date, Own]:
    rows = Statistic.objects.of(tenant).filter(
        dimension=dimension, minutes=60, value=value, starts_at__gt=timezone.now() - timedelta(days=days + 1)
    )
    found: dict[date, Own] = {}
    for row in rows:
        day = row.starts_at.astimezone(UTC).date()
        known = found.get(day, Own())
        found[day] = Own(
            known.total + row.delivered + row.bounced + row.expired,
            known.accepted + row.delivered,
            known.complaints + row.complained,
        )
    return found
