"""Provider groups: receiving systems that share limits, recognised by their MX hosts."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class GroupKind(models.TextChoices):
    UNROUTED = "unrouted"  # where entries wait until their recipient domain was looked up
    UNREACHABLE = "unreachable"  # the look-up gave no host to go to; every attempt looks again
    PROVIDER = "provider"  # known by name: google, docomo, …
    SITE = "site"  # everybody else: the domains that share one set of MX hosts
    SMARTHOST = "smarthost"  # a configured route


class ProviderGroup(models.Model):
    key = models.CharField(max_length=255, unique=True)
    kind = models.CharField(max_length=11, choices=GroupKind.choices)
    title = models.CharField(max_length=255, help_text="what people read")
    limits = models.JSONField(default=dict, help_text="overrides of the shaping defaults")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "kind",
                condition=models.Q(kind__in=["unrouted", "unreachable"]),
                name="provider_group_one_unrouted_one_unreachable",
            )
        ]

    def __str__(self) -> str:
        return self.title
