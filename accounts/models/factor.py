"""What proves a person beside the password: passkeys, one-time passwords from an app, and recovery codes on paper."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.user import User


class Passkey(models.Model):
    """A WebAuthn credential (https://www.w3.org/TR/webauthn-3/): the public half, kept by us."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="passkeys")
    name = models.CharField(max_length=60)
    credential_id = models.BinaryField(max_length=1023, unique=True)
    credential_data = models.BinaryField(help_text="attested credential data: AAGUID, credential id, public key")
    sign_count = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class OneTimePassword(models.Model):
    """The secret shared with an authenticator app (RFC 6238)."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="one_time_password")
    secret_sealed = models.BinaryField()
    last_step = models.BigIntegerField(default=0, help_text="time step of the newest code used; older ones are refused")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)


class RecoveryCode(models.Model):
    """One of ten. Random enough (≥ 50 bit) for a fast keyed hash, and each works once."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    code_hmac = models.BinaryField(max_length=32)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "code_hmac"], name="recovery_code_once")]
