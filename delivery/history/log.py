"""The send log: one row a recipient, in keyset pages over UUIDv7 keys, and how many match.

The time in a key lets a period become a range of keys, so that partitions outside it are never touched. Nothing here holds a
snapshot for longer than one page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection

from accounts.identifiers import first_of, time_of
from accounts.models import Tenant
from delivery.core.states import RecipientState
from delivery.history.rows import STATES_BY_URGENCY, Page, RecipientRow, row_of
from delivery.log_filters import Condition, LogFilter, condition
from delivery.models import Message, Recipient
from delivery.time_limit import within_the_time_limit

# Counting stops here; people then read "10,000 or more".
COUNT_LIMIT = 10_000
COUNT_LIMIT_OF_MESSAGES = 1_000

# The newest parts of a period that are looked through first, where no index gives the order.
PIECES = (timedelta(hours=12), timedelta(days=2))

_FIRST_KEY, _LAST_KEY = UUID(int=0), UUID(int=(1 << 128) - 1)
_FAR = datetime(3000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many recipients match, by state; beyond COUNT_LIMIT only that there are at least so many is known."""

    total: int
    is_exact: bool
    by_state: dict[RecipientState, int]
    newer: int = 0


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
    with within_the_time_limit():
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
    with within_the_time_limit(), connection.cursor() as cursor:
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
    return [row_of(recipient, recipient.message) for recipient in found]


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
        yield row_of(recipient, messages.get(recipient.message_id))
