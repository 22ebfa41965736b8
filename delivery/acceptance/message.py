"""A message that passed every policy and waits to be committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from accounts.authentication import Principal
from accounts.identifiers import uuid7_at
from delivery.acceptance.submission import NO_CONTROLS, Controls, Peer
from delivery.core.envelope import Envelope, EnvelopeRecipient
from delivery.core.notices import Notice


@dataclass(frozen=True, slots=True)
class NewRecipient:
    id: UUID
    address: str
    domain: str
    notify: list[str] | None
    orcpt: str
    notices: Notice = Notice.NONE

    @classmethod
    def of(cls, recipient: EnvelopeRecipient, *, message_id: UUID, notices: Notice = Notice.NONE) -> NewRecipient:
        return cls(
            id=uuid7_at(message_id),
            address=recipient.mailbox.address,
            domain=recipient.mailbox.domain,
            notify=None if recipient.notify is None else sorted(recipient.notify),
            orcpt=recipient.orcpt or "",
            notices=notices,
        )


@dataclass(frozen=True, slots=True)
class NewMessage:
    id: UUID
    principal: Principal
    domain_id: UUID | None
    accepted_at: datetime
    expires_at: datetime
    pool_id: UUID
    envelope: Envelope
    recipients: tuple[NewRecipient, ...]
    author: str
    author_domain: str
    subject: str
    header_message_id: str
    size_bytes: int
    compressed: bytes
    peer: Peer
    controls: Controls = NO_CONTROLS
    # How long its stream would try: the engine judges by this, from `lifetime_begins_at` on.
    stream_lifetime: timedelta = timedelta(0)

    @property
    def stored_octets(self) -> int:
        """What committing it moves to the database, roughly."""
        return len(self.compressed) + 500 * len(self.recipients)

    @property
    def first_attempt_at(self) -> datetime:
        """Never before it was accepted."""
        return max(self.controls.send_at or self.accepted_at, self.accepted_at)

    @property
    def lifetime_begins_at(self) -> datetime:
        """One stream lifetime before the end: later than acceptance where it is scheduled, earlier where it is short-lived."""
        return self.expires_at - self.stream_lifetime if self.stream_lifetime else self.accepted_at

    @property
    def receipt(self) -> Receipt:
        return Receipt(self.id, tuple((recipient.id, recipient.address) for recipient in self.recipients))


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the client gets for a message: its id, and each recipient's."""

    message_id: UUID
    recipients: tuple[tuple[UUID, str], ...]
