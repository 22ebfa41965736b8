"""A message that passed every policy and waits to be committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from accounts.authentication import Principal
from accounts.identifiers import uuid7_at
from delivery.acceptance.submission import Peer
from delivery.core.envelope import Envelope, EnvelopeRecipient


@dataclass(frozen=True, slots=True)
class NewRecipient:
    id: UUID
    address: str
    domain: str
    notify: list[str] | None
    orcpt: str

    @classmethod
    def of(cls, recipient: EnvelopeRecipient, *, message_id: UUID) -> NewRecipient:
        return cls(
            id=uuid7_at(message_id),
            address=recipient.mailbox.address,
            domain=recipient.mailbox.domain,
            notify=None if recipient.notify is None else sorted(recipient.notify),
            orcpt=recipient.orcpt or "",
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

    @property
    def stored_octets(self) -> int:
        """What committing it moves to the database, roughly."""
        return len(self.compressed) + 500 * len(self.recipients)
