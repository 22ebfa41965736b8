"""The audit log: who changed what, from where. Rows are only ever added; a trigger refuses the rest."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.scoping import TenantQuerySet
from accounts.models.tenant import Tenant
from accounts.models.user import User


class AuditEntry(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    occurred_at = models.DateTimeField(default=timezone.now, editable=False)
    # DO_NOTHING without a constraint: the log outlives what it tells about.
    tenant = models.ForeignKey(Tenant, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+")
    actor = models.ForeignKey(User, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+")
    actor_name = models.CharField(max_length=254, help_text="who, in words, also when the account is gone")
    on_behalf_of = models.CharField(max_length=254, blank=True, help_text="the member an operator acted as")
    action = models.CharField(max_length=60, help_text="noun.verb, e.g. credential.issue")
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=255, blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True)
    peer_address = models.GenericIPAddressField(null=True)

    objects = TenantQuerySet["AuditEntry"].as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="audit_of_tenant")]

    def __str__(self) -> str:
        return f"{self.actor_name}: {self.action} {self.object_name}"
