"""Where mail leaves from: nodes, the source addresses that live on them, and the pools that group these."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant

DEFAULT_POOL = "default"


class Node(models.Model):
    name = models.CharField(max_length=63, primary_key=True)
    is_draining = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class PoolKind(models.TextChoices):
    SHARED = "shared"
    DEDICATED = "dedicated"
    QUARANTINE = "quarantine"


class SourcePool(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=48, unique=True)
    kind = models.CharField(max_length=10, choices=PoolKind.choices, default=PoolKind.SHARED)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    standby = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="the pool its mail leaves from while none of its own addresses can be used; else it waits",
    )
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind="dedicated", tenant__isnull=False)
                | (~models.Q(kind="dedicated") & models.Q(tenant__isnull=True)),
                name="source_pool_dedicated_to_one_tenant",
            )
        ]

    def __str__(self) -> str:
        return self.name


class SourceState(models.TextChoices):
    ACTIVE = "active"
    DRAINING = "draining"  # nothing new begins from it; greylisted mail that must come back from it still does
    PAUSED = "paused"
    UNUSABLE = "unusable"  # the node cannot bind it or does not get out; looked at again by itself
    RETIRED = "retired"


class Families(models.TextChoices):
    """Which address family to try first; an address of its own family speaks only that one."""

    IPV4_FIRST = "46"
    IPV6_FIRST = "64"
    IPV4_ONLY = "4"
    IPV6_ONLY = "6"


class SourceAddress(models.Model):
    """An address we connect from. Without an address the system chooses one, as it does in development."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    address = models.GenericIPAddressField(unique=True, null=True, blank=True)
    ehlo_name = models.CharField(max_length=255)
    pool = models.ForeignKey(SourcePool, on_delete=models.PROTECT, related_name="sources")
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="sources")
    families = models.CharField(max_length=2, choices=Families.choices, default=Families.IPV4_FIRST)
    weight = models.PositiveSmallIntegerField(default=1)
    state = models.CharField(max_length=8, choices=SourceState.choices, default=SourceState.ACTIVE)
    state_reason = models.CharField(max_length=500, blank=True)
    state_since = models.DateTimeField(default=timezone.now)
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "node", condition=models.Q(address__isnull=True), name="source_address_one_unbound_per_node"
            ),
        ]

    def __str__(self) -> str:
        return self.address or f"system's choice on {self.node_id}"
