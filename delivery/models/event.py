"""One fact about a recipient; never changed. Shown in the timeline and told to webhooks."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.core.states import EventKind


class DeliveryEvent(models.Model):
    """Range-partitioned by ``message_id``. Only ever added: a trigger refuses UPDATE, and DELETE unless its tenant is closed."""

    pk = models.CompositePrimaryKey("message_id", "id")
    id = models.UUIDField(editable=False)
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    kind = models.CharField(max_length=12, choices=[(k.value, k.value) for k in EventKind])
    occurred_at = models.DateTimeField()
    attempt_id = models.UUIDField(null=True)
    data = models.JSONField(default=dict)

    objects = TenantQuerySet["DeliveryEvent"].as_manager()

    class Meta:
        db_table = "delivery_event"
        indexes: ClassVar = [
            models.Index(fields=["recipient_id"], name="event_of_recipient"),
            # For replaying a period to a webhook; small, and next to free when events are written.
            BrinIndex(fields=["occurred_at"], name="event_by_time", autosummarize=True, pages_per_range=32),
        ]
