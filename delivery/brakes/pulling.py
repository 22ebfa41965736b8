"""Pulling a brake and letting it go, and the tenant's word against it. Each writes an audit line and tells the tenant.

Nothing here loses mail: slowed mail goes on, held mail waits, and of a paused tenant new mail is put off with 450.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Count
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts import audit, notices, tenants
from accounts.audit import Actor
from accounts.models import Credential, NoticeKind, Tenant, TenantState
from accounts.refusals import NotFound, Refused
from delivery.brakes import levels
from delivery.brakes.gate import BRAKE
from delivery.brakes.levels import Level, Step
from delivery.models import Appeal, Brake, CredentialStanding
from delivery.queue import control, wake
from delivery.queue.control import Which

log = structlog.get_logger(__name__)

BY_HAND = "operator"
ACTOR = Actor.system("brakes")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose mail: all of a tenant's, or that of one credential."""

    tenant: Tenant
    credential_id: UUID | None = None

    @property
    def credential_name(self) -> str:
        if self.credential_id is None:
            return ""
        name = Credential.objects.filter(pk=self.credential_id).values_list("name", flat=True).first()
        return str(name or self.credential_id)

    @property
    def which(self) -> Which:
        return Which(tenant_id=self.tenant.pk, credential_id=self.credential_id)


def level_of(tenant: Tenant) -> Level:
    """Its own, or the installation's; the service's own mail is not braked."""
    return Level.NONE if tenant.is_system else Level(tenant.brake_level or settings.BRAKES)


def set_level(tenant: Tenant, level: str, *, actor: Actor) -> None:
    """Empty: the installation's. Counts from the next look on; what is pulled stays pulled. Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can set the level of brakes."), reason="operators_only")
    if level and level not in list(Level):
        raise Refused(_("There are the levels none, standard and strict."), reason="level_unknown", field="level")
    with transaction.atomic():
        before = tenant.brake_level
        Tenant.objects.filter(pk=tenant.pk).update(brake_level=level)
        audit.record(
            actor, "brake.level", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"brake_level": before}, after={"brake_level": level},
        )  # fmt: skip
        _tell_engines()
    tenant.refresh_from_db()


# ---------------------------------------------------------------- pulling


def pull(
    owner: Owner, *, rule: str, step: Step, evidence: Mapping[str, Any], actor: Actor = ACTOR, reason: str = ""
) -> Brake | None:
    """The new brake, or the one that is open and now harder; None where the open one is as hard already."""
    with transaction.atomic():
        known = (
            Brake.objects.select_for_update()
            .filter(tenant=owner.tenant, credential_id=owner.credential_id, rule=rule, ended_at=None)
            .first()
        )
        if known is not None and Step(known.step).hardness >= step.hardness:
            return None
        brake = known or Brake(
            tenant=owner.tenant, credential_id=owner.credential_id, credential_name=owner.credential_name[:120],
            rule=rule, pulled_by=actor.name[:254], reason=reason[:500],
        )  # fmt: skip
        before = {"step": known.step} if known else {}
        brake.step, brake.evidence = step, dict(evidence)
        brake.rate_per_second = levels.slow_rate(level_of(owner.tenant)) if step is Step.SLOW else None
        try:
            with transaction.atomic():
                brake.save()
        except IntegrityError:  # pulled at the same moment by somebody else
            return None
        audit.record(
            actor, "brake.pull", tenant=owner.tenant, object_id=brake.id,
            object_name=brake.credential_name or owner.tenant.slug,
            before=before, after={"step": step, "rule": rule}, reason=reason,
        )  # fmt: skip
        _take_effect(owner, brake, actor)
        _tell_tenant(owner, brake)
        _tell_engines()
    log.warning("brake_pulled", brake=str(brake.id), tenant=owner.tenant.slug, rule=rule, step=step)
    return brake


def pull_by_hand(
    tenant: Tenant, *, step: str, reason: str, actor: Actor, credential: Credential | None = None
) -> Brake:
    """Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can pull a brake."), reason="operators_only")
    if tenant.is_system:
        raise Refused(_("The service's own mail is not braked."), reason="system_tenant")
    if step not in list(Step):
        raise Refused(_("There are the steps slow, hold and pause."), reason="step_unknown", field="step")
    if not reason.strip():
        raise Refused(_("Say why: the tenant reads it."), reason="reason_missing", field="reason")
    if step == Step.PAUSE and credential is not None:
        raise Refused(
            _("A credential's mail is slowed or held; to stop it, revoke it."), reason="step_unknown", field="step"
        )
    owner = Owner(tenant, credential.id if credential else None)
    brake = pull(owner, rule=BY_HAND, step=Step(step), evidence={}, actor=actor, reason=reason.strip())
    if brake is None:
        raise Refused(_("Such a brake is pulled already."), reason="state_unchanged", field="step")
    return brake


