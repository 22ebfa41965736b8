"""Delivery status notifications that we owe to original reverse-paths (RFC 3461, RFC 3464), until they are written."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models import Tenant


class OwedAction(models.TextChoices):
    """The action of RFC 3464 §2.3.3; *returned* failed after it had been delivered, and is told as failed."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"
    RETURNED = "returned"


class OwedDsn(models.Model):
    """What is to be told about one recipient, once per action. Written down in the transaction that made it true.

    Rows that are told together share a ``report_id``, given when they are first claimed and kept over every retry.
    """

    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    action = models.CharField(max_length=8, choices=OwedAction.choices)
    happened_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="not before; while it is in hand, when another may take it")
    returned_id = models.UUIDField(null=True, help_text="the mail that came back")
    report_id = models.UUIDField(null=True)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    written_at = models.DateTimeField(null=True)
    told_in = models.UUIDField(null=True, help_text="the message that is the report")
    outcome = models.CharField(max_length=30, blank=True, db_default="", help_text="what became of it, a machine word")

    class Meta:
        db_table = "delivery_owed_dsn"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["recipient_id", "action"], name="owed_dsn_once_per_action")
        ]
        indexes: ClassVar = [
            # engines and workers: what is to be written
            models.Index(fields=["due_at"], name="owed_dsn_waiting", condition=models.Q(written_at__isnull=True)),
            # writing: what is told together
            models.Index(fields=["report_id"], name="owed_dsn_of_report"),
            # housekeeping: what was written long ago
            models.Index(fields=["written_at"], name="owed_dsn_written", condition=models.Q(written_at__isnull=False)),
        ]
