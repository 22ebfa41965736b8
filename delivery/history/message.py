"""One message: its recipients with every attempt and event, and its content as received."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import zstandard
from django.db import connection
from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When

from accounts.models import Credential, Tenant
from delivery import content_reading
from delivery.content_store import ContentUnreadable, Place
from delivery.core.states import OPEN, RecipientState
from delivery.history.rows import STATES_BY_URGENCY, RecipientRow, row_of
from delivery.models import Attempt, Content, DeliveryEvent, Message, OwedDsn, ProviderGroup, Recipient, Stream

# Content is stored with its size; what claims to grow beyond any message we accept is damaged.
LARGEST_CONTENT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """`direction` is `>` for what we sent, `<` for what came back, `*` for what happened beside the conversation."""

    after_ms: int
    direction: str
    text: str


@dataclass(frozen=True, slots=True)
class AttemptView:
    attempt_id: UUID
    recipient_id: UUID
    number: int
    started_at: datetime
    ended_at: datetime
    source_address: str | None
    worker: str
    fence: int
    host: str
    host_address: str | None
    port: int | None
    phase: str
    origin: str
    reply_code: int
    reply_enhanced: str
    reply_text: str
    reply_class: str
    action: str
    scope: str
    rule: str
    is_ambiguous: bool
    tls_version: str
    tls_cipher: str
    transcript: tuple[TranscriptLine, ...]

    @property
    def reply(self) -> str:
        """The whole reply on one line."""
        parts = [str(self.reply_code), self.reply_enhanced, " ".join(self.reply_text.split())]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class EventView:
    event_id: UUID
    recipient_id: UUID
    kind: str
    occurred_at: datetime
    attempt_id: UUID | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecipientView:
    """A recipient with its whole history, oldest first.

    ``rests_until``: no attempt is begun before, whatever the retry schedule says; ``rest_reason`` is why, a machine word.
    """

    row: RecipientRow
    attempts: tuple[AttemptView, ...]
    events: tuple[EventView, ...]
    is_claimed: bool
    rests_until: datetime | None = None
    rest_reason: str = ""


@dataclass(frozen=True, slots=True)
class MessageView:
    message: Message
    credential_name: str
    stream_name: str
    stream_kind: str
    states: dict[RecipientState, int]
    returned: int = 0
    recipients: tuple[RecipientView, ...] = ()

    @property
    def is_open(self) -> bool:
        return any(state in OPEN and number for state, number in self.states.items())

    @property
    def is_settled(self) -> bool:
        """In part at least."""
        return any(state not in OPEN and number for state, number in self.states.items())


def find_message(tenant: Tenant, message_id: UUID) -> MessageView | None:
    """The message without its recipients; None for an unknown id and for another tenant's."""
    message = Message.objects.of(tenant).filter(id=message_id).first()
    return None if message is None else _about(message)


def show_message(tenant: Tenant | None, message_id: UUID) -> MessageView | None:
    """The message with all recipients and their attempts; without a tenant for the operator's command line only."""
    messages = Message.objects.all() if tenant is None else Message.objects.of(tenant)
    message = messages.filter(id=message_id).first()
    if message is None:
        return None
    about = _about(message)
    recipients = list(_recipients_of(message).order_by("id"))
    views: list[RecipientView] = []
    for start in range(0, len(recipients), 200):
        views += _views(message, recipients[start : start + 200])
    return MessageView(
        message=about.message,
        credential_name=about.credential_name,
        stream_name=about.stream_name,
        stream_kind=about.stream_kind,
        states=about.states,
        returned=about.returned,
        recipients=tuple(views),
    )


@dataclass(frozen=True, slots=True)
class RecipientsPage:
    """Recipients of one message, problems first; `next_key` is None on the last page."""

    views: tuple[RecipientView, ...]
    next_key: tuple[int, UUID] | None


def recipients_of(
    message: Message,
    *,
    states: Iterable[RecipientState] = (),
    after: tuple[int, UUID] | None = None,
    size: int = 20,
) -> RecipientsPage:
    """A keyset page of a message's recipients with their history; ``after`` is the key a page before gave."""
    urgency = Case(
        *(When(state=state, then=Value(rank)) for rank, state in enumerate(STATES_BY_URGENCY)),
        output_field=IntegerField(),
    )
    found = _recipients_of(message).annotate(urgency=urgency).order_by("urgency", "id")
    if chosen := sorted(states):
        found = found.filter(state__in=chosen)
    if after is not None:
        found = found.filter(Q(urgency__gt=after[0]) | Q(urgency=after[0], id__gt=after[1]))
    recipients = list(found[: size + 1])
    more, recipients = len(recipients) > size, recipients[:size]
    next_key = (STATES_BY_URGENCY.index(RecipientState(recipients[-1].state)), recipients[-1].id) if more else None
    return RecipientsPage(tuple(_views(message, recipients)), next_key)


