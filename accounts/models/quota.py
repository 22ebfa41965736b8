"""What a tenant has used of its volume limits, and the buckets that pace tenants and credentials."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class QuotaPeriod(models.TextChoices):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class QuotaBucket(models.Model):
    """Recipients accepted in one period; raised by one conditional statement in the transaction that accepts them."""

    pk = models.CompositePrimaryKey("owner_id", "period", "window_start")
    owner_id = models.UUIDField(help_text="tenant or credential")
    period = models.CharField(max_length=5, choices=QuotaPeriod.choices)
    window_start = models.DateTimeField()
    used = models.BigIntegerField(default=0)


class RateBucket(models.Model):
    """A token bucket of a tenant or credential with a rate; taken in the claim's transaction, given back at release."""

    owner_id = models.UUIDField(primary_key=True, help_text="tenant or credential")
    rate_per_second = models.FloatField()
    capacity = models.FloatField()
    tokens = models.FloatField()
    refilled_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(rate_per_second__gt=0), name="rate_bucket_refills"),
        ]
