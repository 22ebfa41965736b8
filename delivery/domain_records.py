"""What a sending domain should publish, its DKIM keys among it, and what the last look found.

Keys are made when they are first needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import sealing
from accounts.identifiers import uuid7
from delivery import domain_checks
from delivery.dns import Resolver
from delivery.domain_answers import Wanted, WantedKey
from delivery.domain_checks import Finding, Observation, RecordCheck, wanted_records
from delivery.domain_names import registered_domain
from delivery.models import DkimKey, DkimKeyState, SendingDomain
from delivery.transport.signing import generate_key, public_record

SELECTORS = ("rw1", "rw2")
_DNS_TIMEOUT_S = 4.0


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


def wanted_of(domain: SendingDomain) -> Wanted:
    keys = ensure_keys(domain)
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


def ensure_keys(domain: SendingDomain) -> list[DkimKey]:
    """The domain's keys in the order of SELECTORS, made when they are first needed."""
    keys = {key.selector: key for key in current_keys(domain)}
    for selector in SELECTORS:
        if selector not in keys:
            keys[selector] = make_key(domain, selector)
    return [keys[selector] for selector in SELECTORS]


def current_keys(domain: SendingDomain) -> list[DkimKey]:
    return list(DkimKey.objects.filter(domain=domain).exclude(state=DkimKeyState.RETIRED))


def make_key(domain: SendingDomain, selector: str) -> DkimKey:
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


async def observe_all(wanted: Sequence[Wanted]) -> list[Observation]:
    # A resolver of its own for each round: an answer cached earlier is what somebody who presses "check now" has
    # mended.
    nameserver = (settings.DNS.host, settings.DNS.port) if settings.DNS else None
    resolver = Resolver(nameserver, _DNS_TIMEOUT_S)
    return list(await asyncio.gather(*(domain_checks.observe(one, resolver) for one in wanted)))