# What a page shows of a message's recipients, in a few octets: changes whenever the page would.
_FINGERPRINT = """
SELECT md5(string_agg(concat_ws(' ', r.id, r.state, r.state_since, r.attempts, r.next_attempt_at, r.returned_at,
                                q.path_id IS NOT NULL), ',' ORDER BY r.id))
FROM delivery_recipient r
LEFT JOIN delivery_queue_entry q ON q.recipient_id = r.id
WHERE r.tenant_id = %s AND r.message_id = %s AND r.id BETWEEN %s AND %s
"""


def fingerprint_of(tenant: Tenant, message_id: UUID) -> str | None:
    """Equal as long as nothing changed for any recipient of the message; None for an unknown or foreign message."""
    with connection.cursor() as cursor:
        cursor.execute(_FINGERPRINT, [tenant.pk, message_id, *_millisecond_of(message_id)])
        found = cursor.fetchone()
    return None if found is None else found[0]


def recipients_by_id(message: Message, recipient_ids: Sequence[UUID]) -> tuple[RecipientView, ...]:
    """Known recipients of a message as they stand now, in the order asked for."""
    found = {recipient.id: recipient for recipient in _recipients_of(message).filter(id__in=recipient_ids)}
    return tuple(_views(message, [found[key] for key in recipient_ids if key in found]))


def reports_of(message: Message, recipient_ids: Sequence[UUID]) -> dict[UUID, list[OwedDsn]]:
    """What the original reverse-path was, or is to be, told about recipients of the message, oldest first."""
    reports: dict[UUID, list[OwedDsn]] = defaultdict(list)
    found = OwedDsn.objects.filter(tenant_id=message.tenant_id, recipient_id__in=recipient_ids)
    for report in found.order_by("happened_at", "id"):
        reports[report.recipient_id].append(report)
    return reports


def _recipients_of(message: Message) -> QuerySet[Recipient]:
    # Recipients carry the millisecond of their message: a range of one millisecond leaves one partition to read.
    first, last = _millisecond_of(message.id)
    return Recipient.objects.of(message.tenant_id).filter(message_id=message.id, id__gte=first, id__lte=last)


def _millisecond_of(key: UUID) -> tuple[UUID, UUID]:
    lower = key.int >> 80 << 80
    return UUID(int=lower), UUID(int=lower | ((1 << 80) - 1))


def _about(message: Message) -> MessageView:
    counted = (
        _recipients_of(message).order_by().values("state").annotate(number=Count("id"), returned=Count("returned_at"))
    )
    states, returned = {}, 0
    for row in counted:
        states[RecipientState(row["state"])] = row["number"]
        returned += row["returned"]
    credential = None
    if message.credential_id is not None:
        named = Credential.objects.of(message.tenant_id).filter(id=message.credential_id)
        credential = named.values_list("name", flat=True).first()
    stream = Stream.objects.of(message.tenant_id).filter(id=message.stream_id).values_list("name", "kind").first()
    return MessageView(
        message=message,
        credential_name=credential or "",
        stream_name=stream[0] if stream else "",
        stream_kind=stream[1] if stream else "",
        states={state: states[state] for state in STATES_BY_URGENCY if state in states},
        returned=returned,
    )


def _views(message: Message, recipients: Sequence[Recipient]) -> list[RecipientView]:
    if not recipients:
        return []
    keys = [recipient.id for recipient in recipients]
    tenant = message.tenant_id
    attempts: dict[UUID, list[AttemptView]] = defaultdict(list)
    for attempt in (
        Attempt.objects.of(tenant).filter(message_id=message.id, recipient_id__in=keys).order_by("started_at")
    ):
        attempts[attempt.recipient_id].append(_attempt(attempt))
    events: dict[UUID, list[EventView]] = defaultdict(list)
    for event in (
        DeliveryEvent.objects.of(tenant)
        .filter(message_id=message.id, recipient_id__in=keys)
        .order_by("occurred_at", "id")
    ):
        events[event.recipient_id].append(
            EventView(event.id, event.recipient_id, event.kind, event.occurred_at, event.attempt_id, event.data)
        )
    waiting: dict[UUID, _Waiting] = {}
    if any(recipient.state in OPEN for recipient in recipients):
        waiting = _waiting(message, keys)
    groups = {recipient.group_id for recipient in recipients if recipient.group_id is not None}
    titles = dict(
        ProviderGroup.objects.filter(id__in=groups, kind="provider").values_list("id", "title") if groups else ()
    )
    return [
        RecipientView(
            row=row_of(recipient, message, provider=titles.get(recipient.group_id or 0, "")),
            attempts=tuple(attempts[recipient.id]),
            events=tuple(events[recipient.id]),
            **waiting.get(recipient.id, _Waiting())._asdict(),
        )
        for recipient in recipients
    ]


