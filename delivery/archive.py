"""Everything a tenant has, as files of JSON lines: for those who leave, and for those who want a copy.

Each section is read by keyset in short transactions, so that a tenant with millions of recipients costs no more memory than
one with ten, and no snapshot is held. What is accepted after an archive was asked for is not in it. Binary columns never are:
they hold content, which has pages of its own, and secrets. A table that names a tenant is either a section or stands in
``LEFT_OUT`` with the reason; a test fails for one that is neither.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, override

from accounts import quotas
from accounts.identifiers import first_of
from accounts.models import (
    AuditEntry,
    Credential,
    Invitation,
    Membership,
    Notice,
    QuotaBucket,
    Tenant,
)
from delivery import domain_records, domains
from delivery.models import (
    Appeal,
    Attempt,
    Brake,
    Complaint,
    DeliveryEvent,
    DmarcRow,
    DomainReport,
    Message,
    Recipient,
    RejectionEntry,
    Route,
    SavedFilter,
    SendingDomain,
    Statistic,
    StatisticClass,
    Stream,
    Suppression,
    SuppressionImport,
    SuppressionReason,
    TenantEvent,
    TlsFailure,
    Webhook,
    WebhookCall,
)

PAGE = 2000  # rows of one step, about
_MESSAGES_AT_ONCE = 1000
_RECIPIENTS_AT_ONCE = 2000

Line = Mapping[str, Any]
# A cursor is text, so that it can be written down between two steps; None is the beginning, and the end.
Read = Callable[[Tenant, datetime, str | None], tuple[Sequence[Line], str | None]]


@dataclass(frozen=True, slots=True)
class Section:
    """One file. ``says`` explains it to its readers; ``holds`` are the tables that are in it."""

    name: str
    says: str
    read: Read
    holds: tuple[type[models.Model], ...] = ()


def write_lines(lines: Sequence[Line]) -> bytes:
    """JSON, one object a line, UTF-8. Times are UTC, ids and words those of the API."""
    return "".join(json.dumps(line, ensure_ascii=False, default=_as_text) + "\n" for line in lines).encode()


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def read_me(tenant: Tenant, *, until: datetime, language: str) -> bytes:
    """What the file of explanations says, in its reader's language."""
    with override(language):
        head = _("Everything {service} had of {name} ({slug}) on {day}.").format(
            service=settings.SERVICE_NAME,
            name=tenant.name,
            slug=tenant.slug,
            day=f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        )
        form = _("Each file has one JSON object a line, in UTF-8. Times are UTC. An empty file: there was none of it.")
        missing = _(
            "Not in it: the content of mail, passwords, secrets and private keys. Content can be taken from the page of a "
            "message, for as long as it is kept."
        )
        lines = [f"{section.name}: {_(section.says)}" for section in SECTIONS]
    return "\n".join([head, form, missing, "", *lines, ""]).encode()


# ---------------------------------------------------------------- ways to read


def _rows(
    model: type[models.Model],
    *,
    leaves_out: Sequence[str] = (),
    where: models.Q | None = None,
    is_bounded: bool = False,
) -> Read:
    """All columns of a tenant's rows in the order of their keys; ``is_bounded``: mail, which goes on coming."""
    columns = [
        field.attname
        for field in model._meta.concrete_fields
        if not isinstance(field, models.BinaryField) and field.attname not in {"tenant_id", *leaves_out}
    ]

    def read(tenant: Tenant, until: datetime, after: str | None) -> tuple[Sequence[Line], str | None]:
        found = model._default_manager.filter(tenant_id=tenant.pk)
        if where is not None:
            found = found.filter(where)
        if is_bounded:
            found = found.filter(pk__lt=first_of(until))
        if after is not None:
            found = found.filter(pk__gt=after)
        lines = list(found.order_by("pk").values(*columns)[:PAGE])
        return lines, str(lines[-1]["id"]) if len(lines) == PAGE else None

    return read


def _at_once(make: Callable[[Tenant], Sequence[Line]]) -> Read:
    """What never is long."""
    return lambda tenant, _until, _after: (make(tenant), None)


