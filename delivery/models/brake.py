"""Brakes with their evidence and appeals, how credentials stand, and recipients whose results are not judged yet."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet


class Brake(models.Model):
    """One episode: pulled for a reason, open until it is let go. Never deleted with what it was about."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="brakes")
    credential_id = models.UUIDField(null=True, help_text="null: of all the tenant's mail")
    credential_name = models.CharField(max_length=120, blank=True)
    rule = models.CharField(max_length=40, help_text="of delivery/brakes/levels.toml, or operator")
    step = models.CharField(max_length=5, help_text="delivery.brakes.levels.Step")
    rate_per_second = models.FloatField(null=True)
    evidence = models.JSONField(default=dict, help_text="numbers, window, classes and sample recipients")
    reason = models.CharField(max_length=500, blank=True, help_text="of a person who pulled it")
    pulled_at = models.DateTimeField(default=timezone.now)
    pulled_by = models.CharField(max_length=254)
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=254, blank=True)
    is_released = models.BooleanField(default=False, help_text="by a person; else it ended by itself")
    answer = models.CharField(max_length=1000, blank=True, help_text="the tenant reads it")

    objects = TenantQuerySet["Brake"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "rule"],
                condition=models.Q(ended_at__isnull=True, credential_id__isnull=True),
                name="brake_once_per_tenant",
            ),
            models.UniqueConstraint(
                fields=["tenant", "rule", "credential_id"],
                condition=models.Q(ended_at__isnull=True, credential_id__isnull=False),
                name="brake_once_per_credential",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="brake_of_tenant"),
            # the claim and the pages: few are open at a time
            models.Index(fields=["-id"], name="brake_open", condition=models.Q(ended_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.rule} of {self.credential_name or self.tenant_id}"


class Appeal(models.Model):
    """What a tenant wrote against a brake, and what a person answered."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    brake = models.ForeignKey(Brake, on_delete=models.CASCADE, related_name="appeals")
    text = models.CharField(max_length=2000)
    written_at = models.DateTimeField(default=timezone.now)
    written_by = models.CharField(max_length=254)
    answered_at = models.DateTimeField(null=True)
    answered_by = models.CharField(max_length=254, blank=True)
    answer = models.CharField(max_length=1000, blank=True)
    is_granted = models.BooleanField(null=True)

    objects = TenantQuerySet["Appeal"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["brake"], condition=models.Q(answered_at__isnull=True), name="appeal_one_waits"
            )
        ]


class CredentialStanding(models.Model):
    """What is known of a credential's mail since it is watched; established ones are not counted any more."""

    credential_id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    watched_since = models.DateTimeField(default=timezone.now)
    accepted = models.PositiveIntegerField(default=0)
    bounced = models.PositiveIntegerField(default=0)
    unknown = models.PositiveIntegerField(default=0, help_text="of what bounced")
    deferred = models.PositiveIntegerField(default=0)
    established_at = models.DateTimeField(null=True)
    last_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "delivery_credential_standing"

    @property
    def judged(self) -> int:
        """Recipients that have an end."""
        return self.accepted + self.bounced


class UnjudgedRecipient(models.Model):
    """A recipient of a watched credential that is attempted and whose result nobody has looked at: some hundreds at most."""

    recipient_id = models.UUIDField(primary_key=True)
    credential_id = models.UUIDField()
    tenant_id = models.UUIDField()
    number = models.PositiveSmallIntegerField(help_text="of the attempt")
    taken_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "delivery_unjudged"
        indexes: ClassVar = [models.Index(fields=["credential_id"], name="unjudged_of_credential")]
