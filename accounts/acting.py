"""An operator acts as a member of a tenant: for a reason, for a while, and with both names in the tenant's audit log.

What that permits is decided by the pages (relayweb.console.acting). Rights are those of the member, and an operator's own
rights do not count meanwhile.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Membership, Tenant, TenantState
from accounts.refusals import NotFound, Refused

LASTS = timedelta(minutes=30)


def begin(tenant: Tenant, member_id: UUID | str, *, reason: str, actor: Actor) -> tuple[Membership, datetime]:
    """As whom, and until when. Raises Refused."""
    if not actor.is_operator or actor.user is None:
        raise Refused(_("Only an operator can act for somebody."), reason="operators_only")
    if tenant.is_system or tenant.state == TenantState.CLOSED:
        raise Refused(_("Nobody acts for a member of this tenant."), reason="tenant_unfit")
    if not reason.strip():
        raise Refused(_("Say why: the tenant reads it."), reason="reason_missing", field="reason")
    member = find_member(tenant, member_id)
    if member is None:
        raise NotFound(_("There is no such member."), field="member")
    until = timezone.now() + LASTS
    audit.record(
        on_behalf(actor, member), "tenant.act_as", tenant=tenant, object_id=tenant.id, object_name=member.user.email,
        after={"ends_at": until}, reason=reason.strip(),
    )  # fmt: skip
    return member, until


def end(tenant: Tenant, member: Membership, *, actor: Actor) -> None:
    audit.record(
        on_behalf(actor, member), "tenant.act_as_end", tenant=tenant, object_id=tenant.id,
        object_name=member.user.email,
    )  # fmt: skip


def find_member(tenant: Tenant, member_id: UUID | str) -> Membership | None:
    """Of this tenant alone; never an operator, whose rights are not the tenant's."""
    try:
        key = member_id if isinstance(member_id, UUID) else UUID(str(member_id))
    except ValueError:
        return None
    found = Membership.objects.select_related("user", "tenant").filter(tenant=tenant, pk=key)
    return found.filter(user__is_active=True, user__is_operator=False).first()


def members_of(tenant: Tenant) -> list[Membership]:
    """Those one can act as, the longest in the tenant first."""
    found = Membership.objects.select_related("user").filter(
        tenant=tenant, user__is_active=True, user__is_operator=False
    )
    return list(found.order_by("id")[:200])


def on_behalf(actor: Actor, member: Membership) -> Actor:
    """Both names, and no operator's rights."""
    return Actor(actor.name, user=actor.user, on_behalf_of=member.user.email, peer_address=actor.peer_address)


def let_operators_read(tenant: Tenant, lets: bool, *, actor: Actor) -> None:
    """Whether an operator who acts for a member sees subjects and contents. Raises Refused."""
    if actor.on_behalf_of or actor.is_operator:
        raise Refused(_("Only the tenant's own people can permit that."), reason="members_only")
    with transaction.atomic():
        if not Tenant.objects.filter(pk=tenant.pk).exclude(lets_operators_read=lets).update(lets_operators_read=lets):
            return
        audit.record(
            actor, "tenant.operators_read", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"lets_operators_read": not lets}, after={"lets_operators_read": lets},
        )  # fmt: skip
    tenant.refresh_from_db()
