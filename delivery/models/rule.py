"""Rules about replies that operators add while everything runs, and the replies that no rule knew."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone


class ReplyRule(models.Model):
    """Asked before the rules that the product brings along, in the order of ``position``. A removed one can be restored."""

    name = models.SlugField(max_length=60, unique=True, help_text="its id, as recipients name the rule that decided")
    position = models.IntegerField(default=0)
    is_enabled = models.BooleanField(default=True)
    groups = ArrayField(models.CharField(max_length=255), default=list)
    phases = ArrayField(models.CharField(max_length=8), default=list)
    codes = ArrayField(models.CharField(max_length=3), default=list)
    enhanced = ArrayField(models.CharField(max_length=16), default=list)
    text = models.CharField(max_length=300, blank=True)
    reply_class = models.CharField(max_length=20)
    action = models.CharField(max_length=20)
    scope = models.CharField(max_length=20)
    note = models.CharField(max_length=500, blank=True)
    sample = models.CharField(max_length=1000)
    hits = models.BigIntegerField(default=0, help_text="replies that it decided")
    last_hit_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=254, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["position", "id"], name="reply_rule_order", condition=models.Q(removed_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return self.name


class UnmatchedReply(models.Model):
    """Replies that no rule knew and that differ only in addresses, numbers and ids. Addresses are not in the example."""

    key = models.BinaryField(max_length=16, unique=True)
    group_key = models.CharField(max_length=255, blank=True)
    phase = models.CharField(max_length=8)
    text = models.CharField(max_length=500, help_text="normalised")
    example = models.CharField(max_length=500)
    count = models.BigIntegerField(default=0)
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    ignored_at = models.DateTimeField(null=True)
    ignored_by = models.CharField(max_length=254, blank=True)
    ignored_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["-count", "id"], name="unmatched_by_count"),
            models.Index(fields=["last_at"], name="unmatched_by_age"),
        ]

    def __str__(self) -> str:
        return self.text
