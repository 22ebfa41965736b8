"""What is open: entries, the lanes they wait in, the paths they leave by, and who drives these.

Only delivery.queue writes to the first three. The hot statements are SQL there; these models give them their columns.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from accounts.models import Tenant
from delivery.models.provider import ProviderGroup
from delivery.models.source import Node, SourceAddress, SourcePool
from delivery.models.stream import Stream


class DomainRoute(models.Model):
    """Recipient domain → provider group: a cache of what DNS said, shared by all processes."""

    domain = models.CharField(max_length=255, unique=True)
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    mx_hosts = ArrayField(models.CharField(max_length=255), default=list)
    resolved_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    resolving_until = models.DateTimeField(null=True, help_text="a worker is looking it up until then")

    def __str__(self) -> str:
        return self.domain


class Lane(models.Model):
    """Entries of one pool, provider group, tenant, stream and, for greylisted ones, one source address."""

    pool = models.ForeignKey(SourcePool, on_delete=models.PROTECT, related_name="+")
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="+")
    pinned_source = models.ForeignKey(SourceAddress, on_delete=models.PROTECT, null=True, related_name="+")
    next_due_at = models.DateTimeField(null=True, help_text="no entry is due before; null: none waits")
    suspended_until = models.DateTimeField(null=True)
    suspended_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["pool", "group", "tenant", "stream"],
                condition=models.Q(pinned_source__isnull=True),
                name="lane_once",
            ),
            models.UniqueConstraint(
                fields=["pool", "group", "tenant", "stream", "pinned_source"],
                condition=models.Q(pinned_source__isnull=False),
                name="lane_once_per_pinned_source",
            ),
        ]
        indexes: ClassVar = [
            # engine: which lanes have something due?
            models.Index(fields=["next_due_at"], name="lane_due", condition=models.Q(next_due_at__isnull=False)),
        ]


class Path(models.Model):
    """One source address towards one provider group; driven by exactly one worker, known by its fence."""

    source = models.ForeignKey(SourceAddress, on_delete=models.CASCADE, related_name="+")
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    owner = models.CharField(max_length=80, blank=True, help_text="slot of the worker that drives it")
    owner_incarnation = models.UUIDField(null=True)
    fence = models.BigIntegerField(default=0, help_text="raised with each change of owner")
    leased_until = models.DateTimeField(null=True)
    # What was learnt about the group, which survives the owner.
    pace_share = models.FloatField(default=1.0, help_text="of full speed")
    pace_changed_at = models.DateTimeField(null=True)
    pace_reason = models.CharField(max_length=200, blank=True)
    suspended_until = models.DateTimeField(null=True)
    suspended_reason = models.CharField(max_length=200, blank=True)
    suspension_s = models.FloatField(default=0, help_text="how long the last suspension was, the measure for the next")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["source", "group"], name="path_once")]


class PathChange(models.Model):
    """Why a path went slower, faster or to rest, and when; the last ones of each path are kept (delivery.shaping.changes)."""

    id = models.BigAutoField(primary_key=True)
    path = models.ForeignKey(Path, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    share_before = models.FloatField(help_text="of full speed")
    share_after = models.FloatField()
    suspended_until = models.DateTimeField(null=True, help_text="where it was suspended by it")
    reason = models.CharField(max_length=200, blank=True, help_text="the rule, or who did it")
    reply = models.CharField(max_length=500, blank=True, help_text="what the receiver said, without addresses")

    class Meta:
        db_table = "delivery_path_change"
        indexes: ClassVar = [
            models.Index(fields=["path", "-id"], name="path_change_latest"),
            models.Index(fields=["at"], name="path_change_by_age"),  # forgetting
        ]

    def __str__(self) -> str:
        return f"{self.path_id} {self.share_before} → {self.share_after}: {self.reason}"


class PathUse(models.Model):
    """What a path did in a minute, written down before it is done: a kill cannot overspend a long window."""

    pk = models.CompositePrimaryKey("path_id", "minute")
    path_id = models.BigIntegerField()
    minute = models.DateTimeField()
    messages = models.PositiveIntegerField(default=0, help_text="claimed")
    # Null: written by a version that did not count them. There were not more than messages.
    connections = models.PositiveIntegerField(null=True, help_text="opened, or written down to be opened")

    class Meta:
        db_table = "delivery_path_use"


class QueueEntry(models.Model):
    """An open recipient. Inserted at acceptance, deleted at settlement, so the table stays as small as the backlog."""

    recipient_id = models.UUIDField(primary_key=True)
    message_id = models.UUIDField()
    tenant_id = models.UUIDField()
    credential_id = models.UUIDField(null=True)
    lane_id = models.BigIntegerField()
    domain_route_id = models.BigIntegerField()
    accepted_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    losses = models.PositiveSmallIntegerField(default=0, help_text="owners that died with it")
    held_reason = models.CharField(max_length=60, null=True)
    notices = models.PositiveSmallIntegerField(default=0, db_default=0, help_text="delivery.core.notices.Notice")
    # The claim: valid while the path's fence is this one.
    path_id = models.BigIntegerField(null=True)
    fence = models.BigIntegerField(null=True)
    claimed_at = models.DateTimeField(null=True)
    # The mark: from here on the recipient's host may have the mail.
    attempt_id = models.UUIDField(null=True)
    dot_sent_at = models.DateTimeField(null=True)
    dot_host = models.CharField(max_length=255, null=True)

    class Meta:
        db_table = "delivery_queue_entry"
        indexes: ClassVar = [
            # claim: the due entries of a lane, oldest first
            models.Index(
                fields=["lane_id", "next_attempt_at"],
                name="queue_entry_waiting",
                condition=models.Q(path_id__isnull=True, held_reason__isnull=True, losses=0),
            ),
            # claim: those an owner died with, which are taken one at a time
            models.Index(
                fields=["lane_id", "next_attempt_at"],
                name="queue_entry_suspect",
                condition=models.Q(path_id__isnull=True, held_reason__isnull=True, losses__gt=0),
            ),
            # taking a path over: what its former owner had claimed
            models.Index(fields=["path_id"], name="queue_entry_claimed", condition=models.Q(path_id__isnull=False)),
            # routing, and a change of routes: what waits for a domain
            models.Index(fields=["domain_route_id"], name="queue_entry_of_domain"),
            # hold, release and cancel: a message's and a tenant's entries
            models.Index(fields=["message_id"], name="queue_entry_of_message"),
            models.Index(fields=["tenant_id"], name="queue_entry_of_tenant"),
            # brakes: what waits until earlier mail of its credential was judged, the oldest first
            models.Index(
                fields=["credential_id", "recipient_id"],
                name="queue_entry_awaits_results",
                condition=models.Q(held_reason="first_results"),
            ),
        ]


class Worker(models.Model):
    """A living process of a node. A slot outlives its incarnations: a restarted worker knows its predecessor by it."""

    slot = models.CharField(max_length=80, primary_key=True, help_text="node/worker-1")
    incarnation = models.UUIDField()
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="workers")
    part = models.CharField(max_length=20)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField()
    is_draining = models.BooleanField(default=False)
    figures = models.JSONField(default=dict, help_text="what it does right now, for the console")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["node", "heartbeat_at"], name="worker_alive")]

    def __str__(self) -> str:
        return self.slot
