"""What one mail transaction handed over, and its content as received."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Credential, Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.stream import Stream


class Message(models.Model):
    """Range-partitioned by ``id`` (UUIDv7): its time of acceptance is in the key."""

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    credential = models.ForeignKey(
        Credential, models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    stream = models.ForeignKey(Stream, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    domain_id = models.UUIDField(null=True, help_text="the sending domain that signs it")
    accepted_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="end of the queue lifetime")
    reverse_path = models.CharField(max_length=320, help_text="empty: the null reverse-path")
    author = models.CharField(max_length=320)
    author_domain = models.CharField(max_length=255)
    subject = models.CharField(max_length=998, help_text="decoded, for display and search only")
    header_message_id = models.CharField(max_length=998)
    size_bytes = models.BigIntegerField()
    recipient_count = models.PositiveIntegerField()
    body_type = models.CharField(max_length=8, default="7BIT")  # 7BIT | 8BITMIME
    needs_smtputf8 = models.BooleanField(default=False)
    dsn_ret = models.CharField(max_length=4, blank=True)
    dsn_envid = models.CharField(max_length=100, blank=True)
    protocol = models.CharField(max_length=8)  # ESMTP | ESMTPA | ESMTPS | ESMTPSA | API | SYSTEM
    peer_address = models.GenericIPAddressField(null=True)
    peer_ehlo = models.CharField(max_length=255, blank=True)
    is_test = models.BooleanField(default=False)
    tags = ArrayField(models.CharField(max_length=100), default=list)
    metadata = models.JSONField(default=dict)
    retention_days = models.PositiveSmallIntegerField(help_text="the retention class of its content")
    tls = models.CharField(
        max_length=8, blank=True, default="", db_default="", help_text="what it asks of its way: required or verified"
    )

    objects = TenantQuerySet["Message"].as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="message_of_tenant"),
            models.Index(fields=["tenant", "header_message_id"], name="message_by_message_id_field"),
            # send log: filters by what a message has in common with others. Rows are never updated, so each costs one entry.
            models.Index(fields=["tenant", "author", "-id"], name="message_by_author"),
            models.Index(fields=["tenant", "credential", "-id"], name="message_by_credential"),
            models.Index(fields=["tenant", "stream", "-id"], name="message_by_stream"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Content(models.Model):
    """Header section and body as received, below our trace fields; zstandard-compressed.

    Partitioned by retention class (days), then by ``message_id``.
    """

    pk = models.CompositePrimaryKey("message_id", "retention_days")
    message_id = models.UUIDField()
    retention_days = models.PositiveSmallIntegerField()
    compressed = models.BinaryField()
