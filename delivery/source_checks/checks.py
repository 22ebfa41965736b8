"""The regular and the asked-for look at source addresses: written down, and acted upon where a listing is severe.

An address with a severe listing is paused, with the reason in the audit log, unless it is the last one of its pool that can
be used (then its mail would leave from nowhere), or somebody resumed it after the listing was first seen. It is resumed by
hand: whoever does it has asked the list to forget it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from accounts.refusals import Refused
from delivery import sources
from delivery.dns import Resolver
from delivery.models import SourceAddress, SourceCheck, SourceCheckState, SourceState
from delivery.source_checks import reaching, returns_listener
from delivery.source_checks.blocklists import Severity, blocklists
from delivery.source_checks.looking import Asked, Result, Verdict, look

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=1)
KEPT = timedelta(days=90)
OF_THE_INSTALLATION = frozenset({returns_listener.CHECK})
_DNS_TIMEOUT_S = 5.0
_ACTOR = Actor.system("source checks")


@dataclass(frozen=True, slots=True)
class Checked:
    """``paused``: this look did it. ``not_paused``: why a severe listing was left without consequence, or empty."""

    source: SourceAddress
    check: SourceCheck
    results: Sequence[Result]
    paused: bool = False
    not_paused: str = ""


def check_due(*, now: datetime | None = None) -> list[Checked]:
    """Look at the addresses that nobody looked at for an hour."""
    now = now or timezone.now()
    # A little less: a task that comes a second early would otherwise wait for the next hour.
    recent = SourceCheck.objects.filter(checked_at__gt=now - EVERY * 0.9).values("source_id")
    return check(_checked_sources().exclude(pk__in=recent), now=now)


def check(wanted: Any = None, *, now: datetime | None = None) -> list[Checked]:
    """Look at these addresses now, or at all. The system's own choice has no address that could be looked at."""
    now = now or timezone.now()
    found = list(_checked_sources() if wanted is None else wanted)
    named = [source for source in found if source.address]
    if not named:
        return []
    results = asyncio.run(_look(named))
    checked = [_write_down(source, own, now=now) for source, own in zip(named, results, strict=True)]
    for node in sorted({source.node_id for source in named if _is_elsewhere(source)}):
        _ask_node(node)
    return checked


def reach_out_of(node: str) -> int:
    """What only the addresses' own node can see, filled in in the last look at each; returns at how many."""
    found = list(_checked_sources().filter(node_id=node))
    last = {check.source_id: check.pk for check in latest_of_all() if check.source_id in {one.pk for one in found}}
    results = asyncio.run(reaching.reach([str(one.address) for one in found], _probes(), _resolver()))
    for source, result in zip(found, results, strict=True):
        if source.pk in last:
            _fill_in(last[source.pk], result)
    return len(last)


def _fill_in(check_id: int, result: Result) -> None:
    with transaction.atomic():
        check = SourceCheck.objects.select_for_update().get(pk=check_id)
        check.results = [result.as_json() if one["check"] == result.check else one for one in check.results]
        check.state = _state_of([(one["check"], one["verdict"], one["severity"]) for one in check.results])
        check.save(update_fields=["results", "state"])


def _is_elsewhere(source: SourceAddress) -> bool:
    return bool(settings.SMTP_PROBES) and source.node_id != settings.NODE


def _ask_node(node: str) -> None:
    """The delivery workers of a node take tasks by its name. A lost one costs the answer of this hour."""
    try:
        current_app.send_task("delivery.reach_out", args=[node], queue=f"egress.{node}", expires=600)
    except Exception as error:  # noqa: BLE001 - whatever a broker that is away raises
        log.warning("node_not_asked", node=node, error=str(error))


def latest(source: SourceAddress) -> SourceCheck | None:
    return SourceCheck.objects.filter(source=source).order_by("-checked_at", "-id").first()


def latest_of_all() -> list[SourceCheck]:
    """The last look at each address that is in use or could be."""
    return list(
        SourceCheck.objects.filter(source__in=_checked_sources())
        .select_related("source")
        .order_by("source_id", "-checked_at", "-id")
        .distinct("source_id")
    )


def history_of(source: SourceAddress, *, most: int = 100) -> list[SourceCheck]:
    """The latest first."""
    return list(SourceCheck.objects.filter(source=source).order_by("-checked_at", "-id")[:most])


def forget_old(*, now: datetime | None = None) -> int:
    deleted, _by_table = SourceCheck.objects.filter(checked_at__lt=(now or timezone.now()) - KEPT).delete()
    return deleted


def _checked_sources() -> Any:
    return SourceAddress.objects.filter(address__isnull=False).exclude(state=SourceState.RETIRED)


def _resolver() -> Resolver:
    """One of its own for each look: an answer cached earlier is what somebody has mended meanwhile."""
    return Resolver((settings.DNS.host, settings.DNS.port) if settings.DNS else None, _DNS_TIMEOUT_S)


def _probes() -> list[reaching.Probe]:
    return [(probe.host, probe.port) for probe in settings.SMTP_PROBES]


