"""What a format is given, and what it has to make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ToldMessage:
    """What is told of the message an event is about."""

    id: UUID
    header_message_id: str
    author: str
    subject: str
    stream: str | None
    credential_id: UUID | None
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    is_test: bool
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """An event with everything a format may want to say of it.

    ``recipient`` and ``message`` are None for a tenant's events, and for mail whose history is not kept any more.
    """

    id: UUID
    kind: str
    occurred_at: datetime
    tenant_id: UUID
    tenant_slug: str
    subject_id: UUID
    data: Mapping[str, Any]
    message_id: UUID | None = None
    message: ToldMessage | None = None
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """``id`` is the same whenever the same events are told."""

    id: str
    body: bytes
    headers: dict[str, str]


class Format(Protocol):
    can_batch: bool
    events: tuple[str, ...]  # what can be told in it

    def new_secret(self) -> str: ...

    def shown(self, secret: str) -> str:
        """What the receiver needs to check signatures; shown once."""
        ...

    def request(self, events: Sequence[Told], *, secrets: Sequence[str], now: datetime) -> Request:
        """``secrets``: the current one first, then the former one while it is good."""
        ...
