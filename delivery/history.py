"""SHOWN: every read query of the console and the command line, tenant first.

Lists are read in keyset pages over UUIDv7 keys, whose time lets a period become a range of keys, so that partitions
outside it are never touched. Nothing here writes, and nothing holds a snapshot for longer than one page. A query that
the database ends at its statement timeout raises `TookTooLong`; a database out of reach raises Django's own errors.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import psycopg
import zstandard
from django.db import OperationalError, connection
from django.db.models import Case, Count, IntegerField, Min, Q, QuerySet, Value, When

from accounts.identifiers import first_of, time_of
from accounts.models import Credential, Tenant
from delivery.core.states import OPEN, RecipientState
from delivery.log_filters import Condition, LogFilter, condition
from delivery.models import (
    Attempt,
    Content,
    DeliveryEvent,
    Message,
    ProviderGroup,
    QueueEntry,
    Recipient,
    RejectionEntry,
    Stream,
    Worker,
)

# Counting stops here; people then read "10,000 or more".
COUNT_LIMIT = 10_000
COUNT_LIMIT_OF_MESSAGES = 1_000

# The newest parts of a period that are looked through first, where no index gives the order.
PIECES = (timedelta(hours=12), timedelta(days=2))

_FIRST_KEY, _LAST_KEY = UUID(int=0), UUID(int=(1 << 128) - 1)
_FAR = datetime(3000, 1, 1, tzinfo=UTC)

# Content is stored with its size; what claims to grow beyond any message we accept is damaged.
LARGEST_CONTENT_BYTES = 1 << 28


class TookTooLong(Exception):
    """The database gave up at its statement timeout; a narrower period or an exact recipient would have answered."""


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


# ---------------------------------------------------------------- what people read


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


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list, newest first; the keys lead on, and are None where nothing more is."""

    rows: tuple[Row, ...]
    newer: UUID | None = None  # rows before `newer` in the list: ask with after=newer
    older: UUID | None = None  # rows after `older` in the list: ask with before=older


@dataclass(frozen=True, slots=True)
class Tally:
    """How many recipients match, by state; beyond COUNT_LIMIT only that there are at least so many is known."""

    total: int
    is_exact: bool
    by_state: dict[RecipientState, int]
    newer: int = 0


# ---------------------------------------------------------------- lists of recipients


def list_recipients(
    tenant: Tenant,
    *,
    states: Iterable[RecipientState] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    page_size: int = 500,
) -> Iterator[RecipientRow]:
    """A tenant's recipients, newest first, read page by page: no snapshot stays open while the caller works."""
    narrowed = LogFilter(states=frozenset(states), since=since, until=until)

    def pages() -> Iterator[RecipientRow]:
        before: UUID | None = None
        while True:
            page = page_of_recipients(tenant, narrowed, before=before, size=page_size)
            yield from page.rows
            if page.older is None:
                return
            before = page.older

    return islice(pages(), limit)


def page_of_recipients(
    tenant: Tenant,
    narrowed: LogFilter,
    *,
    before: UUID | None = None,
    after: UUID | None = None,
    size: int = 50,
) -> Page[RecipientRow]:
    """A page of the send log, newest first. ``before`` and ``after`` are recipient ids of a page seen earlier."""
    matching = condition(tenant, narrowed)
    with _within_the_time_limit():
        if after is not None:
            found = _rows_by_id(_ids(matching, "AND r.id > %s ORDER BY r.id", [after], size + 1))
            more, found = len(found) > size, found[:size]
            found = sorted(found, key=lambda recipient: recipient.id, reverse=True)
            newer, older = (found[0].id if more else None), (found[-1].id if found else None)
        else:
            found = _rows_by_id(_newest_ids(matching, narrowed, before or _LAST_KEY, size + 1))
            more, found = len(found) > size, found[:size]
            newer = found[0].id if found and before is not None else None
            older = found[-1].id if more else None
        return Page(tuple(_rows(tenant, found)), newer=newer, older=older)


def _newest_ids(matching: Condition, narrowed: LogFilter, before: UUID, limit: int) -> list[UUID]:
    found: list[UUID] = []
    for lower, upper in _pieces(narrowed, before):
        found += _ids(matching, "AND r.id >= %s AND r.id < %s ORDER BY r.id DESC", [lower, upper], limit - len(found))
        if len(found) == limit:
            break
    return found


