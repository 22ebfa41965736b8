"""What providers tell about our mail in their own tools, imported from files and kept by day."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7


class ProviderDataKind(models.TextChoices):
    GOOGLE = "google"  # Postmaster Tools: of domains
    MICROSOFT = "microsoft"  # Smart Network Data Services: of addresses


class ProviderImport(models.Model):
    """One file. Rows that could not be read are kept as they stood in it, with why. Taking it back deletes its days."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=9, choices=ProviderDataKind.choices)
    file_name = models.CharField(max_length=255, blank=True)
    imported_at = models.DateTimeField(default=timezone.now)
    imported_by = models.CharField(max_length=254)
    rows = models.PositiveIntegerField(default=0)
    bad_rows = models.JSONField(default=list, help_text="line, text and why of each row that was not read")
    undone_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "delivery_provider_import"

    def __str__(self) -> str:
        return f"{self.kind} {self.file_name}"


class ProviderDay(models.Model):
    """A day of a domain or an address, as one file told it; of several files the latest counts.

    ``period``: what the provider calls the time, where a day may have several.
    """

    origin = models.ForeignKey(ProviderImport, on_delete=models.CASCADE, related_name="days")
    kind = models.CharField(max_length=9, choices=ProviderDataKind.choices)
    subject = models.CharField(max_length=255, help_text="a domain (A-label) or an address")
    day = models.DateField()
    period = models.CharField(max_length=80, blank=True)
    figures = models.JSONField()

    class Meta:
        db_table = "delivery_provider_day"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "subject", "day", "period", "origin"], name="provider_day_once_per_file"
            )
        ]
        indexes: ClassVar = [models.Index(fields=["day"], name="provider_day_by_age")]  # forgetting

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.day}"
