"""What an outcome teaches: the pace and suspension of its path, the suspension of its tenant's lanes.

Written down at once, so that a restart and the pages know it; where the database is away the lease's next round does it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from accounts import clock
from delivery.core.live_rules import without_addresses
from delivery.core.outcome import Outcome, hinted_wait
from delivery.engine import ownership
from delivery.engine.path import OwnedPath
from delivery.shaping import changes, pace
from delivery.shaping.changes import Change
from delivery.shaping.governor import Learnt

log = structlog.get_logger(__name__)


async def learn(pool: AsyncConnectionPool[Any], path: OwnedPath, outcome: Outcome, *, lane_id: int) -> None:
    """Never raises: an outcome is settled, whatever comes of its lesson."""
    now = clock.now()
    before = path.governor.learnt
    if path.governor.learn(outcome, now):
        path.has_unsaved = True
        path.unsaved_changes.append(_change(before, path.governor.learnt, outcome, now))
        path.apply_governor()
        learnt = path.governor.learnt
        log.info(
            "path_learnt",
            path=path.row.id,
            group=path.row.group_key,
            source=path.source.address,
            share=learnt.pace.share,
            reason=learnt.pace.reason,
            suspended_until=learnt.suspension.until.isoformat() if learnt.suspension else None,
        )
    try:
        if path.has_unsaved:
            async with pool.connection() as connection:
                await save(connection, path)
        await _suspend_tenant(pool, outcome, lane_id=lane_id, now=now)
    except (psycopg.Error, PoolTimeout, OSError) as error:
        log.warning("lesson_not_written", path=path.row.id, error=str(error))


async def save(connection: psycopg.AsyncConnection[Any], path: OwnedPath) -> None:
    learnt = path.governor.learnt
    # Taken out first: two outcomes of one path may be written side by side.
    written = list(path.unsaved_changes)
    path.unsaved_changes.clear()
    try:
        async with connection.transaction():
            await ownership.save_learnt(connection, path_id=path.row.id, fence=path.row.fence, learnt=learnt)
            if written:
                await changes.write(connection, path.row.id, written)
    except BaseException:
        newest_last = [*written, *path.unsaved_changes]
        path.unsaved_changes.clear()
        path.unsaved_changes.extend(newest_last)  # where there are too many, the oldest go
        raise
    path.has_unsaved = path.governor.learnt != learnt or bool(path.unsaved_changes)


def _change(before: Learnt, after: Learnt, outcome: Outcome, now: datetime) -> Change:
    is_new = after.suspension is not None and after.suspension is not before.suspension
    cause = outcome.cause or outcome.classification
    return Change(
        at=now,
        share_before=before.pace.share,
        share_after=after.pace.share,
        suspended_until=after.suspension.until if is_new and after.suspension else None,
        # At full speed again the pace itself has no reason any more.
        reason=after.pace.reason or (cause.rule if cause else f"{pace.CLIMB_AFTER_ACCEPTED} accepted"),
        reply=without_addresses(outcome.reply.line).replace("\0", "")[:500],
    )


async def _suspend_tenant(pool: AsyncConnectionPool[Any], outcome: Outcome, *, lane_id: int, now: datetime) -> None:
    """A receiver that refuses a tenant (its domain, its authentication) gets none of its mail from any address for a while."""
    classification = outcome.cause or outcome.classification
    if classification is None or not pace.suspends_tenant(outcome.reply, classification):
        return
    suspension = pace.suspension_after(classification, last=None, now=now, hint=hinted_wait(outcome.reply))
    async with pool.connection() as connection:
        await connection.execute(
            """UPDATE delivery_lane AS lane
               SET suspended_until = greatest(lane.suspended_until, %s), suspended_reason = %s
               FROM delivery_lane AS refused
               WHERE refused.id = %s AND lane.tenant_id = refused.tenant_id AND lane.group_id = refused.group_id""",
            [suspension.until, suspension.reason[:200], lane_id],
        )
