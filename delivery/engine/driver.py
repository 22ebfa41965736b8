"""Driving one path: whenever it has permits and something is due, claim exactly that much and begin the conversations."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from delivery.engine import assignments
from delivery.engine.assignments import Assignment
from delivery.engine.committer import Release
from delivery.engine.conversation import Conversation
from delivery.engine.lanes import LaneBoard
from delivery.engine.path import OwnedPath
from delivery.engine.services import Services
from delivery.queue import claim
from delivery.queue.claim import ClaimedEntry, Want
from delivery.settlement import KeptBack

log = structlog.get_logger(__name__)

_AFTER_TROUBLE_S = 0.5
# Something came, or was let go, while we looked; whoever is at it needs a moment.
_LOOK_AGAIN_S = 0.02
# A recipient whose rows cannot be read is a fault of ours that will not pass by itself.
_AFTER_FAULT = timedelta(minutes=1)
_ANY_LOSSES = 32_767


async def drive(path: OwnedPath, board: LaneBoard, services: Services) -> None:
    """Runs until cancelled. Trouble is waited out, whatever it is: a path nobody drives would hold its mail for ever."""
    while True:
        await path.wake.wait()
        path.wake.clear()
        path.is_claiming = True
        try:
            while await _claim_once(path, board, services):
                pass
            path.look_again_when_there_is_a_turn()
        except (psycopg.Error, PoolTimeout, OSError) as error:
            log.warning("claim_failed", path=path.row.id, group=path.row.group_key, error=str(error))
            path.retry_in(_AFTER_TROUBLE_S)
        except Exception:
            log.exception("claim_broke", path=path.row.id, group=path.row.group_key)
            path.retry_in(_AFTER_TROUBLE_S)
        finally:
            path.is_claiming = False


async def _claim_once(path: OwnedPath, board: LaneBoard, services: Services) -> bool:
    """Claim what the permits allow; False when there is no permit or nothing more to claim."""
    permits = path.free_permits
    wants = board.share(*path.key, path.source.id, permits) if permits > 0 else []
    if not wants:
        return False
    entries: list[ClaimedEntry] = []
    known: dict[UUID, Assignment] = {}
    try:
        async with services.pool.connection() as connection:
            entries = await _claim(connection, path, wants, services)
            exhausted = _exhausted(wants, entries)
            if exhausted:
                await _look_closer(connection, path, board, exhausted)
            if entries:
                known = await assignments.read(connection, entries)
        await services.contents.prefetch(
            assignment.content for assignment in known.values() if assignment.suppression_id is None
        )
    except BaseException:
        for entry in entries:
            _give_back(path, entry, services)
        raise
    for entry in entries:
        if entry.recipient_id not in known:
            log.error("recipient_missing", recipient=str(entry.recipient_id), message=str(entry.message_id))
            _give_back(path, entry, services, delay=_AFTER_FAULT)
        elif path.is_leaving:
            _give_back(path, entry, services)
        elif known[entry.recipient_id].suppression_id is not None:
            _keep_back(path, entry, known[entry.recipient_id], services)
        else:
            _begin(path, Conversation(path, entry, known[entry.recipient_id], services), entry, services)
    return bool(entries)


async def _claim(
    connection: psycopg.AsyncConnection[Any], path: OwnedPath, wants: list[Want], services: Services
) -> list[ClaimedEntry]:
    """One suspect at a time on a path; of the grave ones, one at a time in this engine, so that it is known which it was."""
    takes_grave = not path.has_suspect and not services.has_grave_suspect
    services.has_grave_suspect |= takes_grave
    entries: list[ClaimedEntry] = []
    try:
        entries = await claim.claim(
            connection,
            wants,
            path_id=path.row.id,
            fence=path.row.fence,
            most_losses=0 if path.has_suspect else _ANY_LOSSES if takes_grave else 1,
            rates=services.rates,
            writes_use=path.governor.has_long_rates,
        )
    finally:
        if takes_grave:
            services.has_grave_suspect = any(entry.is_grave_suspect for entry in entries)
    path.claimed.update(entry.recipient_id for entry in entries)
    path.has_suspect = path.has_suspect or any(entry.is_suspect for entry in entries)
    return entries


async def _look_closer(
    connection: psycopg.AsyncConnection[Any], path: OwnedPath, board: LaneBoard, lane_ids: list[int]
) -> None:
    """These lanes gave less than they were asked for: they leave the board, unless something came into them meanwhile."""
    generation = board.generation
    still_due = await claim.refresh_lanes(connection, lane_ids)
    if board.generation == generation:
        board.drop(*path.key, set(lane_ids) - still_due)
    if still_due:
        path.retry_in(_LOOK_AGAIN_S)


def _give_back(path: OwnedPath, entry: ClaimedEntry, services: Services, *, delay: timedelta = timedelta(0)) -> None:
    """In the background: the committer keeps at it until the database takes it."""
    release = Release(entry, path.row.id, path.row.fence, delay=delay)
    _in_background(path, entry, services, services.committer.release(release))


def _keep_back(path: OwnedPath, entry: ClaimedEntry, assignment: Assignment, services: Services) -> None:
    """Nothing is said to anybody: mail must not go to this recipient any more."""
    assert assignment.suppression_id is not None
    kept = KeptBack(
        entry, path.row.id, path.row.fence, assignment.suppression_id, reason=assignment.suppression_reason or ""
    )
    log.info("kept_back", recipient=str(entry.recipient_id), message=str(entry.message_id), reason=kept.reason)
    _in_background(path, entry, services, services.committer.keep_back(kept))


def _in_background(path: OwnedPath, entry: ClaimedEntry, services: Services, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    path.in_flight[entry.recipient_id] = task
    task.add_done_callback(lambda done: _end(path, entry, services, done))


def _exhausted(wants: list[Want], entries: list[ClaimedEntry]) -> list[int]:
    got = Counter(entry.lane_id for entry in entries if not entry.is_suspect)
    return [want.lane_id for want in wants if got[want.lane_id] < want.most]


def _begin(path: OwnedPath, conversation: Conversation, entry: ClaimedEntry, services: Services) -> None:
    task = asyncio.create_task(conversation.run(), name=f"conversation {entry.recipient_id}")
    path.in_flight[entry.recipient_id] = task
    path.conversations[entry.recipient_id] = conversation
    path.idle_since = None
    task.add_done_callback(lambda done: _end(path, entry, services, done))


def _end(path: OwnedPath, entry: ClaimedEntry, services: Services, task: asyncio.Task[None]) -> None:
    path.in_flight.pop(entry.recipient_id, None)
    path.claimed.discard(entry.recipient_id)
    path.conversations.pop(entry.recipient_id, None)
    if entry.is_suspect:
        path.has_suspect = False
        services.ring()  # the next one waits in a lane that may have nothing else due
    if entry.is_grave_suspect:
        services.has_grave_suspect = False
    if not path.in_flight:
        path.idle_since = time.monotonic()
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(
            "conversation_broke", recipient=str(entry.recipient_id), message=str(entry.message_id), exc_info=error
        )
    path.wake.set()
