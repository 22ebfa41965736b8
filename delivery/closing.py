"""The end of a tenant: closed at once, its open mail delivered or cancelled, and erased after a stated time.

Until it is erased its owner or an operator can open it again. What stays for good is the tenant's row, so that nobody else
takes its short name, and the audit log, which is only ever added to.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from accounts import audit, tenants
from accounts.audit import Actor
from accounts.models import Credential, Invitation, Membership, Notice, QuotaBucket, RateBucket, Tenant, TenantState
from delivery import content_sweep
from delivery.models import Brake, Job, JobPart, QueueEntry
from delivery.queue import control

log = structlog.get_logger(__name__)

ERASED_AFTER = timedelta(days=30)
_BATCH = 2000
# Rows of a message, which know no tenant; with the column that names it.
_OF_MESSAGES = (
    ("delivery_attempt", "message_id"),
    ("delivery_event", "message_id"),
)


def close(tenant: Tenant, *, is_cancelled: bool, actor: Actor) -> None:
    """No credential works any more. Raises accounts.refusals.Refused."""
    with transaction.atomic():
        tenants.close_tenant(tenant, actor=actor)
        if is_cancelled:
            control.cancel(control.Which(tenant_id=tenant.id))


def erase_due(*, now: datetime | None = None) -> int:
    """Erase tenants that have been closed for long enough and have no open mail. How many were finished."""
    before = (now or timezone.now()) - ERASED_AFTER
    due = Tenant.objects.filter(state=TenantState.CLOSED, closed_at__lt=before, erased_at=None, is_system=False)
    erased = 0
    for tenant in due:
        # Nobody can ask for its release any more, and it is older than any mail's lifetime.
        if Brake.objects.of(tenant).filter(ended_at=None).exists():
            control.cancel(control.Which(tenant_id=tenant.pk))
        if QueueEntry.objects.filter(tenant_id=tenant.pk).exists():
            continue  # being delivered to the end, or expired, within days
        erase(tenant)
        erased += 1
    return erased


def erase(tenant: Tenant) -> None:
    """In short transactions; one that is cut off is finished the next time."""
    while messages := _some_messages(tenant.pk):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM delivery_content WHERE message_id = ANY(%s) RETURNING message_id, retention_days",
                [messages],
            )
            contents = cursor.fetchall()
            for table, column in _OF_MESSAGES:
                cursor.execute(f'DELETE FROM "{table}" WHERE {column} = ANY(%s)', [messages])
            cursor.execute('DELETE FROM "delivery_recipient" WHERE message_id = ANY(%s)', [messages])
            cursor.execute('DELETE FROM "delivery_message" WHERE id = ANY(%s)', [messages])
        content_sweep.gone(contents)
    with transaction.atomic():
        _erase_the_rest(tenant)
        Tenant.objects.filter(pk=tenant.pk, state=TenantState.CLOSED).update(erased_at=timezone.now(), name=tenant.slug)
        audit.record(
            Actor.system("closing"), "tenant.erase", tenant=tenant, object_id=tenant.id, object_name=tenant.slug
        )
    log.info("tenant_erased", tenant=tenant.slug)


def _some_messages(tenant_id: UUID) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM delivery_message WHERE tenant_id = %s LIMIT %s", [tenant_id, _BATCH])
        return [key for (key,) in cursor.fetchall()]


def _erase_the_rest(tenant: Tenant) -> None:
    """Every other table of delivery that names a tenant, whatever a later release adds; then people and credentials."""
    models = [model for model in apps.get_app_config("delivery").get_models() if _names_a_tenant(model)]
    JobPart.objects.filter(job_id__in=Job.objects.of(tenant).values("id")).delete()
    # Children before what they point to: as often as something could still be in the way.
    left = models
    while left:
        before, left = left, [model for model in left if not _delete(model, tenant.pk)]
        if len(left) == len(before):
            raise RuntimeError(f"rows of {tenant.slug} in {[model.__name__ for model in left]} cannot be deleted")
    owners = [tenant.pk, *Credential.objects.of(tenant).values_list("id", flat=True)]
    QuotaBucket.objects.filter(owner_id__in=owners).delete()
    RateBucket.objects.filter(owner_id__in=owners).delete()
    for model in (Credential, Invitation, Notice, Membership):
        model.objects.filter(tenant_id=tenant.pk).delete()


def _names_a_tenant(model: type) -> bool:
    return any(field.attname == "tenant_id" for field in model._meta.concrete_fields)  # type: ignore[attr-defined]


def _delete(model: type, tenant_id: UUID) -> bool:
    """False while rows of another table still point here."""
    try:
        with transaction.atomic():
            model.objects.filter(tenant_id=tenant_id).delete()  # type: ignore[attr-defined]
    except (IntegrityError, ProtectedError):
        return False
    return True