def _pieces(narrowed: LogFilter, before: UUID) -> Iterator[tuple[UUID, UUID]]:
    """The period as ranges of keys, newest first.

    Where the order comes from no index, everything in a range is found and sorted before its newest rows are known. So the
    first ranges are short: what many rows match is found there, whatever lies behind; what few match is found through its
    own index.
    """
    upper = before
    if narrowed.has_no_order:
        end = min(time_of(before) if before.version == 7 else _FAR, narrowed.until or _FAR, datetime.now(tz=UTC))
        for length in PIECES:
            lower = first_of(end - length)
            if (narrowed.since is None or end - length > narrowed.since) and lower < upper:
                yield lower, upper
                upper = lower
    yield _FIRST_KEY, upper


def _ids(matching: Condition, order: str, keys: list[UUID], limit: int) -> list[UUID]:
    # Keys alone: an index often has all that is asked for.
    sql = f"SELECT r.id FROM delivery_recipient AS r WHERE {matching.sql} {order} LIMIT %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [*matching.values, *keys, limit])
        return [row[0] for row in cursor.fetchall()]


def _rows_by_id(recipient_ids: Sequence[UUID]) -> list[Recipient]:
    """In the order of the keys given."""
    if not recipient_ids:
        return []
    found = {recipient.id: recipient for recipient in Recipient.objects.filter(id__in=recipient_ids)}
    return [found[key] for key in recipient_ids if key in found]


def tally(
    tenant: Tenant, narrowed: LogFilter, *, newer_than: UUID | None = None, whole: Sequence[RecipientRow] | None = None
) -> Tally:
    """What a filter finds, counted in one query; ``newer`` are those above a recipient the reader has already seen.

    ``whole`` are the rows, where a page just read holds all of them: then they are counted as they are.
    """
    # What is asked of messages costs a look at each: there, fewer are counted.
    limit = COUNT_LIMIT_OF_MESSAGES if narrowed.asks_of_the_message else COUNT_LIMIT
    counted: Counter[RecipientState] = Counter()
    newer = 0
    if whole is not None:
        counted.update(row.state for row in whole)
    else:
        matching = condition(tenant, narrowed)
        for lower, upper in _pieces(narrowed, _LAST_KEY):
            for state, number, above in _count(matching, lower, upper, newer_than or _LAST_KEY, limit + 1):
                counted[RecipientState(state)] += number
                newer += above
            if counted.total() > limit:
                break
    total = counted.total()
    return Tally(
        total=min(total, limit),
        is_exact=total <= limit,
        by_state={state: counted[state] for state in STATES_BY_URGENCY if state in counted},
        newer=newer,
    )


def _count(matching: Condition, lower: UUID, upper: UUID, newer_than: UUID, limit: int) -> list[tuple[str, int, int]]:
    with _within_the_time_limit(), connection.cursor() as cursor:
        cursor.execute(
            # The texts in the middle are literals of log_filters, with placeholders.
            f"""SELECT state, count(*), count(*) FILTER (WHERE id > %s) FROM (
                    SELECT r.id, r.state FROM delivery_recipient AS r
                    WHERE {matching.sql} AND r.id >= %s AND r.id < %s ORDER BY r.id DESC LIMIT %s
                ) AS found GROUP BY state""",
            [newer_than, *matching.values, lower, upper, limit],
        )
        return list(cursor.fetchall())


def rows_of(tenant: Tenant, recipient_ids: Sequence[UUID]) -> list[RecipientRow]:
    """The rows of known recipients as they stand now, newest first; ids of other tenants are not found."""
    found = Recipient.objects.of(tenant).filter(id__in=recipient_ids).select_related("message").order_by("-id")
    return [_row(recipient, recipient.message) for recipient in found]


@dataclass(frozen=True, slots=True)
class Choices:
    """What filters can be chosen from: names by key. Revoked credentials too, since their mail is still in the log."""

    providers: dict[str, str]
    credentials: dict[str, str]
    streams: dict[str, str]


_CHOICES = """
SELECT 'provider', key, title FROM delivery_providergroup WHERE kind = 'provider'
UNION ALL SELECT 'credential', id::text, name FROM accounts_credential WHERE tenant_id = %s
UNION ALL SELECT 'stream', id::text, name FROM delivery_stream WHERE tenant_id = %s
ORDER BY 1, 3, 2
"""


def choices_of(tenant: Tenant) -> Choices:
    named: dict[str, dict[str, str]] = {"provider": {}, "credential": {}, "stream": {}}
    with connection.cursor() as cursor:
        cursor.execute(_CHOICES, [tenant.pk, tenant.pk])
        for kind, key, name in cursor.fetchall():
            named[kind][key] = name
    return Choices(providers=named["provider"], credentials=named["credential"], streams=named["stream"])


def has_recipients(tenant: Tenant) -> bool:
    return Recipient.objects.of(tenant).exists()


