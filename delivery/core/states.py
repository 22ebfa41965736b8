"""The words for what becomes of a recipient. Final states never change; what is learnt later stands beside them."""

from __future__ import annotations

from enum import StrEnum


class RecipientState(StrEnum):
    QUEUED = "queued"
    DEFERRED = "deferred"
    HELD = "held"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


OPEN = frozenset({RecipientState.QUEUED, RecipientState.DEFERRED, RecipientState.HELD})
FINAL = frozenset(RecipientState) - OPEN


class EventKind(StrEnum):
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    RETURNED = "returned"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    HELD = "held"
    CANCELLED = "cancelled"


class TenantEventKind(StrEnum):
    """What happens to a tenant rather than to a recipient."""

    DOMAIN_FAILING = "domain.failing"
    CREDENTIAL_CREATED = "credential.created"
    CREDENTIAL_REVOKED = "credential.revoked"
    TENANT_PAUSED = "tenant.paused"
    TENANT_RESUMED = "tenant.resumed"


# The one vocabulary of console, API and webhooks.
EVENT_TYPES: tuple[str, ...] = (*(kind.value for kind in EventKind), *(kind.value for kind in TenantEventKind))
