"""What a member may do to open mail, with the line in the audit log that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound
from delivery.models import JobKind, Message, Recipient
from delivery.queue import control
from delivery.queue.control import Changed, Which

HELD_BY_MEMBER = "member"

# What the operator or a rule has put on hold stays so: a member releases what a member has held.
VERBS: dict[str, Callable[[Which], Changed]] = {
    JobKind.RETRY: control.retry,
    JobKind.HOLD: lambda which: control.hold(which, reason=HELD_BY_MEMBER),
    JobKind.RELEASE: lambda which: control.release(which, reason=HELD_BY_MEMBER),
    JobKind.CANCEL: control.cancel,
}


def change(tenant: Tenant, verb: str, message_id: UUID, *, recipient_id: UUID | None = None, actor: Actor) -> Changed:
    """One message's open recipients, or one of them. Raises NotFound for what is not this tenant's."""
    which = _which(tenant, message_id, recipient_id)
    with transaction.atomic():
        changed = VERBS[verb](which)
        audit.record(
            actor,
            f"message.{verb}",
            tenant=tenant,
            object_id=recipient_id or message_id,
            after={"changed": changed.changed, "in_hand": changed.in_hand},
        )
    return changed


def waiting(tenant: Tenant, message_id: UUID, *, recipient_id: UUID | None = None) -> control.Waiting:
    """What is open, for the question that stands before. Raises NotFound."""
    return control.waiting(_which(tenant, message_id, recipient_id))


def _which(tenant: Tenant, message_id: UUID, recipient_id: UUID | None) -> Which:
    if recipient_id is None:
        found = Message.objects.of(tenant).filter(pk=message_id).exists()
        which = Which(message_id=message_id)
    else:
        found = Recipient.objects.of(tenant).filter(pk=recipient_id, message_id=message_id).exists()
        which = Which(recipient_id=recipient_id)
    if not found:
        raise NotFound(_("There is no such message."))
    return which
