"""Sending domains looked at again and again, and what follows from what the DNS says.

What the DNS fails to answer changes nothing; what it says is missing must stay missing over ``LAPSE_PERIODS`` re-check
periods and ``LAPSE_LOOKS`` looks before new mail is refused and open mail is held, until the record is back or the mail
expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import Refused
from delivery import tenant_events
from delivery.core.states import TenantEventKind
from delivery.domain_checks import Finding, Observation, Proof, RecordCheck
from delivery.domain_keys import choose_signing_key
from delivery.domain_records import observe_all, wanted_of
from delivery.models import DomainState, SendingDomain
from delivery.queue import control

UNDO_WINDOW = timedelta(days=7)
LAPSE_PERIODS = 3  # with a re-check once a day: 72 hours
LAPSE_LOOKS = 3
HELD_LAPSED, HELD_REMOVED = "domain_lapsed", "domain_removed"
# While somebody sits before the page and waits for the DNS, and for a while after that.
_EAGER_CHECKS = ((timedelta(minutes=30), timedelta(minutes=1)), (timedelta(days=1), timedelta(minutes=10)))
_CHECKED_AT_ONCE = 20


def check_domain(domain: SendingDomain, *, actor: Actor | None = None, now: datetime | None = None) -> SendingDomain:
    """Looks the domain up and acts on what is there.

    Takes as long as the DNS takes; not for use inside an event loop.
    """
    if domain.state == DomainState.REMOVED:
        raise Refused(_("The domain was removed."), reason="domain_removed")
    (observation,) = asyncio.run(observe_all([wanted_of(domain)]))
    return apply_observation(domain, observation, actor=actor, now=now)


def check_due_domains(*, most: int = 200) -> int:
    """Checks the domains whose time has come; a domain is taken by one caller only. Returns how many were checked."""
    due = _take_due(most)
    for start in range(0, len(due), _CHECKED_AT_ONCE):
        domains = due[start : start + _CHECKED_AT_ONCE]
        observations = asyncio.run(observe_all([wanted_of(domain) for domain in domains]))
        for domain, observation in zip(domains, observations, strict=True):
            apply_observation(domain, observation)
    _hold_what_was_in_hand()
    return len(due)


def _hold_what_was_in_hand() -> None:
    """Mail of a removed domain that was being attempted when it was removed is open again if that failed."""
    recent = SendingDomain.objects.filter(state=DomainState.REMOVED, removed_at__gte=timezone.now() - UNDO_WINDOW)
    for domain_id in recent.values_list("id", flat=True):
        control.hold_domain(domain_id, reason=HELD_REMOVED)


def _take_due(most: int) -> list[SendingDomain]:
    now = timezone.now()
    with transaction.atomic():
        due = list(
            SendingDomain.objects.select_related("tenant")
            .select_for_update(skip_locked=True, of=("self",))
            .filter(next_check_at__lte=now)
            .exclude(state=DomainState.REMOVED)
            .order_by("next_check_at")[:most]
        )
        # Pushed on at once: whoever dies while looking delays these domains, nobody looks at them twice.
        SendingDomain.objects.filter(pk__in=[domain.pk for domain in due]).update(
            next_check_at=now + timedelta(minutes=10)
        )
    return due


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides about a domain: its state, and since when and how often its proof has been found missing."""

    state: str
    is_assumed: bool
    failing_since: datetime | None
    misses: int


def next_standing(standing: Standing, proof: Proof, *, now: datetime, recheck: timedelta) -> Standing:
    """What a look at the DNS makes of a domain. An operator's word stands until the DNS confirms it."""
    match proof:
        case Proof.GIVEN:
            return Standing(DomainState.VERIFIED, is_assumed=False, failing_since=None, misses=0)
        case Proof.UNKNOWN:
            return standing
        case Proof.MISSING:
            if standing.is_assumed or standing.state == DomainState.PENDING:
                return standing
            since, misses = standing.failing_since or now, standing.misses + 1
            is_over = now - since >= LAPSE_PERIODS * recheck and misses >= LAPSE_LOOKS
            state = DomainState.LAPSED if is_over else standing.state
            return Standing(state, is_assumed=False, failing_since=since, misses=misses)


def apply_observation(
    domain: SendingDomain, observation: Observation, *, actor: Actor | None = None, now: datetime | None = None
) -> SendingDomain:
    """Stores what was seen, and changes the domain's state where that is due."""
    moment = now or timezone.now()
    by = actor or Actor.system("domain check")
    with transaction.atomic():
        row = SendingDomain.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=domain.pk)
        if row.state == DomainState.REMOVED:
            return row
        before = Standing(row.state, row.is_assumed, row.failing_since, _misses(row))
        after = next_standing(before, observation.proof, now=moment, recheck=_recheck_period())
        records = _merge_unknown(observation.records, row.findings)
        is_proved_now = after.state == DomainState.VERIFIED and before.state != DomainState.VERIFIED
        if is_proved_now and not _become_owner(row, by):
            after, records, is_proved_now = before, _claimed_by_another(records), False
        row.state, row.is_assumed, row.failing_since = after.state, after.is_assumed, after.failing_since
        if is_proved_now:
            row.verified_at = moment
        row.checked_at, row.next_check_at = moment, _next_check(row, observation.proof, moment)
        row.bounce_host = f"bounce.{row.name}" if _bounce_is_right(records) else ""
        row.findings = _as_json(records, misses=after.misses)
        row.save(
            update_fields=[
                "state", "is_assumed", "failing_since", "verified_at", "checked_at", "next_check_at", "bounce_host",
                "findings",
            ]
        )  # fmt: skip
        if row.state == DomainState.VERIFIED:
            choose_signing_key(row, seen=observation.seen_selectors, now=moment)
        if row.failing_since is not None and before.failing_since is None:
            _tell_failing(row)
        if row.state != before.state:
            verb = "domain.verify" if row.state == DomainState.VERIFIED else "domain.lapse"
            record_state(row, by, verb, before=before.state, after=row.state)
    hold_or_release(row)
    return row


