"""Ways in: sign-ups that wait for their address to be confirmed, browsers that are signed in, invitations to a tenant."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.identifiers import uuid7
from accounts.models.membership import Role
from accounts.models.scoping import TenantQuerySet
from accounts.models.tenant import Tenant
from accounts.models.user import User


class SignUp(models.Model):
    """No account yet: it is made when whoever reads the mailbox agrees."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254)
    password = models.CharField(max_length=128, help_text="hashed, as the account will have it")
    language = models.CharField(max_length=2, blank=True)
    time_zone = models.CharField(max_length=64, blank=True)
    nonce = models.CharField(max_length=32, help_text="part of the link in the newest mail")
    mailed_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, blank=True, related_name="+")

    class Meta:
        # For forgetting what is over.
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="sign_up_by_end")]


class SignedInBrowser(models.Model):
    """A session as its owner sees it: which browser, from where, since when. Ending it also deletes the session."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="browsers")
    session_key = models.CharField(max_length=40, unique=True)  # as accounts.sessions stores it
    method = models.CharField(max_length=12, help_text="password, code, passkey or link")
    browser = models.CharField(max_length=250, blank=True, help_text="the User-Agent field, as sent")
    peer_address = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["user", "-last_seen_at"], name="browser_of_person"),
            models.Index(fields=["last_seen_at"], name="browser_by_age"),
        ]


class Invitation(models.Model):
    """To join a tenant, by mail. Open until accepted, withdrawn or over; there is one open invitation per address."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=9, choices=Role.choices)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    nonce = models.CharField(max_length=32, help_text="part of the link in the newest mail; older links are dead")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    mailed_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Invitation"].as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "tenant",
                Lower("email"),
                condition=models.Q(accepted_at__isnull=True, withdrawn_at__isnull=True),
                name="invitation_open_once",
            )
        ]
