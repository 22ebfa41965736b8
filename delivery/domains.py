"""Sending domains: claimed, proved by DNS, watched, given up. And the DKIM keys they sign with.

A claim stands in nobody's way until its tenant has published the token that belongs to this claim alone; from then on
the domain has one owner. A proved domain is looked at again and again. What the DNS fails to answer changes nothing;
what it says is missing must stay missing over ``LAPSE_PERIODS`` re-check periods and ``LAPSE_LOOKS`` looks before new
mail is refused and open mail is held, until the record is back or the mail expires.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery import domain_checks, tenant_events
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.core.states import TenantEventKind
from delivery.dns import Resolver
from delivery.domain_checks import Finding, Observation, Proof, RecordCheck, Wanted, WantedKey, wanted_records
from delivery.domain_names import checked_name, registered_domain
from delivery.models import DkimKey, DkimKeyState, DomainState, SendingDomain
from delivery.queue import control
from delivery.transport.signing import generate_key, public_record

LOG = logging.getLogger(__name__)

SELECTORS = ("rw1", "rw2")
UNDO_WINDOW = timedelta(days=7)
LAPSE_PERIODS = 3  # with a re-check once a day: 72 hours
LAPSE_LOOKS = 3
HELD_LAPSED, HELD_REMOVED = "domain_lapsed", "domain_removed"
# While somebody sits before the page and waits for the DNS, and for a while after that.
_EAGER_CHECKS = ((timedelta(minutes=30), timedelta(minutes=1)), (timedelta(days=1), timedelta(minutes=10)))
_DNS_TIMEOUT_S = 4.0
_CHECKED_AT_ONCE = 20


# ---------------------------------------------------------------- claiming and giving up


def add_domain(tenant: Tenant, name: str, *, actor: Actor, assume_verified: bool = False) -> SendingDomain:
    """A claim, to be proved by its ownership record; ``assume_verified`` is an operator's word instead.

    Raises Refused.
    """
    if assume_verified and not actor.is_operator:
        raise Refused(_("Only an operator can vouch for a domain."), reason="operators_only")
    if tenant.awaits_approval and not actor.is_operator:
        # Without a domain it writes to its own members only, by the onboarding domain.
        raise Refused(
            _("An operator has to agree first. Until then you can send to the members of the tenant."),
            reason="awaits_approval",
        )
    checked = checked_name(name, is_vouched_for=assume_verified)
    now = timezone.now()
    domain = SendingDomain(
        tenant=tenant,
        name=checked,
        ownership_token=secrets.token_hex(16),
        state=DomainState.VERIFIED if assume_verified else DomainState.PENDING,
        is_assumed=assume_verified,
        verified_at=now if assume_verified else None,
        next_check_at=None if assume_verified else now,
    )
    try:
        with transaction.atomic():
            domain.save(force_insert=True)
            _ensure_keys(domain)
            if assume_verified:
                _choose_signing_key(domain, seen=frozenset(SELECTORS), now=now)
            audit.record(
                actor,
                "domain.add",
                tenant=tenant,
                object_id=domain.id,
                object_name=domain.name,
                after={"name": domain.name, "state": domain.state, "is_assumed": assume_verified},
            )
    except IntegrityError as error:
        raise _taken(error, checked) from None
    return domain


def assume_verified(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """An operator vouches for a domain that cannot be looked up, e.g. one of a closed network."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can vouch for a domain."), reason="operators_only")
    now = timezone.now()
    try:
        with transaction.atomic():
            changed = SendingDomain.objects.filter(
                pk=domain.pk, state__in=[DomainState.PENDING, DomainState.LAPSED, DomainState.VERIFIED]
            ).update(
                state=DomainState.VERIFIED, is_assumed=True, verified_at=now, failing_since=None, next_check_at=None
            )
            if not changed:
                raise Refused(_("The domain was removed."), reason="domain_removed")
            _ensure_keys(domain)
            _choose_signing_key(domain, seen=frozenset(SELECTORS), now=now)
            _record_state(domain, actor, "domain.assume", after=DomainState.VERIFIED)
    except IntegrityError as error:
        raise _taken(error, domain.name) from None
    domain.refresh_from_db()
    _hold_or_release(domain)
    return domain