def _rows(tenant: Tenant, recipients: Sequence[Recipient]) -> Iterator[RecipientRow]:
    messages = (
        {
            message.id: message
            for message in Message.objects.of(tenant)
            .filter(id__in={recipient.message_id for recipient in recipients})
            .only("id", "author", "subject", "accepted_at", "expires_at", "is_test")
        }
        if recipients
        else {}
    )
    for recipient in recipients:
        yield _row(recipient, messages.get(recipient.message_id))


def _row(recipient: Recipient, message: Message | None, *, provider: str = "") -> RecipientRow:
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


# ---------------------------------------------------------------- one message


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
            row=_row(recipient, message, provider=titles.get(recipient.group_id or 0, "")),
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
    """The content as received; None when it is no longer stored (retention, privacy) or cannot be read."""
    stored = (
        Content.objects.filter(message_id=message.id, retention_days=message.retention_days)
        .values_list("compressed", flat=True)
        .first()
    )
    if stored is None:
        return None
    with contextlib.suppress(zstandard.ZstdError):
        compressed = bytes(stored)
        if zstandard.frame_content_size(compressed) <= LARGEST_CONTENT_BYTES:
            return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=LARGEST_CONTENT_BYTES)
    return None


def has_content(message: Message) -> bool:
    return Content.objects.filter(message_id=message.id, retention_days=message.retention_days).exists()


# ---------------------------------------------------------------- refused at the door


def page_of_rejections(
    tenant: Tenant,
    *,
    since: datetime | None = None,
    credential: UUID | None = None,
    reasons: Sequence[str] = (),
    codes: Sequence[int] = (),
    before: UUID | None = None,
    after: UUID | None = None,
    size: int = 50,
) -> Page[RejectionEntry]:
    """The rejection log, newest first; repeats within a minute are one row with a count. Empty criteria narrow nothing."""
    matching = RejectionEntry.objects.of(tenant).select_related("credential")
    if credential is not None:
        matching = matching.filter(credential=credential)
    if reasons:
        matching = matching.filter(reason__in=reasons)
    if codes:
        matching = matching.filter(code__in=codes)
    if since is not None:
        matching = matching.filter(id__gte=first_of(since))
    with _within_the_time_limit():
        if after is not None:
            found = list(matching.filter(id__gt=after).order_by("id")[: size + 1])
            more, found = len(found) > size, found[:size][::-1]
            return Page(tuple(found), found[0].id if more else None, found[-1].id if found else None)
        bounded = matching if before is None else matching.filter(id__lt=before)
        found = list(bounded.order_by("-id")[: size + 1])
        more, found = len(found) > size, found[:size]
        return Page(tuple(found), found[0].id if found and before is not None else None, found[-1].id if more else None)


def reply_codes_of_rejections(tenant: Tenant) -> list[int]:
    """Those that a filter can choose from: what this tenant's clients were told."""
    codes = RejectionEntry.objects.of(tenant).order_by("code").values_list("code", flat=True).distinct()
    return list(codes[:50])


# ---------------------------------------------------------------- figures of the queue


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFigures:
    provider: str
    title: str
    open: int
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    suspended_until: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFigures:
    """A source address towards a provider group. ``pace`` is the share of full speed, ``in_hand`` what is being attempted.

    ``state`` is that of the address; where it is not active, or the path is suspended, nothing begins.
    """

    provider: str
    source: str
    node: str
    state: str
    pace: float
    pace_reason: str
    in_hand: int
    suspended_until: datetime | None
    suspended_reason: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """Every recipient that is not in a final state: open = due + claimed + deferred + held.

    ``paths`` are those that are driven now, slowed or suspended.
    """

    open: int
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    by_provider: tuple[ProviderFigures, ...] = field(default=())
    paths: tuple[PathFigures, ...] = field(default=())


