"""A filter of the send log under a name: a person's own, or shared with the tenant."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant, User
from accounts.models.scoping import TenantQuerySet


class SavedFilter(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="+", help_text="null: shared")
    name = models.CharField(max_length=80)
    query = models.TextField(help_text="as it stands in the address of the send log")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet["SavedFilter"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "person", "name"], name="saved_filter_once", nulls_distinct=False)
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "name"], name="saved_filter_of_tenant")]

    def __str__(self) -> str:
        return self.name
