"""One try to hand a recipient to a hop, with every command and reply."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet


class Attempt(models.Model):
    """Range-partitioned by ``message_id``: a message's history is dropped together."""

    pk = models.CompositePrimaryKey("message_id", "id")
    id = models.UUIDField(editable=False)
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    source_id = models.UUIDField(null=True)
    source_address = models.GenericIPAddressField(null=True)
    worker = models.CharField(max_length=80)
    fence = models.BigIntegerField()
    host = models.CharField(max_length=255, blank=True)
    host_address = models.GenericIPAddressField(null=True)
    port = models.PositiveIntegerField(null=True)
    phase = models.CharField(max_length=8)
    origin = models.CharField(max_length=8, help_text="who spoke: peer, network, dns, tls or own")
    reply_code = models.PositiveSmallIntegerField()
    reply_enhanced = models.CharField(max_length=12, blank=True)
    reply_text = models.TextField()
    reply_class = models.CharField(max_length=20, blank=True)
    action = models.CharField(max_length=20, blank=True)
    scope = models.CharField(max_length=20, blank=True)
    rule = models.CharField(max_length=80, blank=True)
    is_ambiguous = models.BooleanField(default=False)
    tls_version = models.CharField(max_length=10, blank=True)
    tls_cipher = models.CharField(max_length=60, blank=True)
    transcript = models.BinaryField(help_text="JSON of delivery.transport.transcript: never content, never secrets")

    objects = TenantQuerySet["Attempt"].as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["recipient_id"], name="attempt_of_recipient")]
