"""Sending domains a tenant has proved to control, and their DKIM keys."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet


class DomainState(models.TextChoices):
    PENDING = "pending"  # not yet proved
    VERIFIED = "verified"
    LAPSED = "lapsed"  # was verified; its ownership record has been missing for too long
    REMOVED = "removed"


class SendingDomain(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="domains")
    name = models.CharField(max_length=255, help_text="A-label, lower case")
    state = models.CharField(max_length=8, choices=DomainState.choices, default=DomainState.PENDING)
    ownership_token = models.CharField(max_length=64)
    is_assumed = models.BooleanField(default=False, help_text="verified by an operator's word, never checked")
    covers_subdomains = models.BooleanField(default=True)
    signs = models.BooleanField(default=True, help_text="DKIM signing is on")
    keeps_reverse_path = models.BooleanField(default=False, help_text="off: bounces come to us and are managed here")
    adds_unsubscribe = models.BooleanField(
        default=True, db_default=True, help_text="bulk mail without List-Unsubscribe gets ours"
    )
    bounce_host = models.CharField(max_length=255, blank=True, help_text="own bounce domain, once its CNAME was seen")
    verified_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    next_check_at = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    findings = models.JSONField(default=list, help_text="what the last check saw, record by record")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["SendingDomain"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=~models.Q(state="removed"), name="sending_domain_once_per_tenant"
            ),
            # One domain belongs to one tenant; claims that are not proved stand in nobody's way.
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(state__in=["verified", "lapsed"]), name="sending_domain_one_owner"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_check_at"], condition=~models.Q(state="removed"), name="sending_domain_due_check"
            )
        ]

    def __str__(self) -> str:
        return self.name


class DkimKeyState(models.TextChoices):
    WAITING = "waiting"  # published, not yet seen in DNS
    SIGNING = "signing"
    RETIRED = "retired"


class DkimKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    sealed_private_key = models.BinaryField(help_text="PEM, sealed by accounts.sealing")
    public_record = models.TextField(help_text="the TXT value: v=DKIM1; k=rsa; p=…")
    state = models.CharField(max_length=7, choices=DkimKeyState.choices, default=DkimKeyState.WAITING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["domain", "selector"], condition=~models.Q(state="retired"), name="dkim_key_selector_once"
            ),
            models.UniqueConstraint(
                fields=["domain"], condition=models.Q(state="signing"), name="dkim_key_one_signing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @staticmethod
    def sealing_context(key_id: UUID) -> str:
        """What the sealed private key is bound to: it opens in this row alone."""
        return f"dkim {key_id}"