def _take_effect(owner: Owner, brake: Brake, actor: Actor) -> None:
    if brake.credential_id is not None:
        # Whatever it was: from now on it is looked at.
        CredentialStanding.objects.filter(pk=brake.credential_id).update(
            established_at=None, watched_since=timezone.now(), accepted=0, bounced=0, unknown=0, deferred=0
        )
    match Step(brake.step):
        case Step.HOLD:
            control.hold(owner.which, reason=BRAKE)
        case Step.PAUSE if owner.tenant.state == TenantState.ACTIVE:
            with translation.override(owner.tenant.language):
                why = brake.reason or sentence_of(brake)
            tenants.suspend_tenant(owner.tenant, reason=why, actor=actor)


def _tell_tenant(owner: Owner, brake: Brake) -> None:
    """A pause has its own notice."""
    data = {
        "brake_id": str(brake.id), "name": brake.credential_name, "rule": brake.rule, "reason": brake.reason,
        **{key: brake.evidence[key] for key in ("percent", "bad", "total", "group") if key in brake.evidence},
    }  # fmt: skip
    for kind in (NoticeKind.SLOWED, NoticeKind.MAIL_HELD):
        notices.close_notice(owner.tenant, kind, subject=str(brake.id))
    if brake.step == Step.SLOW:
        notices.raise_notice(owner.tenant, NoticeKind.SLOWED, subject=str(brake.id), data=data)
    elif brake.step == Step.HOLD:
        notices.raise_notice(owner.tenant, NoticeKind.MAIL_HELD, subject=str(brake.id), data=data)


def sentence_of(brake: Brake) -> str:
    """The evidence in one sentence of the active language."""
    evidence = brake.evidence
    if brake.rule == BY_HAND or not evidence:
        return brake.reason
    words = {
        "bounces": _("bounces: {percent} % ({bad} of {total} mails)"),
        "credential_bounces": _("bounces: {percent} % ({bad} of {total} mails)"),
        "watched_bounces": _("bounces: {percent} % ({bad} of {total} mails)"),
        "complaints": _("complaints: {percent} % ({bad} of {total} mails)"),
        "carrier_unknown": _("unknown users at {group}: {percent} % ({bad} of {total} mails)"),
        "watched_unknown": _("unknown users: {percent} % ({bad} of {total} mails)"),
        "sudden_volume": _("sudden volume: {bad} mails in an hour, at most {total} before"),
    }
    numbers = {
        "percent": evidence.get("percent"), "group": evidence.get("group", ""),
        "bad": f"{evidence.get('bad', 0):,}", "total": f"{evidence.get('total', 0):,}",
    }  # fmt: skip
    return words[brake.rule].format(**numbers) if brake.rule in words else brake.reason


# ---------------------------------------------------------------- letting go


