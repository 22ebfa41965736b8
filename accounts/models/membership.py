"""A person's place in a tenant."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.scoping import TenantQuerySet
from accounts.models.tenant import Tenant
from accounts.models.user import User


class Role(models.TextChoices):
    OWNER = "owner"  # also transfers and closes the tenant
    ADMIN = "admin"  # also team and settings
    DEVELOPER = "developer"  # also domains, credentials, webhooks, suppressions, retry, cancel
    ANALYST = "analyst"  # reads

    @property
    def rank(self) -> int:
        return list(reversed(Role)).index(self)

    def includes(self, other: Role) -> bool:
        return self.rank >= other.rank


class Membership(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=9, choices=Role.choices, default=Role.DEVELOPER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet["Membership"].as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} as {self.role}"
