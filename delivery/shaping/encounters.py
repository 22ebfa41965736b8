"""What attempts met with at a receiver, in the few words that the standing of an address is judged by.

Pure. Replies of our own say nothing about an address, and what would have happened to any other address is "other".
"""

from __future__ import annotations

from delivery.core.classification import ReplyClass
from delivery.core.outcome import Outcome
from delivery.core.reply import Origin
from delivery.core.states import RecipientState

ACCEPTED = "accepted"
KINDS = (ACCEPTED, "throttled", "blocked", "unknown", "content", "policy", "other")

_KIND_OF_CLASS = {
    ReplyClass.RATE_LIMIT: "throttled",
    ReplyClass.IP_BLOCK: "blocked",
    ReplyClass.REVERSE_DNS: "blocked",
    ReplyClass.BAD_MAILBOX: "unknown",
    ReplyClass.INACTIVE: "unknown",
    ReplyClass.CONTENT: "content",
    ReplyClass.POLICY: "policy",
    ReplyClass.AUTHENTICATION: "policy",
}


def kind_of(outcome: Outcome) -> str | None:
    """One of KINDS; None for what the receiver had no part in."""
    if outcome.state is RecipientState.DELIVERED:
        return ACCEPTED
    classification = outcome.cause or outcome.classification
    if classification is None or outcome.reply.origin not in {Origin.PEER, Origin.NETWORK}:
        return None
    return _KIND_OF_CLASS.get(classification.reply_class, "other")
