"""Events become counters, each exactly once.

A trigger writes every event down beside itself, in the same transaction. `count_waiting` deletes such notes and adds what
they say to the counters in one transaction: a kill before its commit leaves both as they were, and there is no cursor that a
transaction committed late could slip past. What happens to an old message is counted when it happens.

One process counts at a time; others find the lock taken and leave.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from delivery.core.histogram import slot_of
from delivery.core.states import EventKind
from delivery.models import Statistic, StatisticClass, StatisticTag, StatisticTime

WIDTH = timedelta(minutes=15)
# Quarters serve short periods, and zones whose days begin between our hours; hours make long periods cheap.
WIDTHS = (15, 60)
# By how many names a tenant's mail is told apart; what is beyond is counted together, under OTHER.
MOST_TAGS = 200
OTHER = ""

ALL, PROVIDER, DOMAIN, STREAM, CREDENTIAL, TAG = "all", "provider", "domain", "stream", "credential", "tag"
DIMENSIONS = (PROVIDER, DOMAIN, STREAM, CREDENTIAL, TAG)

# Totals are small and asked for by month; what they consist of is looked at while it is fresh.
KEEP_TOTALS = timedelta(days=400)
KEEP_DIMENSIONS = timedelta(days=100)
KEEP_QUARTERS = timedelta(days=40)

_AT_ONCE = 5000
_ADVISORY_LOCK = 0x72656C61_79737461
_FORGET_AT_ONCE = 20_000

_COLUMNS = (
    "accepted",
    "delivered",
    "deferred",
    "bounced",
    "expired",
    "suppressed",
    "cancelled",
    "returned",
    "complained",
    "unsubscribed",
)
_WITH_REASON = {EventKind.BOUNCED: "bounced", EventKind.EXPIRED: "bounced", EventKind.RETURNED: "returned"}


class Key(NamedTuple):
    tenant_id: UUID
    dimension: str
    minutes: int
    value: str
    starts_at: datetime


class _Event(NamedTuple):
    tenant_id: UUID
    kind: str
    occurred_at: datetime
    reply_class: str | None
    attempt: int | None
    provider: str | None
    accepted_at: datetime | None
    domain: str | None
    stream_id: UUID | None
    credential_id: UUID | None
    tags: list[str] | None


@dataclass(slots=True)
class _Sums:
    counts: dict[Key, Counter[str]]
    classes: dict[tuple[Key, str], Counter[str]]
    times: Counter[tuple[Key, int]]


def count_waiting(*, most_seconds: float = 30.0) -> int:
    """Count what waits, in transactions of at most 5,000 events; returns how many. Stops after about ``most_seconds``."""
    counted, began = 0, time.monotonic()
    while time.monotonic() - began < most_seconds:
        taken = _count_some()
        counted += taken
        if taken < _AT_ONCE:
            break
    return counted


def _count_some() -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_TAKE, [_AT_ONCE])
        events = [_Event(*row) for row in cursor.fetchall()]
        if events:
            sums = _sum_up(events, named_tags=_name_tags(events))
            _add(
                Statistic, _COLUMNS, [(*key, *(found[name] for name in _COLUMNS)) for key, found in sums.counts.items()]
            )
            _add(
                StatisticClass,
                ("bounced", "returned"),
                [(*key, name, found["bounced"], found["returned"]) for (key, name), found in sums.classes.items()],
            )
            _add(StatisticTime, ("recipients",), [(*key, slot, number) for (key, slot), number in sums.times.items()])
        return len(events)


_TAKE = """
WITH taken AS MATERIALIZED (
    DELETE FROM delivery_event_to_count
    WHERE id = ANY(ARRAY(SELECT id FROM delivery_event_to_count ORDER BY id LIMIT %s))
    RETURNING *
)
SELECT taken.tenant_id, taken.kind, taken.occurred_at, taken.reply_class, taken.attempt,
       CASE WHEN provider.kind = 'provider' THEN provider.key END, message.accepted_at, message.author_domain,
       message.stream_id, message.credential_id, message.tags