# Counted by lane first: lanes are few, entries may be a million.
_FIGURES_BY_GROUP = """
WITH by_lane AS (
    SELECT lane_id,
           count(*) AS open,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NULL AND next_attempt_at <= now()) AS due,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NOT NULL) AS claimed,
           count(*) FILTER (WHERE held_reason IS NULL AND path_id IS NULL AND next_attempt_at > now()) AS deferred,
           count(*) FILTER (WHERE held_reason IS NOT NULL) AS held,
           min(accepted_at) AS oldest
    FROM delivery_queue_entry GROUP BY lane_id
), by_group AS (
    SELECT l.group_id, sum(b.open) AS open, sum(b.due) AS due, sum(b.claimed) AS claimed, sum(b.deferred) AS deferred,
           sum(b.held) AS held, min(b.oldest) AS oldest
    FROM by_lane b LEFT JOIN delivery_lane l ON l.id = b.lane_id GROUP BY l.group_id
), suspended AS (
    SELECT DISTINCT ON (group_id) group_id, suspended_until, suspended_reason
    FROM (SELECT group_id, suspended_until, suspended_reason FROM delivery_lane WHERE suspended_until > now()
          UNION ALL
          SELECT group_id, suspended_until, suspended_reason FROM delivery_path WHERE suspended_until > now()) s
    ORDER BY group_id, suspended_until DESC
)
SELECT coalesce(g.key, ''), coalesce(g.title, ''), f.open, f.due, f.claimed, f.deferred, f.held,
       extract(epoch FROM now() - f.oldest), s.suspended_until, coalesce(s.suspended_reason, '')
FROM by_group f
LEFT JOIN delivery_providergroup g ON g.id = f.group_id
LEFT JOIN suspended s ON s.group_id = f.group_id
ORDER BY f.open DESC, g.key
"""


_PATHS = """
WITH in_hand AS (
    SELECT path_id, count(*) AS number FROM delivery_queue_entry WHERE path_id IS NOT NULL GROUP BY path_id
)
SELECT grp.key AS provider, coalesce(host(source.address), '') AS source, source.node_id AS node, source.state,
       path.pace_share AS pace, path.pace_reason, coalesce(in_hand.number, 0) AS in_hand,
       CASE WHEN path.suspended_until > now() THEN path.suspended_until END AS suspended_until,
       CASE WHEN path.suspended_until > now() THEN path.suspended_reason ELSE '' END AS suspended_reason,
       CASE WHEN path.leased_until > now() THEN path.owner ELSE '' END AS owner
FROM delivery_path AS path
JOIN delivery_providergroup AS grp ON grp.id = path.group_id
JOIN delivery_sourceaddress AS source ON source.id = path.source_id
LEFT JOIN in_hand ON in_hand.path_id = path.id
WHERE in_hand.number > 0 OR path.pace_share < 1 OR path.suspended_until > now()
   OR (path.owner <> '' AND path.leased_until > now())
ORDER BY coalesce(in_hand.number, 0) DESC, grp.key, source LIMIT %s
"""
# Sites that are one domain each are many: those with most in hand come first.
MOST_PATHS_SHOWN = 500


def _path_figures() -> tuple[PathFigures, ...]:
    with connection.cursor() as cursor:
        cursor.execute(_PATHS, [MOST_PATHS_SHOWN])
        names = [column.name for column in cursor.description]
        return tuple(PathFigures(**dict(zip(names, row, strict=True))) for row in cursor.fetchall())


def queue_stats() -> QueueFigures:
    """What waits, over all tenants: the operator's figures, without a word of any mail."""
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES_BY_GROUP)
        providers = tuple(
            ProviderFigures(
                provider=key,
                title=title,
                open=int(waiting),
                due=int(due),
                claimed=int(claimed),
                deferred=int(deferred),
                held=int(held),
                oldest_age_s=max(0.0, round(float(age), 1)),
                suspended_until=suspended_until,
                reason=reason,
            )
            for key, title, waiting, due, claimed, deferred, held, age, suspended_until, reason in cursor.fetchall()
        )
    return QueueFigures(
        open=sum(row.open for row in providers),
        due=sum(row.due for row in providers),
        claimed=sum(row.claimed for row in providers),
        deferred=sum(row.deferred for row in providers),
        held=sum(row.held for row in providers),
        oldest_age_s=max((row.oldest_age_s for row in providers), default=0.0),
        by_provider=providers,
        paths=_path_figures(),
    )


@dataclass(frozen=True, slots=True)
class TenantFigures:
    tenant: Tenant
    open: int
    oldest_accepted_at: datetime | None


def tenants_with_open_mail() -> list[TenantFigures]:
    """Every tenant with what waits for it: for the operator, numbers only."""
    waiting = {
        row["tenant_id"]: (row["number"], row["oldest"])
        for row in QueueEntry.objects.values("tenant_id").annotate(
            number=Count("recipient_id"), oldest=Min("accepted_at")
        )
    }
    return [
        TenantFigures(tenant, *waiting.get(tenant.pk, (0, None)))
        for tenant in Tenant.objects.order_by("is_system", "slug")
    ]


def workers() -> list[Worker]:
    """The processes that have told the database that they live, by node and slot."""
    return list(Worker.objects.order_by("node_id", "slot"))


@contextlib.contextmanager
def _within_the_time_limit() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise TookTooLong from error
        raise


# Other modules that read lists end in the same way.
within_the_time_limit = _within_the_time_limit