def _of_messages(model: type[models.Model], *, leaves_out: Sequence[str] = ()) -> Read:
    """Rows that are found by their message: for as many messages at once as have so many recipients."""
    columns = [
        field.attname
        for field in model._meta.concrete_fields
        if not isinstance(field, models.BinaryField) and field.attname not in {"tenant_id", *leaves_out}
    ]

    def read(tenant: Tenant, until: datetime, after: str | None) -> tuple[Sequence[Line], str | None]:
        found = Message.objects.of(tenant).filter(pk__lt=first_of(until))
        if after is not None:
            found = found.filter(pk__gt=after)
        page = list(found.order_by("pk").values_list("id", "recipient_count")[:_MESSAGES_AT_ONCE])
        chosen = _few_recipients(page)
        if not chosen:
            return [], None
        lines = model._default_manager.filter(
            tenant_id=tenant.pk, message_id__in=chosen, message_id__gte=chosen[0], message_id__lte=chosen[-1]
        )
        is_last = len(chosen) == len(page) < _MESSAGES_AT_ONCE
        return list(lines.order_by("message_id", "id").values(*columns)), None if is_last else str(chosen[-1])

    return read


def _few_recipients(page: Sequence[tuple[UUID, int]]) -> list[UUID]:
    chosen: list[UUID] = []
    recipients = 0
    for message_id, count in page:
        recipients += count
        if chosen and recipients > _RECIPIENTS_AT_ONCE:
            break
        chosen.append(message_id)
    return chosen


def _by_month(model: type[models.Model], figures: Sequence[str], keys: Sequence[str]) -> Read:
    """Counters of an hour, summed up; a month at a time."""

    def read(tenant: Tenant, _until: datetime, after: str | None) -> tuple[Sequence[Line], str | None]:
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                f"""SELECT min(date_trunc('month', starts_at, 'UTC')) FROM {table}
                    WHERE tenant_id = %s AND minutes = 60 AND starts_at >= %s::timestamptz""",
                [tenant.pk, after or "-infinity"],
            )
            month = cursor.fetchone()[0]
            if month is None:
                return [], None
            following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
            sums = ", ".join(f"sum({name})::bigint" for name in figures)
            cursor.execute(
                f"""SELECT {", ".join(keys)}, {sums} FROM {table}
                    WHERE tenant_id = %s AND minutes = 60 AND starts_at >= %s AND starts_at < %s
                    GROUP BY {", ".join(keys)} ORDER BY {", ".join(keys)}""",
                [tenant.pk, month, following],
            )
            lines = [
                {"month": f"{month:%Y-%m}", **dict(zip((*keys, *figures), row, strict=True))}
                for row in cursor.fetchall()
            ]
        return lines, following.isoformat()

    return read


# ---------------------------------------------------------------- what never is long


def _settings(tenant: Tenant) -> list[Line]:
    hidden = {"is_system", "trust_level", "trust_since", "brake_level"}
    fields = {field.attname: getattr(tenant, field.attname) for field in Tenant._meta.concrete_fields}
    return [{name: value for name, value in fields.items() if name not in hidden} | {"limits": _limits(tenant)}]


def _limits(tenant: Tenant) -> Line:
    return quotas.as_mapping(quotas.limits_of(tenant))


def _members(tenant: Tenant) -> list[Line]:
    found = Membership.objects.filter(tenant=tenant).select_related("user").order_by("created_at")
    return [
        {"email": one.user.email, "name": one.user.name, "role": one.role, "since": one.created_at} for one in found
    ]


def _domains(tenant: Tenant) -> list[Line]:
    columns = [field.attname for field in SendingDomain._meta.concrete_fields]
    hidden = {"tenant_id", "findings", "next_check_at"}
    return [
        {name: getattr(domain, name) for name in columns if name not in hidden}
        | {"records": [record.as_json() for record in domain_records.records_of(domain)]}
        for domain in domains.list_domains(tenant)
    ]


def _removed_domains(tenant: Tenant) -> list[Line]:
    found = SendingDomain.objects.of(tenant).filter(state="removed").order_by("removed_at")
    return [{"name": one.name, "created_at": one.created_at, "removed_at": one.removed_at} for one in found]


