"""Routes: the operator's (or a tenant's) rule that mail for a domain goes to a smarthost instead of its MX hosts."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from delivery.models.provider import ProviderGroup

ANY_DOMAIN = "*"


class Route(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    domain = models.CharField(max_length=255, help_text="A-label, or * for every domain without a route of its own")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="routes")
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    tls = models.CharField(max_length=13, default="opportunistic")  # delivery.transport.tls_policy.TlsMode
    username = models.CharField(max_length=255, blank=True)
    sealed_password = models.BinaryField(null=True, blank=True)
    connections = models.PositiveSmallIntegerField(null=True, blank=True)
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["domain"], condition=models.Q(tenant__isnull=True), name="route_once_for_everybody"
            ),
            models.UniqueConstraint(
                fields=["domain", "tenant"], condition=models.Q(tenant__isnull=False), name="route_once_per_tenant"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.domain} → {self.host}:{self.port}"

    @staticmethod
    def sealing_context(route_id: UUID) -> str:
        """What the sealed password is bound to: it opens in this row alone."""
        return f"route {route_id}"
