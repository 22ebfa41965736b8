"""What operators are told of: alerts, one row an episode, and the letters and calls that tell of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7


class Alert(models.Model):
    """An episode: seen first at ``seen_at``, told from ``opened_at`` on (null: seen too briefly), until ``closed_at``."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=40, help_text="of delivery/alerts/rules.toml, or test")
    subject = models.CharField(max_length=255, blank=True, help_text="what it is about: an address, a node")
    severity = models.CharField(max_length=8)
    evidence = models.JSONField(default=dict)
    seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    clear_since = models.DateTimeField(null=True, help_text="not seen since; it closes when that has lasted")
    opened_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True, help_text="last letter or reminder")
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=254, blank=True)
    acknowledged_note = models.CharField(max_length=500, blank=True)
    muted_until = models.DateTimeField(null=True)
    muted_by = models.CharField(max_length=254, blank=True)
    mute_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=models.Q(closed_at__isnull=True), name="alert_once"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["kind", "subject", "-closed_at"], name="alert_of_subject"),  # flapping, mutes
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".strip()


class AlertTelling(models.Model):
    """One letter or call. Written with the change it tells of; sent once, or once more if we die between sending and noting."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="tellings")
    occasion = models.CharField(max_length=8, help_text="opened, reminder or closed")
    channel = models.CharField(max_length=8, help_text="mail or webhook")
    target = models.CharField(max_length=2048, help_text="a mailbox or a URL")
    created_at = models.DateTimeField(default=timezone.now)
    next_at = models.DateTimeField(null=True, help_text="null: sent, or given up")
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "delivery_alert_telling"
        indexes: ClassVar = [
            models.Index(fields=["next_at"], name="alert_telling_due", condition=models.Q(next_at__isnull=False)),
            models.Index(fields=["channel", "-sent_at"], name="alert_telling_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.occasion} {self.alert_id} to {self.target}"
