"""The scores of source addresses, tenants and sending domains over time, each with the terms it was made of."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.domain import SendingDomain
from delivery.models.provider import ProviderGroup
from delivery.models.source import SourceAddress


class ReputationScore(models.Model):
    """The score of an address towards a provider group at a time; one an hour, while there is something to say."""

    source = models.ForeignKey(SourceAddress, on_delete=models.CASCADE, related_name="scores")
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    scored_at = models.DateTimeField(default=timezone.now)
    score = models.PositiveSmallIntegerField()
    cap = models.PositiveSmallIntegerField(null=True)
    cap_reason = models.CharField(max_length=40, blank=True)
    terms = models.JSONField(help_text="of delivery.reputation.scoring.Term")
    figures = models.JSONField(help_text="by window in hours, what was met with")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["source", "group", "-scored_at"], name="reputation_score_latest"),
            models.Index(fields=["scored_at"], name="reputation_score_by_age"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.source_id} → {self.group_id}: {self.score}"


class SenderScore(models.Model):
    """The score of a tenant (without a domain) or of one of its sending domains at a time; one an hour."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, null=True, related_name="scores")
    scored_at = models.DateTimeField(default=timezone.now)
    score = models.PositiveSmallIntegerField()
    cap = models.PositiveSmallIntegerField(null=True)
    cap_reason = models.CharField(max_length=40, blank=True)
    terms = models.JSONField(help_text="of delivery.reputation.scoring.Term")
    figures = models.JSONField(help_text="by window in hours, what became of recipients")

    objects = TenantQuerySet["SenderScore"].as_manager()

    class Meta:
        db_table = "delivery_sender_score"
        indexes: ClassVar = [
            models.Index(fields=["tenant", "domain", "-scored_at"], name="sender_score_latest"),
            models.Index(fields=["scored_at"], name="sender_score_by_age"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.domain_id or self.tenant_id}: {self.score}"