def _usage(tenant: Tenant) -> list[Line]:
    return [
        {"month": f"{month.astimezone(UTC):%Y-%m}", "recipients_accepted": used}
        for month, used in quotas.months_of(tenant)
    ]


def _reports(tenant: Tenant, until: datetime, after: str | None) -> tuple[Sequence[Line], str | None]:
    """Each with what it counted."""
    read = _rows(DomainReport, leaves_out=("returned_id",))
    lines, following = read(tenant, until, after)
    keys = [line["id"] for line in lines]
    within: dict[Any, dict[str, list[Line]]] = {key: {"rows": [], "failures": []} for key in keys}
    for model, name in ((DmarcRow, "rows"), (TlsFailure, "failures")):
        columns = [one.attname for one in model._meta.concrete_fields if one.attname != "id"]
        for row in model.objects.filter(report_id__in=keys).order_by("id").values(*columns):
            within[row.pop("report_id")][name].append(row)
    return [{**line, **within[line["id"]]} for line in lines], following


_COUNTED = (
    "accepted", "delivered", "deferred", "bounced", "expired", "suppressed", "cancelled", "returned", "complained",
    "unsubscribed",
)  # fmt: skip
_OF_UNSUBSCRIBES = models.Q(reason=SuppressionReason.UNSUBSCRIBE)
_NOT_OF_A_SUPPRESSION = ("owner_id", "like_pattern")
_NOT_OF_A_WEBHOOK = ("is_notice_due", "owner", "leased_until", "resting_until", "test_id")


SECTIONS: tuple[Section, ...] = (
    Section("settings.jsonl", gettext_noop("name, settings and limits"), _at_once(_settings)),
    Section("members.jsonl", gettext_noop("who belongs to it, in which role"), _at_once(_members), (Membership,)),
    Section(
        "invitations.jsonl",
        gettext_noop("who was invited"),
        _rows(Invitation, leaves_out=("nonce", "invited_by_id")),
        (Invitation,),
    ),
    Section(
        "domains.jsonl", gettext_noop("sending domains with their DNS records"), _at_once(_domains), (SendingDomain,)
    ),
    Section("removed-domains.jsonl", gettext_noop("sending domains that were removed"), _at_once(_removed_domains)),
    Section("streams.jsonl", gettext_noop("streams"), _rows(Stream, leaves_out=("pool_id",)), (Stream,)),
    Section(
        "credentials.jsonl",
        gettext_noop("credentials, without their secrets"),
        _rows(Credential, leaves_out=("pool_id", "approved_by_id", "created_by_id")),
        (Credential,),
    ),
    Section(
        "webhooks.jsonl",
        gettext_noop("webhooks, without their secrets"),
        _rows(Webhook, leaves_out=(*_NOT_OF_A_WEBHOOK, "created_by_id")),
        (Webhook,),
    ),
    Section(
        "webhook-calls.jsonl", gettext_noop("calls of webhooks that are still kept"), _rows(WebhookCall), (WebhookCall,)
    ),
    Section("routes.jsonl", gettext_noop("own routes, without their passwords"), _rows(Route), (Route,)),
    Section(
        "filters.jsonl", gettext_noop("saved filters"), _rows(SavedFilter, leaves_out=("person_id",)), (SavedFilter,)
    ),
    Section(
        "suppressions.jsonl",
        gettext_noop("suppressions, those that were lifted too"),
        _rows(Suppression, leaves_out=_NOT_OF_A_SUPPRESSION, where=~_OF_UNSUBSCRIBES),
        (Suppression,),
    ),
    Section(
        "unsubscribes.jsonl",
        gettext_noop("who has unsubscribed from which stream"),
        _rows(Suppression, leaves_out=_NOT_OF_A_SUPPRESSION, where=_OF_UNSUBSCRIBES),
        (Suppression,),
    ),
    Section(
        "suppression-imports.jsonl",
        gettext_noop("lists that were imported"),
        _rows(SuppressionImport, leaves_out=("claimed_until",)),
        (SuppressionImport,),
    ),
    Section("complaints.jsonl", gettext_noop("complaints of recipients"), _rows(Complaint), (Complaint,)),
    Section("messages.jsonl", gettext_noop("messages"), _rows(Message, is_bounded=True), (Message,)),
    Section(
        "recipients.jsonl",
        gettext_noop("each recipient of a message, and what became of it"),
        _rows(Recipient, leaves_out=("source_id", "group_id"), is_bounded=True),
        (Recipient,),
    ),
    Section(
        "attempts.jsonl",
        gettext_noop("each attempt, with what the receiving server answered"),
        _of_messages(Attempt, leaves_out=("source_id", "worker", "fence")),
        (Attempt,),
    ),
    Section("events.jsonl", gettext_noop("what happened, in order"), _of_messages(DeliveryEvent), (DeliveryEvent,)),
    Section(
        "tenant-events.jsonl",
        gettext_noop("what happened to domains, credentials and the tenant"),
        _rows(TenantEvent),
        (TenantEvent,),
    ),
    Section(
        "rejections.jsonl",
        gettext_noop("mail that was refused at submission"),
        _rows(RejectionEntry),
        (RejectionEntry,),
    ),
    Section("reports.jsonl", gettext_noop("DMARC and TLS reports"), _reports, (DomainReport,)),
    Section(
        "brakes.jsonl",
        gettext_noop("brakes that were pulled"),
        _rows(Brake, leaves_out=("pulled_by", "ended_by")),
        (Brake,),
    ),
    Section(
        "appeals.jsonl", gettext_noop("requests for release"), _rows(Appeal, leaves_out=("answered_by",)), (Appeal,)
    ),
    Section("notices.jsonl", gettext_noop("notices"), _rows(Notice), (Notice,)),
    Section("audit.jsonl", gettext_noop("the audit log"), _rows(AuditEntry, leaves_out=("actor_id",)), (AuditEntry,)),
    Section("usage.jsonl", gettext_noop("recipients accepted, by month"), _at_once(_usage), (QuotaBucket,)),
    Section(
        "statistics.jsonl",
        gettext_noop("figures by month: in all, and by provider, domain, stream, credential and tag"),
        _by_month(Statistic, _COUNTED, ("dimension", "value")),
        (Statistic,),
    ),
    Section(
        "reasons.jsonl",
        gettext_noop("why mail bounced or came back, by month"),
        _by_month(StatisticClass, ("bounced", "returned"), ("dimension", "value", "reply_class")),
        (StatisticClass,),
    ),
)

