"""The regular look at the sending domains: written down. What follows is an alert, and a cap of the domain's score."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import TenantState
from delivery.dns import Resolver
from delivery.domain_blocklists import asking
from delivery.models import DomainListCheck, DomainState, SendingDomain
from delivery.source_checks.blocklists import Severity
from delivery.source_checks.looking import Result, Verdict

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=6)
KEPT = timedelta(days=90)
_AT_ONCE = 500
_DNS_TIMEOUT_S = 5.0
_ADVISORY_LOCK = 7_294_121


def check_due(*, now: datetime | None = None) -> int:
    """Look at the verified domains that nobody looked at for six hours, the longest waiting first; returns how many."""
    now = now or timezone.now()
    if not settings.DOMAIN_BLOCKLISTS or not _is_mine():
        return 0
    recent = DomainListCheck.objects.filter(checked_at__gt=now - EVERY).values("domain_id")
    due = _looked_at().exclude(pk__in=recent).order_by("pk")[:_AT_ONCE]
    return len(check(list(due), now=now))


def check(domains: Sequence[SendingDomain], *, now: datetime | None = None) -> list[DomainListCheck]:
    """Look at these domains now."""
    if not domains or not settings.DOMAIN_BLOCKLISTS:
        return []
    found = asyncio.run(_look([domain.name for domain in domains]))
    written = DomainListCheck.objects.bulk_create(
        DomainListCheck(
            domain=domain,
            checked_at=now or timezone.now(),
            state=_state_of(results),
            results=[one.as_json() for one in results],
        )
        for domain, results in zip(domains, found, strict=True)
    )
    listed = [one.domain.name for one in written if one.state == "bad"]
    if listed:
        log.error("domains_listed", domains=listed)
    return written


def latest(domain: SendingDomain) -> DomainListCheck | None:
    return DomainListCheck.objects.filter(domain=domain).order_by("-checked_at", "-id").first()


def latest_of_all() -> list[DomainListCheck]:
    """The last look at each domain that is used, none older than two days."""
    return list(
        DomainListCheck.objects.filter(domain__in=_looked_at(), checked_at__gt=timezone.now() - 8 * EVERY)
        .select_related("domain__tenant")
        .order_by("domain_id", "-checked_at", "-id")
        .distinct("domain_id")
    )


def severely_listed(keys: Sequence[UUID]) -> set[UUID]:
    """Of these domains, those that a list has severely by their last look."""
    rows = DomainListCheck.objects.filter(domain_id__in=keys, checked_at__gt=timezone.now() - 8 * EVERY)
    last = rows.order_by("domain_id", "-checked_at", "-id").distinct("domain_id").values_list("domain_id", "results")
    return {key for key, results in last if any(one["severity"] == Severity.SEVERE for one in results)}


def forget_old(*, now: datetime | None = None) -> int:
    deleted, _by_table = DomainListCheck.objects.filter(checked_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


def _looked_at():  # type: ignore[no-untyped-def]
    return SendingDomain.objects.filter(state=DomainState.VERIFIED).exclude(tenant__state=TenantState.CLOSED)


def _is_mine() -> bool:
    """One process at a time begins; two that follow one another find nothing due."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        return bool(cursor.fetchone()[0])


async def _look(names: Sequence[str]) -> list[list[Result]]:
    own = (settings.DNS.host, settings.DNS.port) if settings.DNS else None
    chosen = settings.BLOCKLIST_DNS
    resolver = Resolver((chosen.host, chosen.port) if chosen else own, _DNS_TIMEOUT_S)
    lists = [asking.domain_lists()[key] for key in settings.DOMAIN_BLOCKLISTS]
    return await asking.look(names, lists, resolver, query_keys={"spamhaus_dbl": settings.SPAMHAUS_KEY})


def _state_of(results: Sequence[Result]) -> str:
    verdicts = {one.verdict for one in results if one.severity is not Severity.MINOR}
    if Verdict.BAD in verdicts:
        return "bad"
    return "failed" if Verdict.FAILED in verdicts else "ok"