FROM taken
LEFT JOIN delivery_message AS message ON message.id = taken.message_id
LEFT JOIN delivery_recipient AS recipient ON recipient.id = taken.recipient_id
LEFT JOIN delivery_providergroup AS provider ON provider.id = recipient.group_id
"""


def _sum_up(events: Sequence[_Event], *, named_tags: dict[UUID, set[str]]) -> _Sums:
    counts: dict[Key, Counter[str]] = defaultdict(Counter)
    classes: dict[tuple[Key, str], Counter[str]] = defaultdict(Counter)
    times: Counter[tuple[Key, int]] = Counter()
    for event in events:
        # A recipient that is put off again is no further recipient that was put off.
        is_counted = event.kind in _COLUMNS and (event.kind != EventKind.DEFERRED or event.attempt == 1)
        if not is_counted:
            continue
        slot = None
        if event.kind == EventKind.DELIVERED and event.accepted_at is not None:
            slot = slot_of(event.occurred_at - event.accepted_at)
        for key in _keys(event, named_tags.get(event.tenant_id, set())):
            counts[key][event.kind] += 1
            if event.kind in _WITH_REASON:
                classes[key, event.reply_class or "unclassified"][_WITH_REASON[EventKind(event.kind)]] += 1
            if slot is not None:
                times[key, slot] += 1
    return _Sums(counts, classes, times)


def _keys(event: _Event, named_tags: set[str]) -> Iterator[Key]:
    values: list[tuple[str, str]] = [(ALL, "")]
    # Where a mail goes is not yet known when it is accepted: that part of it would be a guess.
    if event.kind != EventKind.ACCEPTED:
        values.append((PROVIDER, event.provider or OTHER))
    values.append((DOMAIN, event.domain or OTHER))
    values.append((STREAM, str(event.stream_id or OTHER)))
    values.append((CREDENTIAL, str(event.credential_id or OTHER)))
    values += [(TAG, tag) for tag in {tag if tag in named_tags else OTHER for tag in event.tags or ()}]
    moment = event.occurred_at
    if event.kind == EventKind.DEFERRED and event.accepted_at is not None:
        # The log remembers that a recipient was put off, not when: counted with its acceptance, the rows add up.
        moment = event.accepted_at
    for minutes in WIDTHS:
        starts_at = start_of(moment, minutes=minutes)
        for dimension, value in values:
            yield Key(event.tenant_id, dimension, minutes, value, starts_at)


def start_of(moment: datetime, *, minutes: int = 15) -> datetime:
    """The quarter of an hour, or the hour; every time zone's hours and days begin with a quarter."""
    return moment.replace(minute=moment.minute // minutes * minutes, second=0, microsecond=0)


def _name_tags(events: Sequence[_Event]) -> dict[UUID, set[str]]:
    """Which of these tags are counted by name; a tenant's first 200 of the last 100 days are."""
    used: dict[UUID, set[str]] = defaultdict(set)
    for event in events:
        if event.tags:
            used[event.tenant_id].update(event.tags)
    named: dict[UUID, set[str]] = {}
    now = timezone.now()
    for tenant_id, tags in used.items():
        known = set(StatisticTag.objects.filter(tenant_id=tenant_id).values_list("tag", flat=True))
        new = sorted(tags - known)[: max(0, MOST_TAGS - len(known))]
        named[tenant_id] = (tags & known) | set(new)
        StatisticTag.objects.bulk_create([StatisticTag(tenant_id=tenant_id, tag=tag, last_used_at=now) for tag in new])
        stale = now - timedelta(days=1)
        StatisticTag.objects.filter(tenant_id=tenant_id, tag__in=tags & known, last_used_at__lt=stale).update(
            last_used_at=now
        )
    return named


def _add(model: Any, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    """Add to the counters, which begin at nothing."""
    if not rows:
        return
    table, keys = model._meta.db_table, model._meta.pk.field_names
    names = ", ".join((*(model._meta.get_field(name).column for name in keys), *columns))
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in columns)
    types = ", ".join(
        f"%s::{model._meta.get_field(name).db_type(connection).partition('(')[0].replace('varchar', 'text')}[]"
        for name in (*keys, *columns)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT * FROM unnest({types}) "
            f"ON CONFLICT ({', '.join(model._meta.get_field(name).column for name in keys)}) DO UPDATE SET {sums}",
            [list(column) for column in zip(*rows, strict=True)],
        )


def forget_old(*, now: datetime | None = None) -> int:
    """Counters past their time; returns how many rows went. In small steps: each is a transaction of its own."""
    now = now or timezone.now()
    gone = 0
    for table in (Statistic, StatisticClass, StatisticTime):
        for condition, before in (
            ("minutes = 15", now - KEEP_QUARTERS),
            ("dimension <> 'all'", now - KEEP_DIMENSIONS),
            ("true", now - KEEP_TOTALS),
        ):
            gone += _forget(table._meta.db_table, condition, before)
    StatisticTag.objects.filter(last_used_at__lt=now - KEEP_DIMENSIONS).delete()
    return gone


def _forget(table: str, condition: str, before: datetime) -> int:
    gone = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""DELETE FROM {table} WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM {table} WHERE starts_at < %s AND {condition} LIMIT %s))""",
                [before, _FORGET_AT_ONCE],
            )
            gone += cursor.rowcount
            if cursor.rowcount < _FORGET_AT_ONCE:
                return gone