def release(brake: Brake, *, answer: str, actor: Actor) -> Brake:
    """A person has looked: what was held goes out in turn. A waiting appeal is granted with it. Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can release a brake."), reason="operators_only")
    answer = answer.strip()
    with transaction.atomic():
        _end(brake, actor=actor, answer=answer, is_released=True)
        Appeal.objects.filter(brake=brake, answered_at=None).update(
            answered_at=timezone.now(), answered_by=actor.name[:254], answer=answer[:1000], is_granted=True
        )
        notices.raise_notice(
            brake.tenant, NoticeKind.BRAKE_RELEASED, subject=str(brake.id),
            data={"brake_id": str(brake.id), "answer": answer},
        )  # fmt: skip
    return brake


def end_clean(brake: Brake) -> bool:
    """What was only slowed goes at full speed again, by itself. False where somebody was first."""
    try:
        with transaction.atomic():
            _end(brake, actor=ACTOR, answer="", is_released=False)
    except Refused:
        return False
    return True


def _end(brake: Brake, *, actor: Actor, answer: str, is_released: bool) -> None:
    now = timezone.now()
    changed = Brake.objects.filter(pk=brake.pk, ended_at=None).update(
        ended_at=now, ended_by=actor.name[:254], is_released=is_released, answer=answer[:1000]
    )
    if not changed:
        raise Refused(_("This brake was let go already."), reason="state_unchanged")
    owner = Owner(brake.tenant, brake.credential_id)
    audit.record(
        actor, "brake.release", tenant=brake.tenant, object_id=brake.id,
        object_name=brake.credential_name or brake.tenant.slug,
        before={"step": brake.step, "rule": brake.rule}, reason=answer,
    )  # fmt: skip
    for kind in (NoticeKind.SLOWED, NoticeKind.MAIL_HELD):
        notices.close_notice(brake.tenant, kind, subject=str(brake.id))
    if brake.credential_id is not None and is_released:
        CredentialStanding.objects.filter(pk=brake.credential_id).update(
            established_at=now, last_seen_at=now, accepted=0, bounced=0, unknown=0, deferred=0
        )
    _undo_effect(owner, brake, actor)
    _tell_engines()
    brake.refresh_from_db()
    log.warning("brake_released", brake=str(brake.id), tenant=brake.tenant.slug, by=actor.name)


def _undo_effect(owner: Owner, brake: Brake, actor: Actor) -> None:
    """What another open brake keeps back stays there."""
    others = Brake.objects.filter(tenant=brake.tenant, ended_at=None)
    if brake.step == Step.PAUSE and not others.filter(step=Step.PAUSE).exists():
        brake.tenant.refresh_from_db()
        if brake.tenant.state == TenantState.SUSPENDED:
            tenants.resume_tenant(brake.tenant, actor=actor)
    holding = others.filter(step=Step.HOLD)
    # What was held before a brake became a pause is still held.
    if holding.filter(credential_id=None).exists() or holding.filter(credential_id=brake.credential_id).exists():
        return
    if brake.credential_id is not None:
        control.release(owner.which, reason=BRAKE)
        control.release(owner.which, reason="first_results")
    else:
        control.release(owner.which, reason=BRAKE)
        for credential_id in holding.values_list("credential_id", flat=True):
            control.hold(Which(tenant_id=brake.tenant_id, credential_id=credential_id), reason=BRAKE)


# ---------------------------------------------------------------- the tenant's word


def appeal(brake: Brake, text: str, *, actor: Actor) -> Appeal:
    """For a person to read. Raises Refused."""
    text = text.strip()
    if not text or len(text) > 2000:
        raise Refused(
            _("Say in up to 2,000 characters what happened and what you have mended."),
            reason="text_malformed",
            field="text",
        )
    if brake.ended_at is not None:
        raise Refused(_("This brake was let go already."), reason="state_unchanged")
    with transaction.atomic():
        Brake.objects.select_for_update().get(pk=brake.pk)
        if Appeal.objects.filter(brake=brake, answered_at=None).exists():
            raise Refused(_("Your request waits for an answer already."), reason="appeal_waits")
        made = Appeal.objects.create(tenant=brake.tenant, brake=brake, text=text, written_by=actor.name[:254])
        audit.record(
            actor, "brake.appeal", tenant=brake.tenant, object_id=brake.id,
            object_name=brake.credential_name or brake.tenant.slug, reason=text,
        )  # fmt: skip
    return made


def refuse(waiting: Appeal, *, answer: str, actor: Actor) -> None:
    """The brake stays; the tenant reads why, and may write again. Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can answer."), reason="operators_only")
    if not answer.strip():
        raise Refused(_("Say why: the tenant reads it."), reason="answer_missing", field="answer")
    with transaction.atomic():
        changed = Appeal.objects.filter(pk=waiting.pk, answered_at=None).update(
            answered_at=timezone.now(), answered_by=actor.name[:254], answer=answer.strip()[:1000], is_granted=False
        )
        if not changed:
            raise Refused(_("This request was answered already."), reason="state_unchanged")
        audit.record(
            actor, "brake.refuse", tenant=waiting.tenant, object_id=waiting.brake_id,
            object_name=waiting.brake.credential_name or waiting.tenant.slug, reason=answer.strip(),
        )  # fmt: skip
        notices.raise_notice(
            waiting.tenant, NoticeKind.APPEAL_REFUSED, subject=str(waiting.pk),
            data={"brake_id": str(waiting.brake_id), "answer": answer.strip()},
        )  # fmt: skip


def find(key: UUID | str, *, tenant: Tenant | None = None) -> Brake:
    """Raises NotFound."""
    found = Brake.objects.select_related("tenant")
    try:
        wanted = key if isinstance(key, UUID) else UUID(str(key))
    except ValueError:
        wanted = None
    brake = found.filter(pk=wanted, **({"tenant": tenant} if tenant else {})).first() if wanted else None
    if brake is None:
        raise NotFound(_("There is no brake %(key)s.") % {"key": key}, field="brake")
    return brake


def pulled_by_step() -> list[tuple[Step, int]]:
    """How many brakes of each step are pulled, the hardest first; steps without one are left out."""
    found = Brake.objects.filter(ended_at=None).values_list("step").annotate(number=Count("pk")).order_by()
    return sorted(((Step(step), number) for step, number in found), key=lambda one: -one[0].hardness)


def appeals_waiting() -> int:
    """Requests for release that nobody has answered."""
    return Appeal.objects.filter(answered_at=None, brake__ended_at=None).count()


def _tell_engines() -> None:
    """They know standings and rates for some seconds; this makes them look at once."""
    with connection.cursor() as cursor:
        cursor.execute(wake.RING, [wake.PATHS])
        cursor.execute(wake.RING, [wake.LANES])
