"""MTA-STS policies of receiving domains (RFC 8461), kept so that a restart does not forget a domain's word."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models


class MtaStsPolicy(models.Model):
    """One domain's policy, shared by all workers; gone some time after `expires_at`."""

    domain = models.CharField(max_length=255, primary_key=True, help_text="A-label")
    policy_id = models.CharField(max_length=32, help_text="as announced in the TXT record")
    mode = models.CharField(max_length=7)  # delivery.transport.mta_sts.StsMode
    mx = ArrayField(models.CharField(max_length=255), help_text="patterns of MX hosts")
    fetched_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "delivery_mta_sts_policy"
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="mta_sts_policy_expires")]

    def __str__(self) -> str:
        return f"{self.domain} {self.mode} {self.policy_id}"
