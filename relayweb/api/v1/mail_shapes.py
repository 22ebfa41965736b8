"""What the API says of a message, a recipient, an attempt and an event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _

from delivery.core.classification import Action, Scope
from delivery.core.reply import Phase
from delivery.core.states import EventKind, RecipientState
from delivery.history import AttemptView, EventView, RecipientRow
from delivery.models import Message
from delivery.queue.control import Changed
from relayweb.api.structures import (
    Moment,
    Shape,
    in_utc,
    page_of,
)

# Words of a later version are told as they are, so none of these is closed.
PhaseWord = Annotated[str, msgspec.Meta(examples=[phase.value for phase in Phase])]
ActionWord = Annotated[str, msgspec.Meta(examples=[action.value for action in Action])]
ScopeWord = Annotated[str, msgspec.Meta(examples=[scope.value for scope in Scope])]


class MessageShape(Shape, rename={"author": "from"}, frozen=True):
    id: UUID
    author: Annotated[str, msgspec.Meta(description=_("the mailbox in From"))]
    reverse_path: Annotated[str | None, msgspec.Meta(description=_("null: the null reverse-path"))]
    subject: str
    message_id_field: Annotated[str, msgspec.Meta(description=_("the mail's own Message-ID"))]
    stream: str
    credential_id: UUID | None
    protocol: Annotated[str, msgspec.Meta(description=_("how it came: API, ESMTPSA, …"))]
    size_bytes: int
    recipient_count: int
    recipients_by_state: dict[str, int]
    tags: list[str]
    metadata: dict[str, str]
    tls: Annotated[str | None, msgspec.Meta(description=_("what it asks of its way: required or verified"))]
    is_test: bool
    accepted_at: Moment
    expires_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("when the last attempt is made"))]


class RecipientShape(Shape, rename={"author": "from", "reply_class": "class"}, frozen=True):
    id: UUID
    message_id: UUID
    recipient: str
    domain: str
    state: RecipientState
    state_since: Moment
    reason: Annotated[str | None, msgspec.Meta(description=_("why it is held or suppressed, a machine word"))]
    attempts: int
    next_attempt_at: Moment | None
    phase: PhaseWord | None
    reply_code: int | None
    reply: Annotated[str | None, msgspec.Meta(description=_("the last reply on one line"))]
    reply_class: str | None
    action: ActionWord | None
    scope: ScopeWord | None
    rule: str | None
    host: str | None
    is_maybe_duplicate: Annotated[
        bool, msgspec.Meta(description=_("an attempt ended after the data was sent and before its reply was known"))
    ]
    returned_at: (
        Annotated[
            datetime, msgspec.Meta(tz=True, description=_("reported back after the receiving server had accepted it"))
        ]
        | None
    )
    returned_class: str | None
    author: str
    subject: str
    accepted_at: Moment | None
    is_test: bool


class TranscriptLineShape(Shape, frozen=True):
    after_ms: int
    direction: Annotated[str, msgspec.Meta(description=_("`>` sent, `<` received, `*` what happened beside it"))]
    text: str


class AttemptShape(Shape, rename={"reply_class": "class"}, frozen=True):
    id: UUID
    number: int
    started_at: Moment
    ended_at: Moment
    phase: PhaseWord
    host: str | None
    host_address: str | None
    port: int | None
    source_address: str | None
    reply_code: int
    reply: str
    reply_class: str | None
    action: ActionWord | None
    scope: ScopeWord | None
    rule: str | None
    is_ambiguous: bool
    tls_version: str | None
    tls_cipher: str | None
    transcript: list[TranscriptLineShape]


class EventShape(Shape, rename={"kind": "type"}, frozen=True):
    id: UUID
    kind: EventKind
    occurred_at: Moment
    recipient_id: UUID
    recipient: str
    attempt_id: UUID | None
    data: dict[str, Any]


class RecipientDetail(RecipientShape, rename={"author": "from", "reply_class": "class"}, frozen=True):
    events: list[EventShape]
    attempt_log: list[AttemptShape]


class ChangedShape(Shape, frozen=True):
    id: UUID
    changed: Annotated[int, msgspec.Meta(description=_("recipients"))]
    in_hand: Annotated[
        int, msgspec.Meta(description=_("recipients being sent to at this moment, which were left alone"))
    ]


MessagePage, RecipientPage, EventPage = page_of(MessageShape), page_of(RecipientShape), page_of(EventShape)


def moment_of(given: datetime | msgspec.UnsetType) -> datetime | None:
    return None if given is msgspec.UNSET else given


def message_shape(message: Message, states: dict[RecipientState, int], *, stream: str) -> MessageShape:
    return MessageShape(
        id=message.id,
        author=message.author,
        reverse_path=message.reverse_path or None,
        subject=message.subject,
        message_id_field=message.header_message_id,
        stream=stream,
        credential_id=message.credential_id,
        protocol=message.protocol,
        size_bytes=message.size_bytes,
        recipient_count=message.recipient_count,
        recipients_by_state={state.value: states.get(state, 0) for state in RecipientState},
        tags=message.tags,
        metadata=message.metadata,
        tls=message.tls or None,
        is_test=message.is_test,
        accepted_at=message.accepted_at,
        expires_at=message.expires_at,
    )


def recipient_shape(row: RecipientRow) -> RecipientShape:
    return RecipientShape(
        id=row.recipient_id,
        message_id=row.message_id,
        recipient=row.recipient,
        domain=row.domain,
        state=row.state,
        state_since=row.state_since,
        reason=row.reason or None,
        attempts=row.attempts,
        next_attempt_at=in_utc(row.next_attempt_at),
        phase=row.phase or None,
        reply_code=row.reply_code,
        reply=row.reply or None,
        reply_class=row.reply_class or None,
        action=row.action or None,
        scope=row.scope or None,
        rule=row.rule or None,
        host=row.host or None,
        is_maybe_duplicate=row.has_ambiguous_attempt,
        returned_at=in_utc(row.returned_at),
        returned_class=row.returned_class or None,
        author=row.author,
        subject=row.subject,
        accepted_at=in_utc(row.accepted_at),
        is_test=row.is_test,
    )


def attempt_shape(attempt: AttemptView) -> AttemptShape:
    return AttemptShape(
        id=attempt.attempt_id,
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        phase=attempt.phase,
        host=attempt.host or None,
        host_address=attempt.host_address,
        port=attempt.port,
        source_address=attempt.source_address,
        reply_code=attempt.reply_code,
        reply=attempt.reply,
        reply_class=attempt.reply_class or None,
        action=attempt.action or None,
        scope=attempt.scope or None,
        rule=attempt.rule or None,
        is_ambiguous=attempt.is_ambiguous,
        tls_version=attempt.tls_version or None,
        tls_cipher=attempt.tls_cipher or None,
        transcript=[
            TranscriptLineShape(after_ms=line.after_ms, direction=line.direction, text=line.text)
            for line in attempt.transcript
        ],
    )


def event_shape(event: EventView, recipient: str) -> EventShape:
    return EventShape(
        id=event.event_id,
        kind=EventKind(event.kind),
        occurred_at=event.occurred_at,
        recipient_id=event.recipient_id,
        recipient=recipient,
        attempt_id=event.attempt_id,
        data=event.data,
    )


def changed_shape(key: UUID, changed: Changed) -> ChangedShape:
    return ChangedShape(id=key, changed=changed.changed, in_hand=changed.in_hand)
