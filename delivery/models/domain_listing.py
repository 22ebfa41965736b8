"""What domain blocklists say of sending domains, each look kept for a while."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from delivery.models.domain import SendingDomain


class DomainListCheck(models.Model):
    """One look at one domain. ``results``: of each list its key, verdict, detail, codes, severity and where to look up."""

    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, related_name="list_checks")
    checked_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=6, help_text="ok, bad or failed, as of SourceCheck")
    results = models.JSONField(default=list)

    class Meta:
        db_table = "delivery_domain_list_check"
        indexes: ClassVar = [
            models.Index(fields=["domain", "-checked_at"], name="domain_list_check_latest"),
            models.Index(fields=["checked_at"], name="domain_list_check_by_age"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.domain_id} {self.checked_at:%Y-%m-%d %H:%M}: {self.state}"
