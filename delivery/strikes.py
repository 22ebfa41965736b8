"""Strikes become suppressions: refusals noted by settlements and by returned reports are judged, each once.

Idempotent and safe beside itself: what another process judges is skipped. Engines do it on their own timer, so it needs
neither beat nor broker; the second look at a domain that did not exist asks the DNS and is housekeeping's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.audit import Actor
from delivery import suppressions
from delivery.core.classification import Action, ReplyClass
from delivery.core.reply import Reply
from delivery.core.suppressing import (
    CARRIER_GROUPS,
    LONGEST_MEMORY,
    SECOND_LOOK_AFTER,
    StrikeVerdict,
    judge_strike,
    lasts,
)
from delivery.dns import Resolver
from delivery.models import Recipient, Strike, SuppressionKind, SuppressionReason
from delivery.shaping.providers import providers
from delivery.suppression_list import key_of
from delivery.suppressions import Cause, Owner, Target
from delivery.transport.hops import find_mx_hosts

log = structlog.get_logger(__name__)

_AT_ONCE = 200
_ACTOR = Actor.system("suppression")


def note(recipient: Recipient, *, reply_class: str, action: Action, detail: str, now: datetime) -> None:
    """A report speaks against an address, in the caller's transaction."""
    Strike.objects.create(
        tenant_id=recipient.tenant_id,
        message_id=recipient.message_id,
        recipient_id=recipient.pk,
        reply_class=reply_class,
        action=action,
        detail=detail.replace("\0", "�")[:500],
        happened_at=now,
        due_at=now + (SECOND_LOOK_AFTER if reply_class == ReplyClass.BAD_DOMAIN else timedelta(0)),
    )


def judge_due(*, now: datetime | None = None) -> int:
    """Judge what waits and needs no second look; returns how many."""
    judged = 0
    while True:
        with transaction.atomic():
            strikes = list(
                Strike.objects.select_for_update(skip_locked=True)
                .filter(judged_at=None, due_at__lte=now or timezone.now())
                .exclude(reply_class=ReplyClass.BAD_DOMAIN)
                .order_by("due_at", "id")[:_AT_ONCE]
            )
            _judge(strikes, now=now or timezone.now())
        judged += len(strikes)
        if len(strikes) < _AT_ONCE:
            return judged


def look_again(*, now: datetime | None = None) -> int:
    """Ask once more for the domains that did not exist an hour ago; returns how many strikes were judged."""
    moment = now or timezone.now()
    waiting = list(
        Strike.objects.filter(judged_at=None, due_at__lte=moment, reply_class=ReplyClass.BAD_DOMAIN).order_by(
            "due_at", "id"
        )[:_AT_ONCE]
    )
    if not waiting:
        return 0
    domains = dict(Recipient.objects.filter(id__in=[one.recipient_id for one in waiting]).values_list("id", "domain"))
    # Outside of any transaction: a name server may take its time.
    answers = asyncio.run(_ask({*domains.values()}))
    judged = 0
    for strike in waiting:
        is_dead = answers.get(domains.get(strike.recipient_id, ""))
        with transaction.atomic():
            locked = Strike.objects.select_for_update(skip_locked=True).filter(pk=strike.pk, judged_at=None).first()
            if locked is None:
                continue
            if is_dead is None and locked.recipient_id in domains:
                locked.due_at = moment + SECOND_LOOK_AFTER
                locked.save(update_fields=["due_at"])
                continue
            _judge([locked], now=moment, has_recovered=not is_dead)
            judged += 1
    return judged


def forget_old(*, now: datetime | None = None) -> int:
    return Strike.objects.filter(
        judged_at__isnull=False, happened_at__lt=(now or timezone.now()) - LONGEST_MEMORY
    ).delete()[0]


def _judge(strikes: Sequence[Strike], *, now: datetime, has_recovered: bool = False) -> None:
    recipients = {
        recipient.pk: recipient
        for recipient in Recipient.objects.select_related("group", "tenant").filter(
            id__in=[strike.recipient_id for strike in strikes]
        )
    }
    for strike in strikes:
        recipient = recipients.get(strike.recipient_id)
        if recipient is None:  # its history is gone already
            strike.verdict = StrikeVerdict.COUNT
        else:
            strike.address = key_of(recipient.address)
            strike.verdict = StrikeVerdict.RECOVERED if has_recovered else _verdict(strike, recipient, now=now)
            if strike.verdict == StrikeVerdict.SUPPRESS:
                _suppress(strike, recipient, now=now)
        strike.judged_at = now
        strike.save(update_fields=["address", "verdict", "judged_at"])


def _verdict(strike: Strike, recipient: Recipient, *, now: datetime) -> StrikeVerdict:
    earlier = Strike.objects.filter(
        tenant_id=strike.tenant_id, address=strike.address, happened_at__gt=now - LONGEST_MEMORY
    ).exclude(verdict=StrikeVerdict.RECOVERED)
    moments = [*earlier.exclude(pk=strike.pk).values_list("happened_at", flat=True), strike.happened_at]
    return judge_strike(Action(strike.action), is_carrier=_is_carrier(recipient), moments=moments, now=now)


def _suppress(strike: Strike, recipient: Recipient, *, now: datetime) -> None:
    reply_class = ReplyClass(strike.reply_class)
    expires_at = now + lasts(reply_class, is_carrier=_is_carrier(recipient))
    row, changed = suppressions.add(
        Owner(tenant=recipient.tenant),
        Target(SuppressionKind.ADDRESS, strike.address),
        Cause(
            SuppressionReason.BOUNCE,
            reply_class=reply_class.value,
            detail=strike.detail,
            message_id=strike.message_id,
            recipient_id=strike.recipient_id,
            expires_at=expires_at,
        ),
        actor=_ACTOR,
    )
    if changed:
        log.info("suppressed", suppression=str(row.pk), recipient=str(recipient.pk), reply_class=reply_class.value)


def _is_carrier(recipient: Recipient) -> bool:
    if recipient.group is not None and recipient.group.key in CARRIER_GROUPS:
        return True
    return any(one.key in CARRIER_GROUPS and one.has_domain(recipient.domain) for one in providers())


async def _ask(domains: set[str]) -> dict[str, bool | None]:
    """Whether each is dead still; None where nobody can say."""
    resolver = Resolver((settings.DNS.host, settings.DNS.port) if settings.DNS else None)
    answers = await asyncio.gather(*(find_mx_hosts(domain, resolver) for domain in sorted(domains)))
    return {
        domain: answer.is_permanent or None if isinstance(answer, Reply) else False
        for domain, answer in zip(sorted(domains), answers, strict=True)
    }
