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
