"""What came back: mails to our own mailboxes as they arrived, and the complaints among them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.provider import ProviderGroup
from delivery.models.stream import Stream


class ReturnedKind(models.TextChoices):
    """By the mailbox it came to; what it says is found out when it is read."""

    BOUNCE = "bounce"
    FEEDBACK = "feedback"
    DMARC = "dmarc"
    TLS = "tls"
    UNSUBSCRIBE = "unsubscribe"
    POSTMASTER = "postmaster"
    ABUSE = "abuse"


class ReturnedMail(models.Model):
    """Kept raw for a while, whatever became of it. ``handled_at`` is set once, by the worker that acted on it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    received_at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=11, choices=ReturnedKind.choices)
    mailbox = models.CharField(max_length=320)
    recipient_id = models.UUIDField(null=True, help_text="whom the signed mailbox names")
    reverse_path = models.CharField(max_length=320, blank=True)
    peer_address = models.GenericIPAddressField()
    size_bytes = models.PositiveIntegerField()
    compressed = models.BinaryField()
    claimed_until = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    handled_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=30, blank=True, help_text="what it was, a machine word")

    class Meta:
        indexes: ClassVar = [
            # workers: what has not been read
            models.Index(fields=["id"], name="returned_waiting", condition=models.Q(handled_at__isnull=True)),
            # the listener: how much has come for one mailbox, and of one kind lately
            models.Index(fields=["recipient_id"], name="returned_of_recipient"),
            models.Index(fields=["kind", "received_at"], name="returned_of_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Complaint(models.Model):
    """A recipient's feedback about one message (RFC 5965), once per kind, with what it is counted by."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, null=True, related_name="+")
    domain_id = models.UUIDField(null=True, help_text="the sending domain")
    group = models.ForeignKey(ProviderGroup, on_delete=models.SET_NULL, null=True, related_name="+")
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    feedback_type = models.CharField(max_length=32)
    received_at = models.DateTimeField()

    objects = TenantQuerySet["Complaint"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["recipient_id", "feedback_type"], name="complaint_once_per_recipient")
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "-received_at"], name="complaint_of_tenant")]
