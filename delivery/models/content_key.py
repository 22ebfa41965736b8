"""A tenant's own key, with which the content of its mail is sealed; itself sealed with the operator's key."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet


class ContentKey(models.Model):
    """Once it is gone, what was sealed with it can be read by nobody, in no backup of the object store either."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    sealed_key = models.BinaryField()
    is_current = models.BooleanField(default=True, help_text="seals what is accepted now; others only open")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet["ContentKey"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_current=True), name="one_current_content_key"
            )
        ]

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def sealing_context(key_id: UUID) -> str:
        return f"content key {key_id}"