# Tables that name a tenant and are no section, with the reason.
LEFT_OUT: dict[str, str] = {
    "ContentKey": "a secret of the service's; what it seals is content",
    "CredentialStanding": "what brakes count, no fact of the tenant's",
    "EventToCount": "counted within seconds",
    "IdempotencyKey": "kept for a day, to answer a repeated request",
    "Job": "asked for and done; in the audit log",
    "Lane": "part of the queue, remade by itself",
    "NoticeChoice": "a person's, not the tenant's",
    "OwedDsn": "written within seconds; in the events",
    "QueueEntry": "part of the queue; open recipients are in recipients.jsonl",
    "SenderScore": "the operator's judgement, an hour at a time; its figures are in the statistics",
    "SourcePool": "the operator's",
    "StatisticTag": "tags are in the statistics",
    "StatisticTime": "slots of a histogram; times are in attempts.jsonl",
    "Strike": "what suppressions are judged by; the replies are in attempts.jsonl",
    "UnjudgedRecipient": "what brakes count, no fact of the tenant's",
    "WebhookEvent": "the outbox of webhooks; told within seconds",
}


def lines_of(section: Section, tenant: Tenant, *, until: datetime) -> Iterator[Sequence[Line]]:
    """All of a section, page by page."""
    after: str | None = None
    while True:
        lines, after = section.read(tenant, until, after)
        yield lines
        if after is None:
            return


def write_file(tenant: Tenant, path: Path, *, until: datetime) -> int:
    """The whole archive as a file; returns how many lines. Raises OSError."""
    number = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as whole:
        path.chmod(0o600)
        whole.writestr("README.txt", read_me(tenant, until=until, language=tenant.language))
        for section in SECTIONS:
            with whole.open(section.name, "w", force_zip64=True) as file:
                for lines in lines_of(section, tenant, until=until):
                    file.write(write_lines(lines))
                    number += len(lines)
    return number
