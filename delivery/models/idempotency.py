"""Keys of requests that must happen once; kept for a day, in a table of its own since the others are partitioned by time."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models.scoping import TenantQuerySet


class IdempotencyKey(models.Model):
    pk = models.CompositePrimaryKey("tenant_id", "key", "position")
    tenant_id = models.UUIDField()
    key = models.CharField(max_length=255)
    position = models.PositiveSmallIntegerField(help_text="place within the request")
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the request")
    message_id = models.UUIDField()
    recipients = models.JSONField(help_text="pairs of recipient id and address")
    created_at = models.DateTimeField(default=timezone.now)

    objects = TenantQuerySet["IdempotencyKey"].as_manager()

    class Meta:
        db_table = "delivery_idempotency_key"
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_key_age")]
