"""Tenants from their first day to their last: made, suspended, resumed, closed.

``create_tenant`` knows nothing of mail: whoever opens a tenant calls ``delivery.tenants.open_tenant``, which also
gives it its streams in the same transaction. Suspending and closing change one row that acceptance and the claim look
at, so new mail is put off within seconds and mail already taken stays where it is.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from uuid import UUID
from zoneinfo import available_timezones

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts import audit, notices, people, trust
from accounts.audit import Actor
from accounts.models import Membership, NoticeKind, Role, Tenant, TenantState, User
from accounts.models.tenant import SYSTEM_SLUG
from accounts.refusals import NotFound, Refused

LONGEST_SLUG = 40  # user names are <slug>.<six characters> and must fit into 64
RESERVED_SLUGS = frozenset({SYSTEM_SLUG, "operator", "new", "me"})
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


def create_tenant(
    name: str, *, owner_email: str, actor: Actor, slug: str = "", language: str = "ja", time_zone: str = "Asia/Tokyo"
) -> tuple[Tenant, User]:
    """The tenant and its owner, who is made if there is nobody with this address. Raises Refused."""
    name = name.strip()
    if not name or len(name) > 120:
        raise Refused(_("A tenant needs a name of 1 to 120 characters."), reason="name_malformed", field="name")
    if time_zone not in available_timezones():
        raise Refused(
            _("There is no time zone %(name)s.") % {"name": time_zone}, reason="time_zone_unknown", field="time_zone"
        )
    with transaction.atomic():
        owner, is_new = people.find_or_create_user(owner_email, language=language)
        tenant = _insert(name, wanted_slug=slug, language=language, time_zone=time_zone)
        Membership.objects.create(tenant=tenant, user=owner, role=Role.OWNER)
        audit.record(
            actor,
            "tenant.create",
            tenant=tenant,
            object_id=tenant.id,
            object_name=tenant.slug,
            after={"name": tenant.name, "slug": tenant.slug, "owner": owner.email, "owner_is_new": is_new},
        )
    return tenant, owner


def set_out(tenant: Tenant) -> None:
    """A tenant that a person opened by themselves: waits for approval where that is asked for."""
    tenant.awaits_approval = settings.SIGNUP == "approval"
    tenant.save(update_fields=["awaits_approval"])
    trust.begin(tenant, actor=Actor.system("trust"))


def approve_tenant(tenant: Tenant, *, actor: Actor) -> Tenant:
    """From now on it may add domains, and so write to everybody. Raises Refused."""
    if not actor.is_operator:
        raise Refused(_("Only an operator can approve a tenant."), reason="operators_only")
    with transaction.atomic():
        if not Tenant.objects.filter(pk=tenant.pk, awaits_approval=True).update(awaits_approval=False):
            raise Refused(_("The tenant %(slug)s waits for no approval.") % {"slug": tenant.slug}, reason="not_waiting")
        audit.record(
            actor, "tenant.approve", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"awaits_approval": True}, after={"awaits_approval": False},
        )  # fmt: skip
        notices.raise_notice(tenant, NoticeKind.APPROVED)
    tenant.refresh_from_db()
    return tenant


def update_profile(tenant: Tenant, *, name: str, language: str, time_zone: str, actor: Actor) -> None:
    """Raises Refused."""
    name = " ".join(name.split())
    if not name or len(name) > 120:
        raise Refused(_("A tenant needs a name of 1 to 120 characters."), reason="name_malformed", field="name")
    changes = {"name": name, "language": language, "time_zone": time_zone}
    before = {field: getattr(tenant, field) for field in changes}
    if before == changes:
        return
    with transaction.atomic():
        Tenant.objects.filter(pk=tenant.pk).update(**changes)
        audit.record(
            actor, "tenant.update", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before=before, after=changes,
        )  # fmt: skip
    tenant.refresh_from_db()


def waiting_for_approval() -> list[Tenant]:
    """The longest waiting first."""
    return list(Tenant.objects.filter(awaits_approval=True).exclude(state=TenantState.CLOSED).order_by("created_at"))


def find_tenant(key: str | UUID) -> Tenant:
    """By slug or id. Raises NotFound."""
    wanted = _as_uuid(key)
    tenant = (
        Tenant.objects.filter(slug=str(key)).first() if wanted is None else Tenant.objects.filter(pk=wanted).first()
    )
    if tenant is None:
        raise NotFound(_("There is no tenant %(key)s.") % {"key": key}, field="tenant")
    return tenant


def owners_of(tenant: Tenant) -> list[User]:
    return list(User.objects.filter(memberships__tenant=tenant, memberships__role=Role.OWNER).order_by("created_at"))


def suspend_tenant(tenant: Tenant, *, reason: str, actor: Actor) -> Tenant:
    """New mail is answered 450, and what was taken is kept until the tenant is resumed or the mail expires."""
    return _change_state(tenant, TenantState.SUSPENDED, came_from={TenantState.ACTIVE}, reason=reason, actor=actor)


def resume_tenant(tenant: Tenant, *, actor: Actor) -> Tenant:
    """Also takes the closing of a tenant back, for as long as its rows are there."""
    return _change_state(
        tenant, TenantState.ACTIVE, came_from={TenantState.SUSPENDED, TenantState.CLOSED}, reason="", actor=actor
    )


def close_tenant(tenant: Tenant, *, actor: Actor, reason: str = "") -> Tenant:
    """No credential works any more; mail already taken is still delivered."""
    return _change_state(
        tenant, TenantState.CLOSED, came_from={TenantState.ACTIVE, TenantState.SUSPENDED}, reason=reason, actor=actor
    )


def _change_state(
    tenant: Tenant, state: TenantState, *, came_from: set[TenantState], reason: str, actor: Actor
) -> Tenant:
    if tenant.is_system:
        raise Refused(_("The system tenant carries the service's own mail and stays active."), reason="system_tenant")
    verb = {TenantState.SUSPENDED: "suspend", TenantState.ACTIVE: "resume", TenantState.CLOSED: "close"}[state]
    before = {"state": tenant.state, "reason": tenant.state_reason}
    closed_at = timezone.now() if state == TenantState.CLOSED else None
    with transaction.atomic():
        changed = Tenant.objects.filter(pk=tenant.pk, state__in=came_from).update(
            state=state, state_reason=reason[:500], closed_at=closed_at
        )
        if not changed:
            tenant.refresh_from_db()
            raise Refused(
                _("The tenant %(slug)s is %(state)s already.") % {"slug": tenant.slug, "state": tenant.state},
                reason="state_unchanged",
            )
        audit.record(
            actor,
            f"tenant.{verb}",
            tenant=tenant,
            object_id=tenant.id,
            object_name=tenant.slug,
            before=before,
            after={"state": state, "reason": reason},
            reason=reason,
        )
        if state == TenantState.SUSPENDED:
            notices.raise_notice(tenant, NoticeKind.PAUSED, data={"reason": reason})
        else:
            notices.close_notice(tenant, NoticeKind.PAUSED)
    tenant.refresh_from_db()
    return tenant


# ---------------------------------------------------------------- slugs


def _insert(name: str, *, wanted_slug: str, language: str, time_zone: str) -> Tenant:
    candidates = [_checked_slug(wanted_slug)] if wanted_slug else _candidates(name)
    for slug in candidates:
        if Tenant.objects.filter(slug=slug).exists():
            continue
        try:
            with transaction.atomic():
                return Tenant.objects.create(slug=slug, name=name, language=language, time_zone=time_zone)
        except IntegrityError:  # taken at the same moment by somebody else
            continue
    raise Refused(
        _("The short name %(slug)s is taken.") % {"slug": wanted_slug or name}, reason="slug_taken", field="slug"
    )


def slug_from(name: str) -> str:
    """What of a name can stand in an address: 「株式会社Acme」 gives acme, 「山田商店」 gives nothing."""
    return slugify(unicodedata.normalize("NFKC", name))[:LONGEST_SLUG].strip("-_").replace("_", "-")


def _candidates(name: str) -> list[str]:
    """A name without a usable letter gets a slug that at least can be read aloud."""
    base = slug_from(name)
    if len(base) < 2 or base in RESERVED_SLUGS or _as_uuid(base):
        return [f"tenant-{_readable(5)}" for _attempt in range(8)]
    stem = base[: LONGEST_SLUG - 6].strip("-")
    return [
        base,
        *(f"{stem}-{number}" for number in range(2, 10)),
        *(f"{stem}-{_readable(5)}" for _attempt in range(8)),
    ]


def _checked_slug(slug: str) -> str:
    if not _SLUG.fullmatch(slug) or len(slug) > LONGEST_SLUG or slug in RESERVED_SLUGS or _as_uuid(slug):
        raise Refused(
            _("A short name has up to 40 letters a to z, digits and hyphens, and is no reserved word."),
            reason="slug_malformed",
            field="slug",
        )
    return slug


def _readable(length: int) -> str:
    return "".join(secrets.choice(_READABLE) for _place in range(length))


def _as_uuid(key: str | UUID) -> UUID | None:
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except ValueError:
        return None
