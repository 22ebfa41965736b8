"""Whom mail must not go to, and the refusals that may make somebody such."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.stream import Stream

# The owner of what the operator suppresses for everybody.
OPERATOR = UUID(int=0)


class SuppressionScope(models.TextChoices):
    OPERATOR = "operator"
    TENANT = "tenant"
    STREAM = "stream"


class SuppressionKind(models.TextChoices):
    ADDRESS = "address"
    DOMAIN = "domain"
    PATTERN = "pattern"


class SuppressionReason(models.TextChoices):
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    IMPORT = "import"


class Suppression(models.Model):
    """One row per owner and value, for good: who removes it keeps the row, who adds it again takes it up."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    scope = models.CharField(max_length=8, choices=SuppressionScope.choices)
    owner_id = models.UUIDField(help_text="the stream's or tenant's id; zero for the operator")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, related_name="+")
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=7, choices=SuppressionKind.choices)
    value = models.CharField(max_length=320, help_text="ASCII letters in lower case")
    like_pattern = models.CharField(max_length=660, blank=True, help_text="of a pattern, for LIKE")
    reason = models.CharField(max_length=11, choices=SuppressionReason.choices)
    reply_class = models.CharField(max_length=20, blank=True)
    detail = models.CharField(max_length=500, blank=True, help_text="the reply that led to it, or a note")
    message_id = models.UUIDField(null=True)
    recipient_id = models.UUIDField(null=True)
    hits = models.PositiveIntegerField(default=0, help_text="mails that it kept back")
    last_hit_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=254, blank=True)
    expires_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    removed_by = models.CharField(max_length=254, blank=True)
    removed_reason = models.CharField(max_length=500, blank=True)
    import_id = models.UUIDField(null=True, help_text="the import that put it here, which may be taken back")

    objects = TenantQuerySet["Suppression"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["value", "kind", "owner_id"], name="suppression_once_per_owner"),
            models.CheckConstraint(
                condition=models.Q(scope="operator", tenant__isnull=True, stream__isnull=True)
                | models.Q(scope="tenant", tenant__isnull=False, stream__isnull=True)
                | models.Q(scope="stream", tenant__isnull=False, stream__isnull=False),
                name="suppression_scope_has_its_owner",
            ),
        ]
        indexes: ClassVar = [
            # acceptance and claim: the few patterns of an owner
            models.Index(fields=["owner_id"], name="suppression_patterns", condition=models.Q(kind="pattern")),
            # the list, newest first
            models.Index(fields=["tenant", "-id"], name="suppression_of_tenant"),
            # housekeeping: what was removed long ago
            models.Index(
                fields=["removed_at"], name="suppression_removed", condition=models.Q(removed_at__isnull=False)
            ),
            # taking an import back
            models.Index(
                fields=["import_id"], name="suppression_of_import", condition=models.Q(import_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.value

    def is_active(self, now: object = None) -> bool:
        moment = now or timezone.now()
        return self.removed_at is None and (self.expires_at is None or self.expires_at > moment)  # type: ignore[operator]


class ImportState(models.TextChoices):
    PREVIEW = "preview"  # nobody has said yet that it is the right one
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # with a sentence in ``fault``; what was written before stays
    UNDONE = "undone"


class SuppressionImport(models.Model):
    """A list that somebody handed in, read in the background. The file is kept until it is read."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, null=True, related_name="+")
    file_name = models.CharField(max_length=200, blank=True)
    compressed = models.BinaryField(null=True)
    lines = models.PositiveIntegerField(help_text="of the file, for its progress")
    state = models.CharField(max_length=7, choices=ImportState.choices, default=ImportState.PREVIEW)
    read = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    errors = models.JSONField(default=list, help_text="line number and sentence of bad rows")
    fault = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=254)
    peer_address = models.GenericIPAddressField(null=True)
    language = models.CharField(max_length=8, blank=True)
    claimed_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TenantQuerySet["SuppressionImport"].as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-id"], name="import_of_tenant"),
            models.Index(fields=["id"], name="import_waiting", condition=models.Q(state__in=["waiting", "running"])),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} {self.state}"


class Strike(models.Model):
    """A refusal that speaks against an address: written with the settlement, judged a moment later, kept for counting."""

    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    message_id = models.UUIDField()
    recipient_id = models.UUIDField()
    reply_class = models.CharField(max_length=20)
    action = models.CharField(max_length=20)
    detail = models.CharField(max_length=500, blank=True)
    happened_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="when it can be judged")
    # Filled in when it is judged.
    address = models.CharField(max_length=320, blank=True)
    judged_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=10, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="strike_waiting", condition=models.Q(judged_at__isnull=True)),
            models.Index(fields=["tenant", "address"], name="strike_of_address"),
        ]