class _Waiting(NamedTuple):
    is_claimed: bool = False
    rests_until: datetime | None = None
    rest_reason: str = ""


# A lane rests for its tenant's sake; a provider rests when every address that could be used is suspended there.
_WAITING = """
SELECT entry.recipient_id, entry.path_id IS NOT NULL,
       CASE WHEN lane.suspended_until > now() THEN lane.suspended_until
            WHEN provider.suspended = provider.usable THEN provider.until END,
       CASE WHEN lane.suspended_until > now() THEN lane.suspended_reason
            WHEN provider.suspended = provider.usable THEN provider.reason ELSE '' END
FROM delivery_queue_entry AS entry
JOIN delivery_lane AS lane ON lane.id = entry.lane_id
CROSS JOIN LATERAL (
    SELECT count(*) AS usable, count(path.id) AS suspended, min(path.suspended_until) AS until,
           coalesce(min(path.suspended_reason), '') AS reason
    FROM delivery_sourceaddress AS source
    LEFT JOIN delivery_path AS path
           ON path.source_id = source.id AND path.group_id = lane.group_id AND path.suspended_until > now()
    WHERE source.pool_id = lane.pool_id AND source.state = 'active'
) AS provider
WHERE entry.message_id = %s AND entry.recipient_id = ANY(%s)
"""


def _waiting(message: Message, recipient_ids: Sequence[UUID]) -> dict[UUID, _Waiting]:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [message.id, list(recipient_ids)])
        return {recipient_id: _Waiting(*rest) for recipient_id, *rest in cursor.fetchall()}


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        attempt_id=attempt.id,
        recipient_id=attempt.recipient_id,
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        source_address=attempt.source_address,
        worker=attempt.worker,
        fence=attempt.fence,
        host=attempt.host,
        host_address=attempt.host_address,
        port=attempt.port,
        phase=attempt.phase,
        origin=attempt.origin,
        reply_code=attempt.reply_code,
        reply_enhanced=attempt.reply_enhanced,
        reply_text=attempt.reply_text,
        reply_class=attempt.reply_class,
        action=attempt.action,
        scope=attempt.scope,
        rule=attempt.rule,
        is_ambiguous=attempt.is_ambiguous,
        tls_version=attempt.tls_version,
        tls_cipher=attempt.tls_cipher,
        transcript=read_transcript(bytes(attempt.transcript)),
    )


def read_transcript(stored: bytes) -> tuple[TranscriptLine, ...]:
    """The entries of `delivery.transport.transcript`, as stored with an attempt; what cannot be read gives no line."""
    lines = []
    with contextlib.suppress(ValueError, TypeError):
        for after_ms, direction, text in json.loads(stored or b"[]"):
            lines.append(TranscriptLine(int(after_ms), str(direction), str(text)))
    return tuple(lines)


def content_of(message: Message) -> bytes | None:
    """The content as received; None when it is no longer stored (retention, privacy) or cannot be read.

    Raises StoreTrouble where it stands in an object store that cannot be reached now.
    """
    stored = (
        Content.objects.filter(message_id=message.id, retention_days=message.retention_days)
        .values_list("compressed", flat=True)
        .first()
    )
    if stored is None:
        return None
    with contextlib.suppress(zstandard.ZstdError, ContentUnreadable):
        compressed = content_reading.frame_of(Place(message.id, message.retention_days), bytes(stored))
        if zstandard.frame_content_size(compressed) <= LARGEST_CONTENT_BYTES:
            return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=LARGEST_CONTENT_BYTES)
    return None


def has_content(message: Message) -> bool:
    return Content.objects.filter(message_id=message.id, retention_days=message.retention_days).exists()
