"""Webhooks: a tenant's URLs, the events that are still to be told to them, and the calls that were made.

``WebhookEvent`` is the outbox: its rows are made by triggers on the tables of events, in the transaction of what they tell,
and only where a webhook wants them; a row goes when it has been told. ``WebhookCall`` is a log, partitioned by day.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant, User
from accounts.models.scoping import TenantQuerySet
from delivery.core.states import TenantEventKind

MOST_IN_A_CALL = 100


class WebhookState(models.TextChoices):
    ACTIVE = "active"
    DISABLED = "disabled"  # by a person, by 410, or after failing for days: disabled_reason says which
    REMOVED = "removed"


class WebhookFormat(models.TextChoices):
    STANDARD = "standard"  # Standard Webhooks, https://www.standardwebhooks.com
    POSTAL = "postal"  # for applications that were written for Postal


class DisabledReason(models.TextChoices):
    PERSON = "person"
    GONE = "gone"  # the endpoint answered 410
    FAILING = "failing"  # no good answer for days


class WebhookOutcome(models.TextChoices):
    """What a call came to; only the first is good."""

    OK = "ok"
    STATUS = "status"  # an answer that is not 2xx
    REDIRECT = "redirect"  # never followed
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TLS = "tls"
    DNS = "dns"
    REFUSED = "refused"  # the address is none that we dial


class Webhook(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=120, blank=True)
    url = models.CharField(max_length=2000)
    events = ArrayField(models.CharField(max_length=24), help_text="types of events it wants")
    format = models.CharField(max_length=10, choices=WebhookFormat.choices, default=WebhookFormat.STANDARD)
    most_in_a_call = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_IN_A_CALL)],
        help_text="events; more than one makes batches",
    )
    sealed_secret = models.BinaryField(help_text="sealed by accounts.sealing")
    sealed_former_secret = models.BinaryField(null=True, help_text="signs beside the new one until former_secret_until")
    former_secret_until = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=WebhookState.choices, default=WebhookState.ACTIVE)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=7, choices=DisabledReason.choices, blank=True)
    is_notice_due = models.BooleanField(default=False, help_text="its owners are to be told that it is disabled")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    removed_at = models.DateTimeField(null=True, blank=True)

    # What its caller knows of it.
    owner = models.CharField(max_length=120, blank=True, help_text="slot and incarnation of the caller that serves it")
    leased_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0, help_text="calls that failed since the last good one")
    failing_since = models.DateTimeField(null=True)
    resting_until = models.DateTimeField(null=True, help_text="after several failures it is tried now and then only")
    last_called_at = models.DateTimeField(null=True)
    last_outcome = models.CharField(max_length=10, blank=True)
    last_status = models.PositiveSmallIntegerField(null=True)
    test_id = models.UUIDField(null=True, help_text="a test call that somebody waits for")

    objects = TenantQuerySet["Webhook"].as_manager()

    class Meta:
        indexes: ClassVar = [
            # For the triggers, at every event; and for the callers, who look for work.
            models.Index(fields=["tenant"], condition=models.Q(state="active"), name="webhook_active_of_tenant"),
            models.Index(fields=["tenant", "created_at"], name="webhook_of_tenant"),
            models.Index(fields=["test_id"], condition=models.Q(test_id__isnull=False), name="webhook_test_wanted"),
        ]

    def __str__(self) -> str:
        return self.name or self.url

    @staticmethod
    def sealing_context(key: UUID) -> str:
        """What the sealed secrets are bound to: they open in this row alone."""
        return f"webhook {key}"


class TenantEvent(models.Model):
    """One fact about a tenant, its domains or its credentials; never changed. Told to webhooks beside those about mail."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=24, choices=[(kind.value, kind.value) for kind in TenantEventKind])
    occurred_at = models.DateTimeField(default=timezone.now, editable=False)
    subject_id = models.UUIDField(help_text="the domain, credential or tenant")
    data = models.JSONField(default=dict)

    objects = TenantQuerySet["TenantEvent"].as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["tenant", "-occurred_at"], name="tenant_event_of_tenant")]


class WebhookEvent(models.Model):
    """An event that one webhook is still to be told, or (``died_at``) never could be."""

    id = models.BigAutoField(primary_key=True)  # the order in which events of one subject are told
    webhook = models.ForeignKey(
        Webhook, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    event_id = models.UUIDField(help_text="the webhook-id of its calls")
    kind = models.CharField(max_length=24)
    occurred_at = models.DateTimeField()
    subject_id = models.UUIDField(help_text="the recipient, or what a tenant's event is about: told in order")
    message_id = models.UUIDField(null=True)
    data = models.JSONField(default=dict)
    calls = models.PositiveSmallIntegerField(default=0)
    next_call_at = models.DateTimeField(null=True, default=timezone.now, help_text="null: dead")
    died_at = models.DateTimeField(null=True)

    objects = TenantQuerySet["WebhookEvent"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["webhook_id", "event_id"], name="webhook_event_once"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["webhook_id", "next_call_at", "id"],
                condition=models.Q(died_at=None),
                name="webhook_event_due",
            ),
            models.Index(
                fields=["webhook_id", "subject_id", "id"], condition=models.Q(died_at=None), name="webhook_event_order"
            ),
            models.Index(
                fields=["webhook_id", "-id"], condition=models.Q(died_at__isnull=False), name="webhook_event_dead"
            ),
        ]


class WebhookCall(models.Model):
    """One POST to a webhook. Range-partitioned by day on ``id``; old days are dropped."""

    id = models.UUIDField(primary_key=True, editable=False)
    webhook_id = models.UUIDField()
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    called_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    kind = models.CharField(max_length=24, help_text="type of the first event")
    event_ids = ArrayField(models.UUIDField())
    message_ids = ArrayField(models.UUIDField(null=True), help_text="of the events, place by place")
    recipient = models.CharField(max_length=320, blank=True, help_text="of the first event")
    number = models.PositiveSmallIntegerField(help_text="how many calls the first event has had, this one counted")
    outcome = models.CharField(max_length=10, choices=WebhookOutcome.choices)
    status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=300, blank=True)
    url = models.CharField(max_length=2000)
    address = models.GenericIPAddressField(null=True, help_text="that was dialled")
    request_headers = models.JSONField(default=dict)
    request_body = models.TextField()
    response_headers = models.JSONField(default=dict)
    response_body = models.TextField(blank=True)
    is_body_cut = models.BooleanField(default=False)

    objects = TenantQuerySet["WebhookCall"].as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["webhook_id", "-id"], name="webhook_call_of_webhook"),
            models.Index(fields=["webhook_id", "-id"], condition=~models.Q(outcome="ok"), name="webhook_call_failed"),
        ]

    @property
    def is_good(self) -> bool:
        return self.outcome == WebhookOutcome.OK
