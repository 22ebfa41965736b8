"""The one way to a tenant's rows: every query on them starts with ``Model.objects.of(tenant)``.

Another tenant's id is then simply not found, in a page, in the API and on the command line alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

from django.db import models

if TYPE_CHECKING:
    from accounts.models.tenant import Tenant

Row = TypeVar("Row", bound=models.Model)


class TenantQuerySet(models.QuerySet[Row]):
    def of(self, tenant: Tenant | UUID) -> Self:
        key: Any = tenant if isinstance(tenant, UUID) else tenant.pk
        return self.filter(tenant_id=key)
