"""What happens to a tenant, its domains and its credentials, told as events beside those about mail.

Credentials and tenants are changed in ``accounts``, which knows nothing of events; each change writes an entry of the audit
log in its transaction, and that is what is listened to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from accounts.models import AuditEntry, Tenant
from delivery.core.states import TenantEventKind
from delivery.models import TenantEvent

_KIND_OF_ACTION = {
    "credential.issue": TenantEventKind.CREDENTIAL_CREATED,
    "credential.revoke": TenantEventKind.CREDENTIAL_REVOKED,
    "tenant.suspend": TenantEventKind.TENANT_PAUSED,
    "tenant.resume": TenantEventKind.TENANT_RESUMED,
}
# Of what the audit log says, what a program of the tenant's may be told.
_TOLD = ("kind", "use", "username", "network", "is_test", "reason")


def tell(tenant: Tenant | UUID, kind: TenantEventKind, *, subject_id: UUID, data: Mapping[str, Any]) -> TenantEvent:
    """In the transaction of what it tells."""
    tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
    return TenantEvent.objects.create(tenant_id=tenant_id, kind=kind, subject_id=subject_id, data=dict(data))


def follow_audit(*, entry: AuditEntry, **_signal: Any) -> None:
    """Receiver of accounts.audit.recorded."""
    kind = _KIND_OF_ACTION.get(entry.action)
    if kind is None or entry.tenant_id is None:
        return
    said = {**entry.before, **entry.after}
    data = {name: said[name] for name in _TOLD if said.get(name) not in (None, "")}
    tell(entry.tenant_id, kind, subject_id=UUID(entry.object_id), data={"name": entry.object_name, **data})
