"""Lists of any length, for programs: plain tuples, read by keyset in short transactions.

A long snapshot over a busy queue slows every claim down, so none is held while the reader works. Mail that is accepted
while a list is read is not in it; what is read is as it stood when its page was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import zstandard
from django.db import connection

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.core.states import RecipientState
from delivery.log_filters import LogFilter, condition

_PAGE = 5000
_LAST_KEY = UUID(int=(1 << 128) - 1)


class RecipientLine(NamedTuple):
    message_id: UUID
    recipient_id: UUID
    recipient: str
    state: str
    reply_class: str
    reply: str
    attempts: int
    next_attempt_at: datetime | None
    returned_class: str


def recipient_lines(
    tenant: Tenant,
    *,
    states: Sequence[RecipientState] = (),
    since: datetime | None = None,
    limit: int | None = None,
) -> Iterator[RecipientLine]:
    """A tenant's recipients, newest first, of messages accepted at or after ``since``."""
    before: UUID | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = _page(tenant, states, since, before, size)
        yield from page
        if len(page) < size:
            return
        before = page[-1].recipient_id
        left = None if left is None else left - len(page)


def _page(
    tenant: Tenant, states: Sequence[RecipientState], since: datetime | None, before: UUID | None, size: int
) -> list[RecipientLine]:
    conditions, parameters = ["tenant_id = %s"], [tenant.pk]
    extra: tuple[tuple[bool, str, Any], ...] = (
        (bool(states), "state = ANY(%s)", [state.value for state in states]),
        (since is not None, "id >= %s", since and first_of(since)),
        (before is not None, "id < %s", before),
    )
    for is_wanted, wanted, value in extra:
        if is_wanted:
            conditions.append(wanted)
            parameters.append(value)
    with connection.cursor() as cursor:
        # The conditions are the literals above; values are bound.
        cursor.execute(
            f"""SELECT message_id, id, address, state, reply_class, reply, attempts, next_attempt_at, returned_class
                FROM delivery_recipient WHERE {" AND ".join(conditions)} ORDER BY id DESC LIMIT %s""",
            [*parameters, size],
        )
        return [RecipientLine(*row) for row in cursor.fetchall()]


# ---------------------------------------------------------------- the send log as a file


class LogLine(NamedTuple):
    """Machine words throughout: they do not change with the reader's language. Times are UTC."""

    accepted_at: datetime
    message_id: UUID
    recipient_id: UUID
    recipient: str
    state: str
    state_since: datetime
    reply_class: str
    reply: str
    attempts: int
    next_attempt_at: datetime | None
    returned_at: datetime | None
    returned_class: str
    provider: str
    host: str
    author: str
    subject: str
    header_message_id: str
    tags: list[str]
    credential_id: UUID | None
    stream: str


# As they stand in the API, too.
HEADINGS = tuple({"reply_class": "class"}.get(name, name) for name in LogLine._fields)


def log_lines(tenant: Tenant, narrowed: LogFilter, *, before: UUID | None, size: int) -> list[LogLine]:
    """The next lines, newest first, below the recipient ``before``."""
    matching = condition(tenant, narrowed)
    with connection.cursor() as cursor:
        cursor.execute(
            # Literals of log_filters; values are bound. The page first: the rest is looked up for its rows alone.
            f"""WITH page AS MATERIALIZED (
                    SELECT r.* FROM delivery_recipient AS r WHERE {matching.sql} AND r.id < %s ORDER BY r.id DESC LIMIT %s
                )
                SELECT m.accepted_at, page.message_id, page.id, page.address, page.state, page.state_since, page.reply_class,
                       page.reply, page.attempts, page.next_attempt_at, page.returned_at, page.returned_class,
                       coalesce(g.key, ''), page.host, m.author, m.subject, m.header_message_id, m.tags, m.credential_id,
                       coalesce(s.name, '')
                FROM page
                JOIN delivery_message AS m ON m.id = page.message_id
                LEFT JOIN delivery_providergroup AS g ON g.id = page.group_id AND g.kind = 'provider'
                LEFT JOIN delivery_stream AS s ON s.id = m.stream_id
                ORDER BY page.id DESC""",
            [*matching.values, before or _LAST_KEY, size],
        )
        return [LogLine(*row) for row in cursor.fetchall()]


def matching_ids(tenant: Tenant, narrowed: LogFilter, *, before: UUID | None, size: int) -> list[UUID]:
    matching = condition(tenant, narrowed)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT r.id FROM delivery_recipient AS r WHERE {matching.sql} AND r.id < %s ORDER BY r.id DESC LIMIT %s",
            [*matching.values, before or _LAST_KEY, size],
        )
        return [row[0] for row in cursor.fetchall()]


def write_part(lines: Sequence[LogLine], *, file_format: str, is_first: bool, is_last: bool) -> bytes:
    """A part of the file: put one behind the other, parts are a whole CSV or JSON document in UTF-8."""
    if file_format == "csv":
        rows = [",".join(cell(value) for value in line) for line in lines]
        # Excel reads UTF-8 only with the mark in front.
        head = "\ufeff" + ",".join(HEADINGS) + "\r\n" if is_first else ""
        return (head + "".join(f"{row}\r\n" for row in rows)).encode()
    documents = ",\n".join(
        json.dumps(dict(zip(HEADINGS, line, strict=True)), ensure_ascii=False, default=_as_text) for line in lines
    )
    before = "[\n" if is_first else ",\n" if documents else ""
    return (before + documents + ("\n]\n" if is_last else "")).encode()


def cell(value: Any) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    text = " ".join(value) if isinstance(value, list) else _as_text(value)
    if text.startswith(("=", "+", "-", "@", "\t", "\r")):
        text = f"'{text}"
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def compress(part: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(part)


def decompress(compressed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(compressed)
