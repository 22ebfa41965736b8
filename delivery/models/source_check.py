"""What the regular looks at source addresses found, each kept for a while."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from delivery.models.source import SourceAddress


class SourceCheckState(models.TextChoices):
    OK = "ok"
    BAD = "bad"
    FAILED = "failed"  # nothing bad was found, and not everything could be looked at


class SourceCheck(models.Model):
    """One look at one address. ``results`` are those of delivery.source_checks.looking.Result."""

    source = models.ForeignKey(SourceAddress, on_delete=models.CASCADE, related_name="checks")
    checked_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=6, choices=SourceCheckState.choices)
    results = models.JSONField(default=list)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["source", "-checked_at"], name="source_check_latest"),
            models.Index(fields=["checked_at"], name="source_check_by_age"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.source_id} {self.checked_at:%Y-%m-%d %H:%M}: {self.state}"