def remove_domain(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """New mail is refused at once and open mail is held; ``restore_domain`` undoes it within UNDO_WINDOW."""
    with transaction.atomic():
        changed = (
            SendingDomain.objects.filter(pk=domain.pk)
            .exclude(state=DomainState.REMOVED)
            .update(state=DomainState.REMOVED, removed_at=timezone.now(), next_check_at=None)
        )
        if not changed:
            raise Refused(_("The domain %(name)s is removed already.") % {"name": domain.name}, reason="domain_removed")
        _record_state(domain, actor, "domain.remove", after=DomainState.REMOVED)
    control.hold_domain(domain.id, reason=HELD_REMOVED)
    domain.refresh_from_db()
    return domain


def restore_domain(domain: SendingDomain, *, actor: Actor) -> SendingDomain:
    """Takes a removal back. Where another tenant has proved the domain meanwhile, the claim has to be proved anew."""
    now = timezone.now()
    removed = SendingDomain.objects.filter(pk=domain.pk, state=DomainState.REMOVED, removed_at__gte=now - UNDO_WINDOW)
    was_proved = domain.verified_at is not None
    for state in [DomainState.VERIFIED, DomainState.PENDING] if was_proved else [DomainState.PENDING]:
        try:
            with transaction.atomic():
                if not removed.update(
                    state=state, removed_at=None, failing_since=None, next_check_at=None if domain.is_assumed else now
                ):
                    raise Refused(
                        _("The domain %(name)s cannot be restored any more.") % {"name": domain.name},
                        reason="undo_too_late",
                    )
                _record_state(domain, actor, "domain.restore", after=state)
            break
        except IntegrityError as error:
            if "sending_domain_once_per_tenant" in str(error):
                raise _taken(error, domain.name) from None
    domain.refresh_from_db()
    _hold_or_release(domain)
    return domain


def update_domain(
    domain: SendingDomain,
    *,
    actor: Actor,
    signs: bool | None = None,
    covers_subdomains: bool | None = None,
    keeps_reverse_path: bool | None = None,
    adds_unsubscribe: bool | None = None,
) -> SendingDomain:
    """What is None stays as it is."""
    wanted = {
        "signs": signs,
        "covers_subdomains": covers_subdomains,
        "keeps_reverse_path": keeps_reverse_path,
        "adds_unsubscribe": adds_unsubscribe,
    }
    changes = {name: value for name, value in wanted.items() if value is not None and value != getattr(domain, name)}
    if changes:
        with transaction.atomic():
            SendingDomain.objects.filter(pk=domain.pk).update(**changes)
            audit.record(
                actor,
                "domain.update",
                tenant=domain.tenant,
                object_id=domain.id,
                object_name=domain.name,
                before={name: getattr(domain, name) for name in changes},
                after=changes,
            )
        domain.refresh_from_db()
    return domain


def find_domain(name: str | UUID, *, tenant: Tenant | None = None, is_removed: bool = False) -> SendingDomain:
    """By name or id. Without a tenant, for operators, the owner's row where there is one. Raises NotFound, Refused."""
    domains = SendingDomain.objects.all() if tenant is None else SendingDomain.objects.of(tenant)
    key = name if isinstance(name, UUID) else _as_uuid(name)
    wanted = Q(pk=key) if key else Q(name=_comparable(str(name)))
    removed = Q(state=DomainState.REMOVED)
    found = list(
        domains.select_related("tenant").filter(wanted, removed if is_removed else ~removed).order_by("-created_at")
    )
    owned = [domain for domain in found if domain.state in (DomainState.VERIFIED, DomainState.LAPSED)]
    if len(found) > 1 and len(owned) != 1 and not is_removed:
        raise Refused(
            _("Several tenants have added %(name)s; say which one is meant.") % {"name": name},
            reason="domain_ambiguous",
            field="tenant",
        )
    if not found:
        raise NotFound(_("There is no domain %(name)s.") % {"name": name}, field="name")
    return (owned or found)[0]


def list_domains(tenant: Tenant | None = None, *, with_removed: bool = False) -> list[SendingDomain]:
    domains = SendingDomain.objects.all() if tenant is None else SendingDomain.objects.of(tenant)
    if not with_removed:
        domains = domains.exclude(state=DomainState.REMOVED)
    return list(domains.select_related("tenant").order_by("name", "created_at"))


# ---------------------------------------------------------------- records


def records_of(domain: SendingDomain) -> list[RecordCheck]:
    """What the domain should publish, each with what the last check found."""
    last = {(entry["purpose"], entry["type"], entry["name"]): entry for entry in domain.findings}
    return [
        _with_last(record, last.get((record.purpose, record.type, record.name))) for record in _wanted_records(domain)
    ]


def findings_of(domain: SendingDomain) -> list[RecordCheck]:
    """Only what the last check found fault with, problems first."""
    order = list(domain_checks.Level)
    faults = [_from_json(entry) for entry in domain.findings if entry["finding"]]
    return sorted(faults, key=lambda fault: order.index(domain_checks.level_of(fault.finding)) if fault.finding else 9)


def platform_records(domains: Iterable[SendingDomain] | None = None) -> list[tuple[str, str, str]]:
    """What the operator publishes so that the customers' CNAMEs lead somewhere: (name, type, value)."""
    chosen = list_domains() if domains is None else list(domains)
    return [
        (key.target, "TXT", key.public_record) for domain in chosen for key in wanted_of(domain).keys
    ]  # fmt: skip


def wanted_of(domain: SendingDomain) -> Wanted:
    keys = _ensure_keys(domain)
    return Wanted(
        domain=domain.name,
        registered_domain=registered_domain(domain.name),
        ownership_value=f"relay-verify={domain.ownership_token}",
        keys=tuple(
            WantedKey(
                key.selector, f"{key.selector}.{_label_of(domain)}.{settings.PLATFORM_DKIM_DOMAIN}", key.public_record
            )
            for key in keys
        ),
        bounce_target=settings.BOUNCE_DOMAIN,
        spf_include=settings.BOUNCE_DOMAIN,
    )


def _wanted_records(domain: SendingDomain) -> list[RecordCheck]:
    return wanted_records(wanted_of(domain))


def _with_last(record: RecordCheck, entry: dict[str, Any] | None) -> RecordCheck:
    if entry is None:
        return record
    # SPF and DMARC are advised in a form that depends on what was found; the others have one right value.
    value = entry["value"] if record.purpose in {"spf", "dmarc"} else record.value
    return RecordCheck(
        record.purpose,
        record.type,
        record.name,
        value,
        entry["found"],
        entry["ok"],
        Finding(entry["finding"]) if entry["finding"] else None,
        entry["data"],
    )


def _from_json(entry: dict[str, Any]) -> RecordCheck:
    finding = Finding(entry["finding"]) if entry["finding"] else None
    return RecordCheck(
        entry["purpose"],
        entry["type"],
        entry["name"],
        entry["value"],
        entry["found"],
        entry["ok"],
        finding,
        entry["data"],
    )


def _label_of(domain: SendingDomain) -> str:
    """Names the domain below the platform's: short, stable, and telling nothing about the tenant."""
    return domain.id.hex[-12:]


# ---------------------------------------------------------------- keys


def _ensure_keys(domain: SendingDomain) -> list[DkimKey]:
    """The domain's keys in the order of SELECTORS, made when they are first needed."""
    keys = {key.selector: key for key in _current_keys(domain)}
    for selector in SELECTORS:
        if selector not in keys:
            keys[selector] = _make_key(domain, selector)
    return [keys[selector] for selector in SELECTORS]


def renew_key(domain: SendingDomain, *, actor: Actor) -> DkimKey:
    """A new key in the place of the one that does not sign; mail is signed with it after ``switch_key`` only.

    The replaced one verified mail until now: let some days pass after a switch. Raises Refused.
    """
    with transaction.atomic():
        row = SendingDomain.objects.select_for_update(of=("self",)).get(pk=domain.pk)
        resting = _resting_key(row)
        DkimKey.objects.filter(pk=resting.pk).update(state=DkimKeyState.RETIRED, retired_at=timezone.now())
        made = _make_key(row, resting.selector)
        _record_key(row, actor, "domain.key_renew", before=resting, after=made)
    return made


def switch_key(domain: SendingDomain, *, actor: Actor) -> DkimKey:
    """Sign with the other key. Raises Refused unless verifiers can find it (an operator's word stands for a vouched domain)."""
    resting = _resting_key(domain)
    if not domain.is_assumed:
        (observation,) = asyncio.run(_observe_all([wanted_of(domain)]))
        if resting.selector not in observation.seen_selectors:
            raise Refused(
                _("The record of {name} does not show the new key yet.").format(
                    name=f"{resting.selector}._domainkey.{domain.name}"
                ),
                reason="key_not_published",
            )
    with transaction.atomic():
        row = SendingDomain.objects.select_for_update(of=("self",)).get(pk=domain.pk)
        signing = DkimKey.objects.filter(domain=row, state=DkimKeyState.SIGNING).first()
        if signing is not None:
            DkimKey.objects.filter(pk=signing.pk).update(state=DkimKeyState.WAITING)
        # Renewed at the same moment by somebody else: what was seen is not that key.
        if not DkimKey.objects.filter(pk=resting.pk, state=DkimKeyState.WAITING).update(
            state=DkimKeyState.SIGNING, seen_at=timezone.now()
        ):
            raise Refused(_("The keys were changed meanwhile; try again."), reason="key_changed")
        _record_key(row, actor, "domain.key_switch", before=signing, after=resting)
    resting.refresh_from_db()
    return resting


def _resting_key(domain: SendingDomain) -> DkimKey:
    """The one that does not sign; of two that do not, the second."""
    waiting = [key for key in _ensure_keys(domain) if key.state != DkimKeyState.SIGNING]
    return waiting[-1]


def _record_key(row: SendingDomain, actor: Actor, action: str, *, before: DkimKey | None, after: DkimKey) -> None:
    audit.record(
        actor,
        action,
        tenant=row.tenant,
        object_id=row.id,
        object_name=row.name,
        before={"key": str(before.pk), "selector": before.selector} if before else {},
        after={"key": str(after.pk), "selector": after.selector},
    )


def _current_keys(domain: SendingDomain) -> list[DkimKey]:
    return list(DkimKey.objects.filter(domain=domain).exclude(state=DkimKeyState.RETIRED))


def _make_key(domain: SendingDomain, selector: str) -> DkimKey:
    pem, key_id = generate_key(), uuid7()
    try:
        with transaction.atomic():
            return DkimKey.objects.create(
                id=key_id,
                domain=domain,
                selector=selector,
                sealed_private_key=sealing.seal(pem, context=DkimKey.sealing_context(key_id)),
                public_record=public_record(pem),
            )
    except IntegrityError:  # made at the same moment by somebody else
        return DkimKey.objects.exclude(state=DkimKeyState.RETIRED).get(domain=domain, selector=selector)


def _choose_signing_key(domain: SendingDomain, *, seen: frozenset[str], now: datetime) -> None:
    """Sign with a key that verifiers can find; stay with the one in use unless only the other is seen."""
    keys = sorted(_current_keys(domain), key=lambda key: key.selector)
    DkimKey.objects.filter(pk__in=[key.pk for key in keys if key.selector in seen], seen_at=None).update(seen_at=now)
    signing = next((key for key in keys if key.state == DkimKeyState.SIGNING), None)
    candidate = next((key for key in keys if key.selector in seen), None)
    if candidate is None or (signing is not None and signing.selector in seen):
        return
    if signing is not None:
        DkimKey.objects.filter(pk=signing.pk).update(state=DkimKeyState.WAITING)
    DkimKey.objects.filter(pk=candidate.pk).update(state=DkimKeyState.SIGNING)


# ---------------------------------------------------------------- checking


def check_domain(domain: SendingDomain, *, actor: Actor | None = None, now: datetime | None = None) -> SendingDomain:
    """Looks the domain up and acts on what is there.

    Takes as long as the DNS takes; not for use inside an event loop.
    """
    if domain.state == DomainState.REMOVED:
        raise Refused(_("The domain was removed."), reason="domain_removed")
    (observation,) = asyncio.run(_observe_all([wanted_of(domain)]))
    return apply_observation(domain, observation, actor=actor, now=now)


def check_due_domains(*, most: int = 200) -> int:
    """Checks the domains whose time has come; a domain is taken by one caller only. Returns how many were checked."""
    due = _take_due(most)
    for start in range(0, len(due), _CHECKED_AT_ONCE):
        domains = due[start : start + _CHECKED_AT_ONCE]
        observations = asyncio.run(_observe_all([wanted_of(domain) for domain in domains]))
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


async def _observe_all(wanted: Sequence[Wanted]) -> list[Observation]:
    # A resolver of its own for each round: an answer cached earlier is what somebody who presses "check now" has
    # mended.
    nameserver = (settings.DNS.host, settings.DNS.port) if settings.DNS else None
    resolver = Resolver(nameserver, _DNS_TIMEOUT_S)
    return list(await asyncio.gather(*(domain_checks.observe(one, resolver) for one in wanted)))


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
            _choose_signing_key(row, seen=observation.seen_selectors, now=moment)
        if row.failing_since is not None and before.failing_since is None:
            _tell_failing(row)
        if row.state != before.state:
            verb = "domain.verify" if row.state == DomainState.VERIFIED else "domain.lapse"
            _record_state(row, by, verb, before=before.state, after=row.state)
    _hold_or_release(row)
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


def _hold_or_release(domain: SendingDomain) -> None:
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
                _record_state(lapsed, actor, "domain.lose", before=DomainState.LAPSED, after=DomainState.PENDING)
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


# ---------------------------------------------------------------- domains of the service itself


def ensure_own_domains(*, actor: Actor) -> list[SendingDomain]:
    """The domains the service writes from belong to the system tenant, on the operator's word. Safe to repeat.

    The one that signs for feedback loops has to be proved like any other, unless the service writes from it too: a
    signature whose key nobody can find would tell receivers that something is wrong.
    """
    system = Tenant.objects.get(is_system=True)
    own = []
    written_from = own_domain_names()
    for name in dict.fromkeys([*written_from, *filter(None, [_comparable(settings.FEEDBACK_DOMAIN)])]):
        domain = SendingDomain.objects.of(system).filter(name=name).exclude(state=DomainState.REMOVED).first()
        try:
            own.append(domain or add_domain(system, name, actor=actor, assume_verified=name in written_from))
        except Refused as refusal:
            LOG.warning("the service cannot write as %s: %s", name, refusal.sentence)
    return own


def feedback_domain() -> SendingDomain | None:
    """The domain of the operator's second signature; None where none is set, or nobody has added it yet."""
    if not settings.FEEDBACK_DOMAIN:
        return None
    own = SendingDomain.objects.filter(tenant__is_system=True, name=_comparable(settings.FEEDBACK_DOMAIN))
    return own.exclude(state=DomainState.REMOVED).first()


def own_domain_names() -> list[str]:
    """The author domain of system mail and the onboarding domain, from which mail goes out before any DNS is set."""
    author = parseaddr(settings.MAIL_FROM)[1].rpartition("@")[2]
    return list(dict.fromkeys(_comparable(name) for name in (author, settings.ONBOARDING_DOMAIN) if name))


# ---------------------------------------------------------------- small parts


def _record_state(domain: SendingDomain, actor: Actor, action: str, *, after: str, before: str | None = None) -> None:
    audit.record(
        actor,
        action,
        tenant=domain.tenant,
        object_id=domain.id,
        object_name=domain.name,
        before={"state": before or domain.state},
        after={"state": after},
    )


def _taken(error: IntegrityError, name: str) -> Refused:
    if "sending_domain_once_per_tenant" in str(error):
        return Refused(_("%(name)s was added already.") % {"name": name}, reason="domain_added_already", field="name")
    if "sending_domain_one_owner" in str(error):
        return Refused(_("%(name)s belongs to another tenant.") % {"name": name}, reason="domain_taken", field="name")
    raise error


def _comparable(name: str) -> str:
    try:
        return parse_domain(name.strip())
    except MailboxSyntaxError:
        return name.strip().lower()


def _as_uuid(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None
