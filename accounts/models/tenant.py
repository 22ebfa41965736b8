"""A tenant: the customer to whom messages, domains, credentials and limits belong."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7

SYSTEM_SLUG = "system"


class TenantState(models.TextChoices):
    ACTIVE = "active"
    SUSPENDED = "suspended"  # new mail is put off with 450, mail already taken is kept
    CLOSED = "closed"


class QuietStreams(models.TextChoices):
    BULK = "bulk"  # password resets and the like go on
    ALL = "all"


class Tenant(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=48, unique=True)
    name = models.CharField(max_length=120)
    state = models.CharField(max_length=9, choices=TenantState.choices, default=TenantState.ACTIVE)
    state_reason = models.CharField(max_length=500, blank=True)
    is_system = models.BooleanField(default=False, help_text="the service's own mail: sign-up, reset, alerts")
    language = models.CharField(max_length=2, default="ja")
    time_zone = models.CharField(max_length=64, default="Asia/Tokyo")
    requires_two_factors = models.BooleanField(default=False)
    awaits_approval = models.BooleanField(
        default=False, help_text="by an operator; until then it writes to its own members only, and adds no domain"
    )

    # The trust ladder (accounts.trust); empty: not on it.
    trust_level = models.PositiveSmallIntegerField(null=True, blank=True)
    trust_since = models.DateTimeField(null=True, blank=True)

    brake_level = models.CharField(
        max_length=8, blank=True, help_text="how strictly brakes watch it: none, standard, strict; empty: the default"
    )

    # Limits; empty means the operator's default.
    hourly_limit = models.PositiveIntegerField(null=True, blank=True)
    daily_limit = models.PositiveIntegerField(null=True, blank=True)
    monthly_limit = models.PositiveIntegerField(null=True, blank=True)
    rate_per_second = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.001)])
    max_message_bytes = models.PositiveIntegerField(null=True, blank=True)
    max_recipients = models.PositiveIntegerField(null=True, blank=True)

    content_retention_days = models.PositiveSmallIntegerField(default=7)
    log_retention_days = models.PositiveSmallIntegerField(default=90)
    keeps_content_after_delivery = models.BooleanField(default=True)
    lets_operators_read = models.BooleanField(
        default=False, db_default=False, help_text="an operator who acts for a member sees subjects and contents"
    )
    refuses_suppressed = models.BooleanField(
        default=False, help_text="at RCPT; off: mail to suppressed recipients is accepted and shown as suppressed"
    )

    # Mail to mobile carriers rests from the one time of day until the other, in the tenant's time zone.
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    quiet_streams = models.CharField(max_length=4, choices=QuietStreams.choices, default=QuietStreams.BULK)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True, help_text="its mail is gone; the row keeps the slug taken")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("is_system", condition=models.Q(is_system=True), name="tenant_one_system"),
            models.CheckConstraint(
                condition=models.Q(quiet_from__isnull=True, quiet_until__isnull=True)
                | models.Q(quiet_from__isnull=False, quiet_until__isnull=False),
                name="tenant_quiet_hours_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def content_class(self) -> int:
        """The retention class of mail accepted now, in days; 0: content goes with the end of the last recipient."""
        return self.content_retention_days if self.keeps_content_after_delivery else 0
