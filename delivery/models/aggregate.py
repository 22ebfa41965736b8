"""What receivers report about a sending domain, day by day: who sends in its name (DMARC), who could not encrypt (TLS).

Everything in here is the word of whoever wrote the report, about a domain that its tenant has verified.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.models.scoping import TenantQuerySet
from delivery.models.domain import SendingDomain


class AggregateKind(models.TextChoices):
    DMARC = "dmarc"
    TLS = "tls"


class DomainReport(models.Model):
    """One report, counted once. ``fault`` says why a damaged one was not read."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=5, choices=AggregateKind.choices)
    reporter = models.CharField(max_length=255)
    contact = models.CharField(max_length=255, blank=True)
    report_id = models.CharField(max_length=255)
    policy_domain = models.CharField(max_length=255, blank=True, help_text="whose record was applied")
    policy = models.CharField(max_length=20, blank=True, help_text="DMARC: p; TLS: the kinds of policies")
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    returned_id = models.UUIDField(null=True, help_text="the mail it came in, as long as that is kept")
    total = models.BigIntegerField(default=0, help_text="mails, or sessions")
    passed = models.BigIntegerField(default=0)
    is_cut = models.BooleanField(default=False, help_text="more stood in it than was read")
    fault = models.CharField(max_length=30, blank=True)

    objects = TenantQuerySet["DomainReport"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["domain", "kind", "reporter", "report_id"], name="domain_report_counted_once"
            )
        ]
        indexes: ClassVar = [
            # the page of a domain; how many came lately
            models.Index(fields=["domain", "kind", "-ends_at"], name="domain_report_of_domain"),
            # housekeeping
            models.Index(fields=["ends_at"], name="domain_report_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.report_id}"


class DmarcRow(models.Model):
    """Mails from one address that fared alike. A null ``source`` stands for the many small rows beyond the limit."""

    report = models.ForeignKey(DomainReport, on_delete=models.CASCADE, related_name="rows")
    source = models.GenericIPAddressField(null=True)
    count = models.BigIntegerField()
    dkim_aligned = models.BooleanField()
    spf_aligned = models.BooleanField()
    disposition = models.CharField(max_length=10, blank=True)
    override = models.CharField(max_length=40, blank=True)
    header_from = models.CharField(max_length=255, blank=True)
    dkim_domain = models.CharField(max_length=255, blank=True)
    dkim_selector = models.CharField(max_length=63, blank=True)
    dkim_result = models.CharField(max_length=10, blank=True)
    spf_domain = models.CharField(max_length=255, blank=True)
    spf_result = models.CharField(max_length=10, blank=True)


class TlsFailure(models.Model):
    """Sessions that could not be encrypted, for one reason."""

    report = models.ForeignKey(DomainReport, on_delete=models.CASCADE, related_name="failures")
    kind = models.CharField(max_length=60)
    count = models.BigIntegerField()
    sending_address = models.CharField(max_length=45, blank=True)
    receiving_host = models.CharField(max_length=255, blank=True)
    detail = models.CharField(max_length=255, blank=True)