def _returns() -> returns_listener.Listener | None:
    if not settings.RETURNS_BIND:
        return None
    first = settings.RETURNS_BIND[0]
    return returns_listener.Listener(
        first.host,
        first.port,
        bounce_domain=settings.BOUNCE_DOMAIN,
        hostname=settings.HOSTNAME,
        ca_file=settings.CA_FILE,
        is_trial=settings.DEVELOPMENT,
    )


async def _look(named: Sequence[SourceAddress]) -> list[list[Result]]:
    chosen = settings.BLOCKLIST_DNS
    resolver = _resolver()
    asked = Asked(
        bounce_domain=settings.BOUNCE_DOMAIN,
        lists=[blocklists()[key] for key in settings.BLOCKLISTS],
        resolver=resolver,
        blocklist_resolver=Resolver((chosen.host, chosen.port), _DNS_TIMEOUT_S) if chosen else resolver,
        query_keys={"spamhaus_zen": settings.SPAMHAUS_KEY},
    )
    by_dns, outwards, returns = await asyncio.gather(
        look([(str(one.address), one.ehlo_name) for one in named], asked),
        _outwards(named, resolver),
        returns_listener.look(_returns(), resolver),
    )
    return [[*own, outward, returns] for own, outward in zip(by_dns, outwards, strict=True)]


async def _outwards(named: Sequence[SourceAddress], resolver: Resolver) -> list[Result]:
    """Only the addresses of this node can be bound here; others' nodes are asked once this look is written down."""
    here = [str(one.address) for one in named if not _is_elsewhere(one)]
    found = dict(zip(here, await reaching.reach(here, _probes(), resolver), strict=True))
    later = Result(reaching.CHECK, Verdict.SKIPPED, reaching.ASKED_OF_THE_NODE)
    return [found.get(str(one.address), later) for one in named]


# ---------------------------------------------------------------- writing down and acting


def _write_down(source: SourceAddress, results: Sequence[Result], *, now: datetime) -> Checked:
    written = SourceCheck.objects.create(
        source=source,
        checked_at=now,
        state=_state_of([(one.check, one.verdict, one.severity) for one in results]),
        results=[one.as_json() for one in results],
    )
    severe = [one for one in results if one.severity is Severity.SEVERE]
    if not severe:
        return Checked(source, written, results)
    log.error("source_listed", source=str(source), lists=[one.detail for one in severe])
    paused, why_not = _pause(source, severe, now=now)
    return Checked(source, written, results, paused, why_not)


def _pause(source: SourceAddress, severe: Sequence[Result], *, now: datetime) -> tuple[bool, str]:
    with transaction.atomic():
        # One decision at a time in a pool: two addresses must not each count on the other.
        pool = list(SourceAddress.objects.select_for_update().filter(pool_id=source.pool_id).order_by("pk"))
        current = next(one for one in pool if one.pk == source.pk)
        if current.state not in {SourceState.ACTIVE, SourceState.DRAINING}:
            return False, f"it is {current.state} already"
        others = any(one.pk != source.pk and one.state == SourceState.ACTIVE for one in pool)
        if not others and source.pool.standby_id is None:
            return False, "it is the last address of its pool that can be used"
        if _was_resumed(source, severe, now=now):
            return False, "it was resumed by hand after the listing was first seen"
        reason = "; ".join(f"{one.detail} ({', '.join(one.found)})" for one in severe)
        try:
            sources.pause_source(current, actor=_ACTOR, reason=reason)
        except Refused:
            return False, "it is paused already"
    source.refresh_from_db()
    return True, ""


def _was_resumed(source: SourceAddress, severe: Sequence[Result], *, now: datetime) -> bool:
    """Somebody knows of all these listings, and wants the address to be used nevertheless."""
    resumed = (
        AuditEntry.objects.filter(action="source.resume", object_id=str(source.pk)).order_by("-occurred_at").first()
    )
    return resumed is not None and all(_listed_since(source, one, now=now) <= resumed.occurred_at for one in severe)


def _listed_since(source: SourceAddress, result: Result, *, now: datetime) -> datetime:
    """Since when the list has said so without a break; looks in which it gave no answer break nothing."""
    since = now
    for check in SourceCheck.objects.filter(source=source, checked_at__lte=now).order_by("-checked_at", "-id"):
        own = next((one for one in check.results if one["check"] == result.check), None)
        if own is None or own["verdict"] == Verdict.FAILED:
            continue
        if not set(result.found) <= set(own["found"]):
            break
        since = check.checked_at
    return since


def _state_of(results: Sequence[tuple[str, str, str | None]]) -> SourceCheckState:
    """Of (check, verdict, severity). What is the whole installation's says nothing about the address."""
    own = [(verdict, severity) for check, verdict, severity in results if check not in OF_THE_INSTALLATION]
    verdicts = {verdict for verdict, severity in own if severity != Severity.MINOR}
    if Verdict.BAD in verdicts:
        return SourceCheckState.BAD
    return SourceCheckState.FAILED if Verdict.FAILED in verdicts else SourceCheckState.OK
