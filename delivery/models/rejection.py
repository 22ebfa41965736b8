"""The rejection log: what was refused at submission. Nothing of the mail itself is stored."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.identifiers import uuid7
from accounts.models import Credential, Tenant
from accounts.models.scoping import TenantQuerySet


class RejectionEntry(models.Model):
    """Repeats within a minute are one row with a count, so that a looping client cannot fill the table."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, null=True, related_name="+")
    minute = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=1)
    code = models.PositiveSmallIntegerField()
    enhanced = models.CharField(max_length=12, blank=True)
    text = models.CharField(max_length=500)
    reason = models.CharField(max_length=60, help_text="machine word")
    author_domain = models.CharField(max_length=255, blank=True)
    peer_address = models.GenericIPAddressField(null=True)
    reference = models.CharField(max_length=32, blank=True)

    objects = TenantQuerySet["RejectionEntry"].as_manager()

    class Meta:
        # One row per tenant, credential, minute, reason, author domain and peer: a unique index over COALESCEs, since
        # PostgreSQL 14 cannot call two nulls equal. It stands in the migration.
        indexes: ClassVar = [models.Index(fields=["tenant", "-id"], name="rejection_of_tenant")]
