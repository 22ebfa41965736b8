"""What is done in the background for a tenant: exports and changes of all that a filter of the send log finds, and the archive
of everything it has.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant, User
from accounts.models.scoping import TenantQuerySet


class JobKind(models.TextChoices):
    EXPORT = "export"
    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    ARCHIVE = "archive"  # everything the tenant has, as one ZIP file


# Those that a filter of the send log is asked for.
LOG_KINDS = frozenset(JobKind) - {JobKind.ARCHIVE}


class JobFault(models.TextChoices):
    """Why it failed, as far as that is known."""

    DISK_FULL = "disk_full"
    WORKER_LOST = "worker_lost"  # whoever was at it disappeared, again and again
    OURS = "ours"


class JobState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Job(models.Model):
    """Goes on where it stopped: `cursor` is the last recipient that is done, written with what was done to it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    person_name = models.CharField(max_length=254, help_text="who asked for it, also when the account is gone")
    kind = models.CharField(max_length=7, choices=JobKind.choices)
    file_format = models.CharField(max_length=4, blank=True, help_text="csv, json or zip, for what has a file")
    wanted = models.JSONField(help_text="the filter, with its period as times")
    query = models.TextField(blank=True, help_text="the same as it stands in the address of the send log")
    state = models.CharField(max_length=9, choices=JobState.choices, default=JobState.WAITING)
    found = models.IntegerField(help_text="recipients that matched when it was asked for, at most a countable number")
    is_found_exact = models.BooleanField(default=True)
    looked_at = models.IntegerField(default=0)
    changed = models.IntegerField(default=0, help_text="recipients changed, or lines written")
    in_hand = models.IntegerField(default=0, help_text="recipients that were being sent at that moment")
    size_bytes = models.BigIntegerField(default=0)
    cursor = models.UUIDField(null=True)
    claimed_until = models.DateTimeField(null=True)
    progress = models.JSONField(null=True, help_text="of an archive: how far it is")
    tries = models.SmallIntegerField(default=0)
    fault = models.CharField(max_length=11, choices=JobFault.choices, blank=True, default="", db_default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="its file, and then the job itself, are gone")

    objects = TenantQuerySet["Job"].as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="job_of_tenant"),
            # housekeeping: what is to be done
            models.Index(fields=["id"], name="job_open", condition=models.Q(state__in=["waiting", "running"])),
        ]


class JobPart(models.Model):
    """A part of an export's file, compressed by itself: written with the job's cursor, so that none is missing or doubled."""

    pk = models.CompositePrimaryKey("job_id", "number")
    job_id = models.UUIDField()
    number = models.IntegerField()
    compressed = models.BinaryField()

    class Meta:
        db_table = "delivery_job_part"
