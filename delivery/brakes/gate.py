"""The gate between the claim and the first word to a peer: mail of a braked owner is held, that of a credential that nobody
knows yet waits while too many of its recipients have no judged result.

It is asked after each claim. A credential that is established is known for some seconds and costs nothing; of one that is
watched, a row is locked, so that all engines together never have more of its recipients in flight than its level allows,
nor more of all watched credentials of its tenant: whoever steals a session can make credentials, one after the other.
Nothing is attempted before it was noted here: an engine that dies in between has attempted nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings

from accounts.identifiers import uuid7
from delivery.brakes import levels
from delivery.brakes.levels import Level
from delivery.core.states import EventKind, RecipientState
from delivery.queue import claim
from delivery.queue.claim import ClaimedEntry

Connection = psycopg.AsyncConnection[Any]

# Machine words of why entries are kept back.
BRAKE, FIRST_RESULTS = "brake", "first_results"
_KNOWN_FOR_S = 5.0
_MOST_KNOWN = 100_000
# Of one credential at one look: the rest of its mail leaves the way of others, some at a time.
_SET_ASIDE_AT_ONCE = 2000

_Owner = tuple[UUID, UUID | None]  # tenant, credential


class Gate:
    """``has_taken`` is set when recipients of watched credentials went out: somebody must judge what becomes of them."""

    def __init__(self) -> None:
        self.has_taken = asyncio.Event()
        self._free_until: dict[_Owner, float] = {}

    def forget(self) -> None:
        """A brake was pulled or let go somewhere."""
        self._free_until.clear()

    async def admit(
        self, connection: Connection, claimed: Mapping[int, list[ClaimedEntry]]
    ) -> dict[int, list[ClaimedEntry]]:
        """What may go out of what was just claimed, by path; the rest is put back where it waits, or is held."""
        by_owner: dict[_Owner, list[ClaimedEntry]] = defaultdict(list)
        now = time.monotonic()
        for entries in claimed.values():
            for entry in entries:
                owner = (entry.tenant_id, entry.credential_id)
                if self._free_until.get(owner, 0.0) < now:
                    by_owner[owner].append(entry)
        if not by_owner:
            return dict(claimed)
        kept_back = await self._look(connection, by_owner, now)
        if not kept_back:
            return dict(claimed)
        return {
            path: [one for one in entries if one.recipient_id not in kept_back] for path, entries in claimed.items()
        }

    async def _look(
        self, connection: Connection, by_owner: Mapping[_Owner, list[ClaimedEntry]], now: float
    ) -> set[UUID]:
        if len(self._free_until) > _MOST_KNOWN:
            self._free_until.clear()
        kept_back: set[UUID] = set()
        # One order for all engines, as rows of several owners are locked in one transaction.
        async with connection.transaction():
            standings = await _standings(connection, sorted(by_owner, key=str))
            watched = {owner[0] for owner, is_held, is_free, _ in standings if not is_held and not is_free}
            if watched:
                await connection.execute(_ONE_AT_A_TIME, [sorted(watched)])
            for owner, is_held, is_free, level in standings:
                entries = by_owner[owner]
                if is_held:
                    await _hold(connection, entries)
                    kept_back |= {entry.recipient_id for entry in entries}
                elif is_free:
                    self._free_until[owner] = now + _KNOWN_FOR_S
                else:
                    kept_back |= await self._take(connection, owner, entries, level)
        return kept_back

    async def _take(
        self, connection: Connection, owner: _Owner, entries: Sequence[ClaimedEntry], level: Level
    ) -> set[UUID]:
        """Note those there is room for as in flight, put the others aside; returns the others."""
        tenant_id, credential_id = owner
        assert credential_id is not None
        parameters = {"tenant": tenant_id, "credential": credential_id, "quiet": levels.quiet_after()}
        row = await (await connection.execute(_WATCH, parameters)).fetchone()
        if row is None:
            return set()  # established a moment ago
        sql = "SELECT recipient_id FROM delivery_unjudged WHERE credential_id = %s"
        known = {one for (one,) in await (await connection.execute(sql, [credential_id])).fetchall()}
        others = await (await connection.execute(IN_FLIGHT_OF_OTHERS, parameters)).fetchone()
        # Who is tried again before anybody looked takes no more room.
        room = levels.room(level, own=len(known), others=others[0] if others else 0)
        again = [entry for entry in entries if entry.recipient_id in known]
        new = [entry for entry in entries if entry.recipient_id not in known]
        taken, late = again + new[:room], new[room:]
        if taken:
            await connection.execute(
                _NOTE, [[one.recipient_id for one in taken], [one.attempts for one in taken], credential_id, tenant_id]
            )
        # Also when there was no room at all: what is in flight may have been judged by nobody.
        self.has_taken.set()
        if late:
            await _set_aside(connection, credential_id, late)
        return {entry.recipient_id for entry in late}


_STANDINGS = f"""
SELECT wanted.tenant_id, wanted.credential_id,
    EXISTS (SELECT 1 FROM delivery_brake AS brake
            WHERE brake.tenant_id = wanted.tenant_id AND brake.ended_at IS NULL AND brake.step = '{levels.Step.HOLD}'
              AND (brake.credential_id IS NULL OR brake.credential_id = wanted.credential_id)) AS is_held,
    wanted.credential_id IS NULL OR tenant.is_system OR coalesce(nullif(tenant.brake_level, ''), %(default)s) = 'none'
        OR (standing.established_at IS NOT NULL AND standing.last_seen_at > now() - %(quiet)s) AS is_free,
    coalesce(nullif(tenant.brake_level, ''), %(default)s) AS level,
    standing.last_seen_at < now() - interval '1 h' AS was_seen_long_ago
