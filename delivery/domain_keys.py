"""Which of a domain's two DKIM keys signs, and how one is replaced.

Mail is signed with a key that verifiers can find: a new one rests until its record has been seen.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import Refused
from delivery.domain_records import current_keys, ensure_keys, make_key, observe_all, wanted_of
from delivery.models import DkimKey, DkimKeyState, SendingDomain

# Nothing is signed with it any more; for so long its row still says what signed a mail that somebody asks about.
RETIRED_KEPT = timedelta(days=30)


def renew_key(domain: SendingDomain, *, actor: Actor) -> DkimKey:
    """A new key in the place of the one that does not sign; mail is signed with it after ``switch_key`` only.

    The replaced one verified mail until now: let some days pass after a switch. Raises Refused.
    """
    with transaction.atomic():
        row = SendingDomain.objects.select_for_update(of=("self",)).get(pk=domain.pk)
        resting = _resting_key(row)
        DkimKey.objects.filter(pk=resting.pk).update(state=DkimKeyState.RETIRED, retired_at=timezone.now())
        made = make_key(row, resting.selector)
        _record_key(row, actor, "domain.key_renew", before=resting, after=made)
    return made


def switch_key(domain: SendingDomain, *, actor: Actor) -> DkimKey:
    """Sign with the other key. Raises Refused unless verifiers can find it (an operator's word stands for a vouched domain)."""
    resting = _resting_key(domain)
    if not domain.is_assumed:
        (observation,) = asyncio.run(observe_all([wanted_of(domain)]))
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
    waiting = [key for key in ensure_keys(domain) if key.state != DkimKeyState.SIGNING]
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


def choose_signing_key(domain: SendingDomain, *, seen: frozenset[str], now: datetime) -> None:
    """Sign with a key that verifiers can find; stay with the one in use unless only the other is seen."""
    keys = sorted(current_keys(domain), key=lambda key: key.selector)
    DkimKey.objects.filter(pk__in=[key.pk for key in keys if key.selector in seen], seen_at=None).update(seen_at=now)
    signing = next((key for key in keys if key.state == DkimKeyState.SIGNING), None)
    candidate = next((key for key in keys if key.selector in seen), None)
    if candidate is None or (signing is not None and signing.selector in seen):
        return
    if signing is not None:
        DkimKey.objects.filter(pk=signing.pk).update(state=DkimKeyState.WAITING)
    DkimKey.objects.filter(pk=candidate.pk).update(state=DkimKeyState.SIGNING)


def forget_retired(*, now: datetime | None = None) -> int:
    """Private keys that were replaced long ago are erased: what nobody has cannot leak."""
    return DkimKey.objects.filter(
        state=DkimKeyState.RETIRED, retired_at__lt=(now or timezone.now()) - RETIRED_KEPT
    ).delete()[0]
