"""What a tenant's people are told: one row per episode, open until it is over; and who wants to hear of what, and how."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.scoping import TenantQuerySet
from accounts.models.tenant import Tenant
from accounts.models.user import User


class NoticeKind(models.TextChoices):
    LIMIT_NEAR = "limit_near"  # 80 % of a volume limit
    LIMIT_REACHED = "limit_reached"
    DOMAIN_FAILING = "domain_failing"
    DOMAIN_LAPSED = "domain_lapsed"
    BOUNCES_RISING = "bounces_rising"
    COMPLAINTS_RISING = "complaints_rising"
    PAUSED = "paused"
    SLOWED = "slowed"
    MAIL_HELD = "mail_held"
    BRAKE_RELEASED = "brake_released"
    APPEAL_REFUSED = "appeal_refused"
    LEVEL_UP = "level_up"
    APPROVED = "approved"
    WEBHOOK_OFF = "webhook_off"


class Notice(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=NoticeKind.choices)
    subject = models.CharField(max_length=120, blank=True, help_text="what it is about: with the kind, the episode")
    data = models.JSONField(default=dict, help_text="the figures its sentence needs")
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True, help_text="when letters about it were handed over")

    objects = TenantQuerySet["Notice"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "kind", "subject"],
                condition=models.Q(closed_at__isnull=True),
                name="notice_once_per_episode",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="notice_of_tenant"),
            # For the letters that are still to be written.
            models.Index(fields=["opened_at"], condition=models.Q(mailed_at__isnull=True), name="notice_to_be_mailed"),
        ]


class NoticeChoice(models.Model):
    """Only what differs from the default of the person's role."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notice_choices")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20, choices=NoticeKind.choices)
    by_mail = models.BooleanField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "tenant", "kind"], name="notice_choice_once"),
        ]
