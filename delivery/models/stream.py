"""A tenant's streams keep mail of different urgency apart: password resets do not wait behind a newsletter."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.source import SourcePool


class StreamKind(models.TextChoices):
    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class Stream(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="streams")
    name = models.SlugField(max_length=48)
    kind = models.CharField(max_length=13, choices=StreamKind.choices, default=StreamKind.TRANSACTIONAL)
    pool = models.ForeignKey(SourcePool, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    retry_delays_s = ArrayField(models.PositiveIntegerField(), null=True, blank=True)
    lifetime_s = models.PositiveIntegerField(null=True, blank=True)
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet["Stream"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "name"], name="stream_name_once_per_tenant"),
            models.UniqueConstraint("tenant", condition=models.Q(is_default=True), name="stream_one_default"),
        ]

    def __str__(self) -> str:
        return self.name
