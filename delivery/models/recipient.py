"""One mailbox given in RCPT TO for one message: its history. What is still open also has a queue entry."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.core.states import RecipientState
from delivery.models.message import Message
from delivery.models.provider import ProviderGroup


class Recipient(models.Model):
    """Range-partitioned by ``id``, whose time is that of its message."""

    id = models.UUIDField(primary_key=True, editable=False)
    message = models.ForeignKey(
        Message, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="recipients"
    )
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    address = models.CharField(max_length=320)
    domain = models.CharField(max_length=255)
    group = models.ForeignKey(
        ProviderGroup, models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+"
    )
    state = models.CharField(max_length=10, choices=[(s.value, s.value) for s in RecipientState])
    state_since = models.DateTimeField()
    reason = models.CharField(max_length=60, blank=True, help_text="why it is held or suppressed, a machine word")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    # The last reply, and what we made of it.
    phase = models.CharField(max_length=8, blank=True)
    reply_code = models.PositiveSmallIntegerField(null=True)
    reply = models.TextField(blank=True, help_text="code, enhanced status and text on one line")
    reply_class = models.CharField(max_length=20, blank=True)
    action = models.CharField(max_length=20, blank=True)
    scope = models.CharField(max_length=20, blank=True)
    rule = models.CharField(max_length=80, blank=True)
    host = models.CharField(max_length=255, blank=True)
    source_id = models.UUIDField(null=True)
    has_ambiguous_attempt = models.BooleanField(default=False)
    # Reported back after the receiving server had accepted it; the state stays.
    returned_at = models.DateTimeField(null=True)
    returned_class = models.CharField(max_length=20, blank=True)
    dsn_notify = ArrayField(models.CharField(max_length=7), null=True, help_text="NOTIFY of RFC 3461; null: not given")
    dsn_orcpt = models.CharField(max_length=500, blank=True)

    objects = TenantQuerySet["Recipient"].as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["message"], name="recipient_of_message"),
            models.Index(fields=["tenant", "-id"], name="recipient_of_tenant"),
            models.Index(fields=["tenant", "state", "-id"], name="recipient_by_state"),
            models.Index(fields=["tenant", "address", "-id"], name="recipient_by_address"),
            models.Index(fields=["tenant", "domain", "-id"], name="recipient_by_domain"),
            # send log: filters that few recipients match. Each but the first holds only the rows it is for, so that what is
            # accepted at the first try pays for none of them.
            models.Index(fields=["tenant", "group", "-id"], name="recipient_by_group"),
            models.Index(
                fields=["tenant", "reply_class", "-id"], name="recipient_by_class", condition=~models.Q(reply_class="")
            ),
            models.Index(
                fields=["tenant", "returned_class", "-id"],
                name="recipient_by_returned",
                condition=~models.Q(returned_class=""),
            ),
            models.Index(
                fields=["tenant", "-id"], name="recipient_ambiguous", condition=models.Q(has_ambiguous_attempt=True)
            ),
            models.Index(fields=["tenant", "-id"], name="recipient_retried", condition=models.Q(attempts__gt=1)),
        ]

    def __str__(self) -> str:
        return self.address
