"""Counters that the console's figures are sums of: small rows per quarter of an hour and per hour, whatever the volume.

`delivery.statistics` adds to them; nothing else does. Keys begin with what a page asks for: tenant, dimension, value.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from accounts.models.scoping import TenantQuerySet


class EventToCount(models.Model):
    """An event that no counter knows yet: written by a trigger with the event itself, deleted in the counting transaction."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    tenant_id = models.UUIDField()
    kind = models.CharField(max_length=12)
    occurred_at = models.DateTimeField()
    reply_class = models.CharField(max_length=20, null=True)
    attempt = models.SmallIntegerField(null=True)

    class Meta:
        db_table = "delivery_event_to_count"


class Statistic(models.Model):
    """What happened to a tenant's recipients in a quarter of an hour or an hour, in all and by one value of one dimension."""

    pk = models.CompositePrimaryKey("tenant_id", "dimension", "minutes", "value", "starts_at")
    tenant_id = models.UUIDField()
    dimension = models.CharField(max_length=10)
    minutes = models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")
    value = models.CharField(max_length=255)
    starts_at = models.DateTimeField()
    accepted = models.IntegerField(default=0)
    delivered = models.IntegerField(default=0)
    deferred = models.IntegerField(default=0, help_text="recipients that were put off for the first time")
    bounced = models.IntegerField(default=0)
    expired = models.IntegerField(default=0)
    suppressed = models.IntegerField(default=0)
    cancelled = models.IntegerField(default=0)
    returned = models.IntegerField(default=0)
    complained = models.IntegerField(default=0)
    unsubscribed = models.IntegerField(default=0)

    objects = TenantQuerySet["Statistic"].as_manager()

    class Meta:
        db_table = "delivery_statistic"
        # housekeeping: what is past its time
        indexes: ClassVar = [BrinIndex(fields=["starts_at"], name="statistic_age", pages_per_range=16)]


class StatisticClass(models.Model):
    """Why: the classes of what bounced, expired or came back."""

    pk = models.CompositePrimaryKey("tenant_id", "dimension", "minutes", "value", "starts_at", "reply_class")
    tenant_id = models.UUIDField()
    dimension = models.CharField(max_length=10)
    minutes = models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")
    value = models.CharField(max_length=255)
    starts_at = models.DateTimeField()
    reply_class = models.CharField(max_length=20)
    bounced = models.IntegerField(default=0)
    returned = models.IntegerField(default=0)

    objects = TenantQuerySet["StatisticClass"].as_manager()

    class Meta:
        db_table = "delivery_statistic_class"
        indexes: ClassVar = [BrinIndex(fields=["starts_at"], name="statistic_class_age", pages_per_range=16)]


class StatisticTime(models.Model):
    """How long acceptance took: from our 250 to the receiving server's, in slots of `delivery.core.histogram`."""

    pk = models.CompositePrimaryKey("tenant_id", "dimension", "minutes", "value", "starts_at", "slot")
    tenant_id = models.UUIDField()
    dimension = models.CharField(max_length=10)
    minutes = models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")
    value = models.CharField(max_length=255)
    starts_at = models.DateTimeField()
    slot = models.SmallIntegerField()
    recipients = models.IntegerField(default=0)

    objects = TenantQuerySet["StatisticTime"].as_manager()

    class Meta:
        db_table = "delivery_statistic_time"
        indexes: ClassVar = [BrinIndex(fields=["starts_at"], name="statistic_time_age", pages_per_range=16)]


class StatisticTag(models.Model):
    """The tags that are counted by name: so many for each tenant, since a program may invent one for every mail."""

    pk = models.CompositePrimaryKey("tenant_id", "tag")
    tenant_id = models.UUIDField()
    tag = models.CharField(max_length=100)
    last_used_at = models.DateTimeField()

    objects = TenantQuerySet["StatisticTag"].as_manager()

    class Meta:
        db_table = "delivery_statistic_tag"