FROM unnest(%(tenants)s::uuid[], %(credentials)s::uuid[]) AS wanted (tenant_id, credential_id)
JOIN accounts_tenant AS tenant ON tenant.id = wanted.tenant_id
LEFT JOIN delivery_credential_standing AS standing ON standing.credential_id = wanted.credential_id
ORDER BY wanted.credential_id
"""


async def _standings(connection: Connection, owners: Sequence[_Owner]) -> list[tuple[_Owner, bool, bool, Level]]:
    parameters = {
        "tenants": [tenant for tenant, _ in owners],
        "credentials": [credential for _, credential in owners],
        "default": settings.BRAKES,
        "quiet": levels.quiet_after(),
    }
    rows = await (await connection.execute(_STANDINGS, parameters)).fetchall()
    seen = [credential for _, credential, _, is_free, _, was_long_ago in rows if is_free and was_long_ago]
    if seen:
        sql = "UPDATE delivery_credential_standing SET last_seen_at = now() WHERE credential_id = ANY(%s)"
        await connection.execute(sql, [seen])
    return [
        ((tenant, credential), is_held, is_free, Level(level))
        for tenant, credential, is_held, is_free, level, _ in rows
    ]


# Of these tenants nobody else takes anything until we have committed. In one order, before any row is locked.
_ONE_AT_A_TIME = """
SELECT pg_advisory_xact_lock(key)
FROM (SELECT hashtextextended(tenant::text, 7294120) AS key FROM unnest(%s::uuid[]) AS tenant ORDER BY 1 OFFSET 0) AS keys
"""

IN_FLIGHT_OF_OTHERS = """
SELECT count(*) FROM delivery_unjudged WHERE credential_id IN (
    SELECT credential_id FROM delivery_credential_standing
    WHERE tenant_id = %(tenant)s AND established_at IS NULL AND credential_id <> %(credential)s)
"""

# Locks the row; gives none where somebody has established the credential meanwhile. One that was quiet begins anew.
_WATCH = """
INSERT INTO delivery_credential_standing AS known
    (credential_id, tenant_id, watched_since, accepted, bounced, unknown, deferred, last_seen_at)
VALUES (%(credential)s, %(tenant)s, now(), 0, 0, 0, 0, now())
ON CONFLICT (credential_id) DO UPDATE SET last_seen_at = now(), established_at = NULL,
    watched_since = CASE WHEN known.established_at IS NULL THEN known.watched_since ELSE now() END,
    accepted = CASE WHEN known.established_at IS NULL THEN known.accepted ELSE 0 END,
    bounced = CASE WHEN known.established_at IS NULL THEN known.bounced ELSE 0 END,
    unknown = CASE WHEN known.established_at IS NULL THEN known.unknown ELSE 0 END,
    deferred = CASE WHEN known.established_at IS NULL THEN known.deferred ELSE 0 END
WHERE known.established_at IS NULL OR known.last_seen_at <= now() - %(quiet)s
RETURNING known.credential_id
"""

_NOTE = """
WITH taken AS (SELECT * FROM unnest(%s::uuid[], %s::smallint[]) AS taken (recipient_id, number))
INSERT INTO delivery_unjudged AS known (recipient_id, number, credential_id, tenant_id, taken_at)
SELECT recipient_id, number, %s, %s, now() FROM taken
ON CONFLICT (recipient_id) DO UPDATE SET number = EXCLUDED.number, taken_at = now()
"""

# As ``queue.claim.release``, but out of the claim's sight. The claim counted an attempt that is none.
_PUT_BACK = """
UPDATE delivery_queue_entry AS entry
SET path_id = NULL, fence = NULL, claimed_at = NULL, attempts = entry.attempts - 1, held_reason = %s
WHERE entry.recipient_id = ANY(%s) RETURNING entry.recipient_id, entry.message_id, entry.tenant_id
"""


async def _set_aside(connection: Connection, credential_id: UUID, entries: Sequence[ClaimedEntry]) -> None:
    """Out of the way of other mail in the lane; people see it as queued, which it is."""
    await connection.execute(_PUT_BACK, [FIRST_RESULTS, [entry.recipient_id for entry in entries]])
    # What else is due of the credential in these lanes would only be claimed to be put back.
    lane_ids = sorted({entry.lane_id for entry in entries})
    await claim.set_aside(
        connection, lane_ids, credential_id=credential_id, reason=FIRST_RESULTS, most=_SET_ASIDE_AT_ONCE
    )


async def _hold(connection: Connection, entries: Iterable[ClaimedEntry]) -> None:
    """As ``queue.control.hold`` does with what was waiting when the brake was pulled."""
    cursor = await connection.execute(_PUT_BACK, [BRAKE, sorted(entry.recipient_id for entry in entries)])
    rows = await cursor.fetchall()
    recipient_ids = [row[0] for row in rows]
    await connection.execute(
        """UPDATE delivery_recipient SET state = %s, reason = %s, state_since = now(), next_attempt_at = NULL
           WHERE id = ANY(%s)""",
        [RecipientState.HELD, BRAKE, recipient_ids],
    )
    await connection.execute(
        """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
           SELECT message_id, event_id, recipient_id, tenant_id, %s, now(), jsonb_build_object('reason', %s::text)
           FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[]) AS row (recipient_id, message_id, tenant_id, event_id)""",
        [
            EventKind.HELD, BRAKE, recipient_ids, [row[1] for row in rows], [row[2] for row in rows],
            [uuid7() for _ in rows],
        ],
    )  # fmt: skip
