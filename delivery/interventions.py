"""What people and programs do to mail that waits, written down in the audit log with what came of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from delivery.engine.recovery import POISON
from delivery.queue import control
from delivery.queue.control import Changed, Which

HELD_BY_TENANT = "member"

ACTIONS: dict[str, Callable[[Which], Changed]] = {
    "cancel": control.cancel,
    "retry": control.retry,
    "hold": lambda which: control.hold(which, reason=HELD_BY_TENANT),
    # Only what the tenant itself held: what the operator or a lapsed domain keeps back is not for it to let go.
    "release": lambda which: control.release(which, reason=HELD_BY_TENANT),
}


def intervene(tenant: Tenant, action: str, which: Which, *, actor: Actor) -> Changed:
    """One of ACTIONS. ``which`` names a message or recipient that was looked up for this tenant."""
    with transaction.atomic():
        changed = ACTIONS[action](which)
        _record(tenant, action, which.recipient_id or which.message_id, changed, actor)
    return changed


def release_parked(tenant: Tenant, recipient_id: UUID, *, actor: Actor) -> Changed:
    """An operator lets a recipient be tried again that was parked because workers stopped while sending to it."""
    with transaction.atomic():
        changed = control.release(Which(recipient_id=recipient_id), reason=POISON)
        if changed.changed:
            _record(tenant, "release", recipient_id, changed, actor)
    return changed


def reschedule(tenant: Tenant, message_id: UUID, at: datetime, *, actor: Actor) -> Changed:
    """The message was looked up for this tenant."""
    with transaction.atomic():
        changed = control.reschedule(message_id, at)
        _record(tenant, "reschedule", message_id, changed, actor, at=at)
    return changed


def _record(
    tenant: Tenant, action: str, key: UUID | None, changed: Changed, actor: Actor, *, at: datetime | None = None
) -> None:
    after: dict[str, object] = {"changed": changed.changed, "in_hand": changed.in_hand}
    if at is not None:
        after["send_at"] = at
    audit.record(actor, f"message.{action}", tenant=tenant, object_id=key or "", after=after)
