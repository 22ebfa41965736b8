"""The trust ladder: a tenant that opened itself begins with a small daily limit, which rises with clean sending.

New senders are what abusers come as, and what receiving hosts distrust; a limit that rises with days, volume and few
bounces and complaints protects the addresses that all tenants share. The step in force is written into the tenant's own
daily limit, so that acceptance knows of nothing else. An operator who sets the limit takes the tenant off the ladder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, notices, quotas
from accounts.audit import Actor
from accounts.models import NoticeKind, Tenant
from accounts.refusals import Refused


@dataclass(frozen=True, slots=True)
class Step:
    """Recipients a day, and what leads to the next step: so long on this one, with so much sent."""

    daily: int
    days: int
    sent: int


STEPS = (
    Step(daily=200, days=3, sent=100),
    Step(daily=1_000, days=7, sent=1_000),
    Step(daily=10_000, days=14, sent=20_000),
    Step(daily=100_000, days=28, sent=300_000),
)
# Practice of the trade: five in a hundred bounces and one complaint in a thousand are where receiving hosts lose patience.
MOST_BOUNCED = 0.05
MOST_COMPLAINED = 0.001


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a tenant's mail since it stands on its step."""

    accepted: int
    bounced: int
    complained: int

    @property
    def settled(self) -> int:
        return self.accepted + self.bounced


def has_earned(step: Step, record: Record, *, since: datetime, now: datetime) -> bool:
    """Whether the tenant may go on from ``step``."""
    return (
        now - since >= timedelta(days=step.days)
        and record.settled >= step.sent
        and record.bounced <= record.settled * MOST_BOUNCED
        and record.complained <= max(1, record.accepted * MOST_COMPLAINED)
    )


def begin(tenant: Tenant, *, actor: Actor) -> None:
    """On the first step. Without effect where the operator has no ladder."""
    if settings.TRUST_LADDER:
        _stand(tenant, 0, actor=actor)


def step_of(tenant: Tenant) -> Step | None:
    """None: not on the ladder, because it is at its end or an operator set the limit."""
    if tenant.trust_level is None or tenant.trust_level >= len(STEPS):
        return None
    return STEPS[tenant.trust_level]


def rise(tenant: Tenant, *, actor: Actor) -> None:
    """One step up; from the last step the daily limit is the installation's. The tenant is told."""
    if tenant.trust_level is None or tenant.trust_level >= len(STEPS):
        raise Refused(_("The tenant %(slug)s is on no step of the ladder.") % {"slug": tenant.slug}, reason="no_step")
    old = tenant.daily_limit
    with transaction.atomic():
        _stand(tenant, tenant.trust_level + 1, actor=actor)
        notices.raise_notice(
            tenant,
            NoticeKind.LEVEL_UP,
            subject=str(tenant.trust_level),
            data={"old": old, "new": tenant.daily_limit},
        )


def set_step(tenant: Tenant, step: int | None, *, actor: Actor) -> None:
    """An operator's word: a step by its number from 0, the number of steps for the end, None for off the ladder."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can set the step."), reason="operators_only")
    if step is not None and not 0 <= step <= len(STEPS):
        raise Refused(_("There are the steps 0 to {n}.").format(n=len(STEPS)), reason="step_unknown", field="step")
    if step is None:
        Tenant.objects.filter(pk=tenant.pk).update(trust_level=None, trust_since=None)
        audit.record(
            actor, "trust.set", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"step": tenant.trust_level}, after={"step": None},
        )  # fmt: skip
        tenant.refresh_from_db()
    else:
        _stand(tenant, step, actor=actor)


def _stand(tenant: Tenant, step: int, *, actor: Actor) -> None:
    daily = STEPS[step].daily if step < len(STEPS) else None
    with transaction.atomic():
        before = tenant.trust_level
        quotas.set_limits(tenant, {"daily_limit": daily}, actor=actor, by_ladder=True)
        Tenant.objects.filter(pk=tenant.pk).update(trust_level=step, trust_since=timezone.now())
        audit.record(
            actor, "trust.set", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"step": before}, after={"step": step},
        )  # fmt: skip
    tenant.refresh_from_db()
