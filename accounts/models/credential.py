"""A credential: an SMTP login, an API key, or a network that may hand over a tenant's mail without one.

Secrets are random (≥ 128 bit) and stored as SHA-256: a slow hash would protect nothing and cost every connection.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import OpClass
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.fields import NetworkField
from accounts.models.scoping import TenantQuerySet
from accounts.models.tenant import Tenant
from accounts.models.user import User


class CredentialKind(models.TextChoices):
    SMTP = "smtp"
    API = "api"
    NETWORK = "network"


class CredentialUse(models.TextChoices):
    APPLICATION = "application"
    MAIL_SERVER = "mail-server"  # a customer's own MTA: may use the null reverse-path


class Credential(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=7, choices=CredentialKind.choices)
    use = models.CharField(max_length=11, choices=CredentialUse.choices, default=CredentialUse.APPLICATION)
    is_test = models.BooleanField(default=False, help_text="mail is accepted and shown, and never leaves")
    name = models.CharField(max_length=120)

    username = models.CharField(max_length=64, unique=True, null=True, blank=True)
    secret_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    former_secret_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    former_secret_until = models.DateTimeField(null=True, blank=True)
    scopes = ArrayField(
        models.CharField(max_length=20), default=list, blank=True, help_text="API keys: send, read, manage"
    )
    network = NetworkField(null=True, blank=True)

    # What mail handed over with it becomes; empty means the tenant's default. The referenced rows belong to delivery.
    stream_id = models.UUIDField(null=True, blank=True)
    pool_id = models.UUIDField(null=True, blank=True)
    # What it may be used for.
    only_domain = models.CharField(max_length=255, blank=True, help_text="author domain it is limited to")
    only_networks = ArrayField(NetworkField(), default=list, blank=True, help_text="peers it may be used from")
    rate_per_second = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.001)])
    daily_limit = models.PositiveIntegerField(null=True, blank=True)

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    approved_at = models.DateTimeField(
        null=True, blank=True, help_text="network credentials work once an operator agreed"
    )
    approved_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_from = models.GenericIPAddressField(null=True, blank=True)
    used_count = models.BigIntegerField(default=0)

    objects = TenantQuerySet["Credential"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind="network", network__isnull=False, secret_sha256__isnull=True)
                | models.Q(kind__in=["smtp", "api"], username__isnull=False, secret_sha256__isnull=False),
                name="credential_has_secret_or_network",
            ),
            # Two tenants in one network could not be told apart.
            ExclusionConstraint(
                name="credential_networks_of_tenants_apart",
                expressions=[("tenant", "<>"), (OpClass("network", name="inet_ops"), "&&")],
                condition=models.Q(kind="network", revoked_at__isnull=True),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "-created_at"], name="credential_of_tenant")]

    def __str__(self) -> str:
        return self.name
