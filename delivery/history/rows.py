"""What lists and pages have in common: a recipient in one row, a page of rows, and the order of urgency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from delivery.core.states import OPEN, RecipientState
from delivery.models import Message, Recipient

# Problems first, then what is still open, then what needs nobody's attention.
STATES_BY_URGENCY = (
    RecipientState.BOUNCED,
    RecipientState.EXPIRED,
    RecipientState.HELD,
    RecipientState.DEFERRED,
    RecipientState.QUEUED,
    RecipientState.SUPPRESSED,
    RecipientState.CANCELLED,
    RecipientState.DELIVERED,
)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """One recipient with what a list says of its message. `reply_class` and its like are empty before a reply."""

    recipient_id: UUID
    message_id: UUID
    recipient: str
    domain: str
    state: RecipientState
    state_since: datetime
    reason: str
    attempts: int
    next_attempt_at: datetime | None
    phase: str
    reply_code: int | None
    reply: str
    reply_class: str
    action: str
    scope: str
    rule: str
    host: str
    has_ambiguous_attempt: bool
    returned_at: datetime | None
    returned_class: str
    group_id: int | None
    author: str = ""
    subject: str = ""
    accepted_at: datetime | None = None
    expires_at: datetime | None = None
    is_test: bool = False
    provider: str = ""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list, newest first; the keys lead on, and are None where nothing more is."""

    rows: tuple[Row, ...]
    newer: UUID | None = None  # rows before `newer` in the list: ask with after=newer
    older: UUID | None = None  # rows after `older` in the list: ask with before=older


def row_of(recipient: Recipient, message: Message | None, *, provider: str = "") -> RecipientRow:
    about: dict[str, Any] = (
        {
            "author": message.author,
            "subject": message.subject,
            "accepted_at": message.accepted_at,
            "expires_at": message.expires_at,
            "is_test": message.is_test,
        }
        if message is not None
        else {}
    )
    return RecipientRow(
        recipient_id=recipient.id,
        message_id=recipient.message_id,
        recipient=recipient.address,
        domain=recipient.domain,
        state=RecipientState(recipient.state),
        state_since=recipient.state_since,
        reason=recipient.reason,
        attempts=recipient.attempts,
        next_attempt_at=recipient.next_attempt_at,
        phase=recipient.phase,
        reply_code=recipient.reply_code,
        reply=recipient.reply,
        reply_class=recipient.reply_class,
        action=recipient.action,
        scope=recipient.scope,
        rule=recipient.rule,
        host=recipient.host,
        has_ambiguous_attempt=recipient.has_ambiguous_attempt,
        returned_at=recipient.returned_at,
        returned_class=recipient.returned_class,
        group_id=recipient.group_id,
        provider=provider,
        **about,
    )
