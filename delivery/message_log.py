"""Messages as programs list them: one row a message, narrowed by what the message itself has.

``delivery.history`` has the log of recipients; here a message counts once, with the number of its recipients by state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.core.states import RecipientState
from delivery.history import EventView
from delivery.models import DeliveryEvent, Message, Recipient
from delivery.time_limit import within_the_time_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Criteria combine with AND; empty means everything."""

    since: datetime | None = None
    until: datetime | None = None
    author: str = ""  # a mailbox, or a domain
    author_within: str = ""  # a domain and what is below it: all that a credential may see
    subject: str = ""  # a part of it
    tag: str = ""
    stream_id: UUID | None = None
    credential_id: UUID | None = None
    header_message_id: str = ""


@dataclass(frozen=True, slots=True)
class ListedMessage:
    message: Message
    states: dict[RecipientState, int]


def page_of_messages(
    tenant: Tenant, narrowed: MessageFilter, *, before: UUID | None = None, size: int = 50
) -> tuple[list[ListedMessage], UUID | None]:
    """A page, newest first, and the key to go on from. Raises delivery.TookTooLong."""
    matching = _matching(tenant, narrowed)
    if before is not None:
        matching = matching.filter(id__lt=before)
    with within_the_time_limit():
        found = list(matching.select_related("stream").order_by("-id")[: size + 1])
        more, found = len(found) > size, found[:size]
        states = states_of(tenant, found)
    return [ListedMessage(message, states[message.id]) for message in found], found[-1].id if more else None


def states_of(tenant: Tenant, messages: Sequence[Message]) -> dict[UUID, dict[RecipientState, int]]:
    """How many recipients of each message are in each state."""
    counted: dict[UUID, dict[RecipientState, int]] = defaultdict(dict)
    if not messages:
        return counted
    keys = [message.id for message in messages]
    # Recipients carry the millisecond of their message: the range leaves few partitions to read.
    first, last = UUID(int=min(keys).int >> 80 << 80), UUID(int=max(keys).int | ((1 << 80) - 1))
    rows = (
        Recipient.objects.of(tenant)
        .filter(message_id__in=keys, id__gte=first, id__lte=last)
        .order_by()
        .values_list("message_id", "state")
        .annotate(number=Count("id"))
    )
    for message_id, state, number in rows:
        counted[message_id][RecipientState(state)] = number
    return counted


def _matching(tenant: Tenant, narrowed: MessageFilter) -> QuerySet[Message]:
    matching: QuerySet[Message] = Message.objects.of(tenant)
    if narrowed.since is not None:
        matching = matching.filter(id__gte=first_of(narrowed.since))
    if narrowed.until is not None:
        matching = matching.filter(id__lt=first_of(narrowed.until))
    if "@" in narrowed.author:
        matching = matching.filter(author__iexact=narrowed.author)
    elif narrowed.author:
        matching = matching.filter(author_domain=narrowed.author.lower())
    if narrowed.author_within:
        matching = written_within(matching, narrowed.author_within)
    if narrowed.subject:
        matching = matching.filter(subject__icontains=narrowed.subject)
    if narrowed.tag:
        matching = matching.filter(tags__contains=[narrowed.tag])
    if narrowed.stream_id is not None:
        matching = matching.filter(stream_id=narrowed.stream_id)
    if narrowed.credential_id is not None:
        matching = matching.filter(credential_id=narrowed.credential_id)
    if narrowed.header_message_id:
        matching = matching.filter(header_message_id=narrowed.header_message_id)
    return matching


def written_within(messages: QuerySet[Message], domain: str) -> QuerySet[Message]:
    """Those whose author is of the domain, or of one below it."""
    return messages.filter(Q(author_domain=domain) | Q(author_domain__endswith=f".{domain}"))


# ---------------------------------------------------------------- events of a message


@dataclass(frozen=True, slots=True)
class ListedEvent:
    event: EventView
    recipient: str


def page_of_events(
    message: Message, *, after: UUID | None = None, size: int = 50
) -> tuple[list[ListedEvent], UUID | None]:
    """What happened to a message's recipients, oldest first, and the key to go on from."""
    matching = DeliveryEvent.objects.of(message.tenant_id).filter(message_id=message.id)
    if after is not None:
        matching = matching.filter(id__gt=after)
    found = list(matching.order_by("id")[: size + 1])
    more, found = len(found) > size, found[:size]
    addresses = dict(
        Recipient.objects.of(message.tenant_id)
        .filter(id__in={event.recipient_id for event in found})
        .values_list("id", "address")
    )
    rows = [
        ListedEvent(
            EventView(event.id, event.recipient_id, event.kind, event.occurred_at, event.attempt_id, event.data),
            addresses.get(event.recipient_id, ""),
        )
        for event in found
    ]
    return rows, found[-1].id if more else None
