"""Who belongs to a tenant, as what. A tenant is never without an owner: changes to its members wait for each other."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Membership, Role, Tenant, User
from accounts.refusals import NotFound, Refused


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """An API key that manages members: it may what an admin may, and is nobody."""

    role: str = Role.ADMIN
    user: User | None = None
    user_id: UUID | None = None


# Who changes members.
By = Membership | KeyStanding


def members_of(tenant: Tenant) -> list[Membership]:
    """Owners first, then by address."""
    found = Membership.objects.of(tenant).select_related("user")
    return sorted(found, key=lambda one: (-Role(one.role).rank, one.user.email))


def find(tenant: Tenant, key: UUID) -> Membership:
    """Raises NotFound."""
    found = Membership.objects.of(tenant).select_related("user", "tenant").filter(pk=key).first()
    if found is None:
        raise NotFound(_("There is no such member."))
    return found


def checked_role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise Refused(_("There is no such role."), reason="role_unknown", field="role") from None


def ensure_may_give(by: By, role: Role) -> None:
    """Nobody gives more than they have. Raises Refused."""
    if not Role(by.role).includes(role):
        raise Refused(_("Only an owner can make somebody an owner."), reason="role_too_high", field="role")


def change_role(member: Membership, role: str, *, by: By, actor: Actor) -> Membership:
    """Raises Refused: for an owner by anybody but an owner, and for the last owner."""
    wanted = checked_role(role)
    with transaction.atomic():
        fresh = _locked(member)
        _ensure_may_touch(by, fresh)
        ensure_may_give(by, wanted)
        if fresh.role == wanted:
            return fresh
        if fresh.role == Role.OWNER:
            _ensure_other_owner(fresh)
        before = fresh.role
        fresh.role = wanted
        fresh.save(update_fields=["role"])
        _record(fresh, actor, "member.role", before={"role": before}, after={"role": wanted.value})
    return fresh


def remove(member: Membership, *, by: By, actor: Actor) -> None:
    """Raises Refused. Whoever removes themselves leaves, which every role may."""
    with transaction.atomic():
        fresh = _locked(member)
        is_leaving = by.user_id == fresh.user_id
        if not is_leaving:
            _ensure_may_touch(by, fresh)
        if fresh.role == Role.OWNER:
            _ensure_other_owner(fresh)
        fresh.delete()
        _record(fresh, actor, "member.leave" if is_leaving else "member.remove", before={"role": fresh.role}, after={})


def transfer(tenant: Tenant, *, to: Membership, by: Membership, actor: Actor) -> None:
    """``to`` becomes an owner, and who gives it away stays as an admin. Raises Refused."""
    if by.role != Role.OWNER:
        raise Refused(_("Only an owner can hand the tenant over."), reason="owners_only")
    with transaction.atomic():
        heir, giver = _locked(to), _locked(by)
        if heir.user_id == giver.user_id:
            raise Refused(_("You own it already."), reason="is_owner", field="member")
        if not heir.user.is_active:
            raise Refused(_("This person cannot sign in."), reason="inactive", field="member")
        Membership.objects.filter(pk=heir.pk).update(role=Role.OWNER)
        Membership.objects.filter(pk=giver.pk).update(role=Role.ADMIN)
        audit.record(
            actor,
            "tenant.transfer",
            tenant=tenant,
            object_id=tenant.id,
            object_name=tenant.slug,
            before={"owner": giver.user.email},
            after={"owner": heir.user.email},
        )


def require_two_factors(tenant: Tenant, required: bool, *, by: User, actor: Actor) -> None:
    """Who switches it on must have a second factor, or would be the first to stand outside. Raises Refused."""
    if required and not by.has_second_factor:
        raise Refused(_("Set up a second factor for yourself first."), reason="second_factor_first")
    with transaction.atomic():
        changed = Tenant.objects.filter(pk=tenant.pk, requires_two_factors=not required).update(
            requires_two_factors=required
        )
        if changed:
            audit.record(
                actor, "tenant.two_factors", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
                before={"required": not required}, after={"required": required},
            )  # fmt: skip
    tenant.requires_two_factors = required


def _locked(member: Membership) -> Membership:
    """As it is now, with the tenant locked: two owners who leave at the same moment are told apart."""
    Tenant.objects.select_for_update().get(pk=member.tenant_id)
    fresh = Membership.objects.select_related("user", "tenant").filter(pk=member.pk).first()
    if fresh is None:
        raise NotFound(_("There is no such member."))
    return fresh


def _ensure_may_touch(by: By, member: Membership) -> None:
    if not Role(by.role).includes(Role(member.role)):
        raise Refused(_("Only an owner can change an owner."), reason="role_too_high")


def _ensure_other_owner(member: Membership) -> None:
    others = Membership.objects.filter(tenant=member.tenant_id, role=Role.OWNER, user__is_active=True)
    if not others.exclude(pk=member.pk).exists():
        raise Refused(_("A tenant needs an owner: hand it over to somebody first."), reason="last_owner", field="role")


def _record(member: Membership, actor: Actor, action: str, *, before: dict[str, str], after: dict[str, str]) -> None:
    audit.record(
        actor,
        action,
        tenant=member.tenant,
        object_id=member.user_id,
        object_name=member.user.email,
        before=before,
        after=after,
    )