def _tell_failing(domain: SendingDomain) -> None:
    """Said at the first look that misses the proof, long before the domain lapses and its mail is held."""
    assert domain.failing_since is not None
    tenant_events.tell(
        domain.tenant_id,
        TenantEventKind.DOMAIN_FAILING,
        subject_id=domain.id,
        data={
            "name": domain.name,
            "failing_since": domain.failing_since.isoformat(),
            "lapses_at": (domain.failing_since + LAPSE_PERIODS * _recheck_period()).isoformat(),
        },
    )


def hold_or_release(domain: SendingDomain) -> None:
    """Both may be repeated, and are at each check: what a crash left undone is done at the next one."""
    if domain.state == DomainState.LAPSED:
        control.hold_domain(domain.id, reason=HELD_LAPSED)
    elif domain.state == DomainState.VERIFIED:
        # By reason: what a person holds stays held.
        for reason in (HELD_LAPSED, HELD_REMOVED):
            control.release(control.Which(domain_id=domain.id), reason=reason)


def _become_owner(domain: SendingDomain, actor: Actor) -> bool:
    """One domain, one owner. A claim that is proved takes the domain over from an owner whose own proof has lapsed."""
    lapsed = (
        SendingDomain.objects.select_for_update()
        .filter(name=domain.name, state=DomainState.LAPSED)
        .exclude(pk=domain.pk)
        .first()
    )
    try:
        with transaction.atomic():
            if lapsed is not None:
                SendingDomain.objects.filter(pk=lapsed.pk).update(state=DomainState.PENDING)
                record_state(lapsed, actor, "domain.lose", before=DomainState.LAPSED, after=DomainState.PENDING)
            SendingDomain.objects.filter(pk=domain.pk).update(state=DomainState.VERIFIED)
    except IntegrityError:
        return False
    return True


def _merge_unknown(records: Sequence[RecordCheck], last: list[dict[str, Any]]) -> list[RecordCheck]:
    """Where the DNS gave no answer, the former result stands, with a note that it is an old one."""
    former = {(entry["purpose"], entry["type"], entry["name"]): entry for entry in last}
    merged = []
    for record in records:
        entry = former.get((record.purpose, record.type, record.name))
        if record.finding == Finding.DNS_NOT_ANSWERING and entry is not None:
            record = RecordCheck(
                record.purpose,
                record.type,
                record.name,
                record.value,
                entry["found"],
                entry["ok"],
                Finding.DNS_NOT_ANSWERING,
                record.data,
            )
        merged.append(record)
    return merged


def _claimed_by_another(records: Sequence[RecordCheck]) -> list[RecordCheck]:
    # Said only here, where the tenant has proved control: anybody else could ask whose customer a domain is.
    first, *others = records
    taken = RecordCheck(
        first.purpose,
        first.type,
        first.name,
        first.value,
        first.found,
        first.ok,
        Finding.CLAIMED_BY_ANOTHER,
        first.data,
    )
    return [taken, *others]


def _bounce_is_right(records: Sequence[RecordCheck]) -> bool:
    return any(record.purpose == "bounce" and record.ok for record in records)


def _as_json(records: Sequence[RecordCheck], *, misses: int) -> list[dict[str, Any]]:
    entries = [record.as_json() for record in records]
    if misses:
        entries[0]["data"] = {**entries[0]["data"], "misses": misses}
    return entries


def _misses(domain: SendingDomain) -> int:
    ownership = next((entry for entry in domain.findings if entry["purpose"] == "ownership"), None)
    return int(ownership["data"].get("misses", 0)) if ownership else 0


def _recheck_period() -> timedelta:
    return timedelta(seconds=settings.DOMAIN_RECHECK_SECONDS)


def _next_check(domain: SendingDomain, proof: Proof, now: datetime) -> datetime | None:
    if domain.is_assumed:
        return None
    period = _recheck_period()
    if domain.state == DomainState.PENDING:
        age = now - domain.created_at
        eager = next((pause for until, pause in _EAGER_CHECKS if age < until), timedelta(hours=1))
        # A claim nobody proves is looked at less and less; "check now" always works.
        return now + min(eager, period) if age < timedelta(days=14) else now + max(period, timedelta(days=1))
    if proof != Proof.GIVEN:
        return now + min(timedelta(hours=1), period)
    return now + period


def record_state(domain: SendingDomain, actor: Actor, action: str, *, after: str, before: str | None = None) -> None:
    audit.record(
        actor,
        action,
        tenant=domain.tenant,
        object_id=domain.id,
        object_name=domain.name,
        before={"state": before or domain.state},
        after={"state": after},
    )
