"""Lists of any length, for programs: plain tuples, read by keyset in short transactions.

A long snapshot over a busy queue slows every claim down, so none is held while the reader works. Mail that is accepted
while a list is read is not in it; what is read is as it stood when its page was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.core.states import RecipientState

_PAGE = 5000


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
    for is_wanted, condition, value in extra:
        if is_wanted:
            conditions.append(condition)
            parameters.append(value)
    with connection.cursor() as cursor:
        # The conditions are the literals above; values are bound.
        cursor.execute(
            f"""SELECT message_id, id, address, state, reply_class, reply, attempts, next_attempt_at, returned_class
                FROM delivery_recipient WHERE {" AND ".join(conditions)} ORDER BY id DESC LIMIT %s""",
            [*parameters, size],
        )
        return [RecipientLine(*row) for row in cursor.fetchall()]
