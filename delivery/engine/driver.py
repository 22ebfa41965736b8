"""Driving one path: whenever it has permits and something is due, claim exactly that much and begin the conversations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from delivery.engine.assignments import Assignment
from delivery.engine.claimer import Ask, Claimed
from delivery.engine.committer import Release
from delivery.engine.conversation import Conversation
from delivery.engine.lanes import LaneBoard
from delivery.engine.path import OwnedPath
from delivery.engine.services import Services
from delivery.queue.claim import ClaimedEntry, Want, openings_for
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
    wants = board.share(*path.key, path.source.id, permits, is_draining=path.source.is_draining) if permits > 0 else []
    if not wants:
        return False
    generation = board.generation
    claimed = await _claim(path, wants, services)
    if claimed.error is not None:
        for entry in claimed.entries:
            _give_back(path, entry, services)
        raise claimed.error
    if board.generation == generation:
        # These gave less than they were asked for: they leave the board, unless something came into them meanwhile.
        board.drop(*path.key, set(claimed.exhausted) - claimed.still_due)
    if claimed.still_due:
        path.retry_in(_LOOK_AGAIN_S)
    for entry in claimed.entries:
        _take_in_hand(path, entry, claimed.known.get(entry.recipient_id), services)
    return bool(claimed.entries)


async def _claim(path: OwnedPath, wants: list[Want], services: Services) -> Claimed:
    """One suspect at a time on a path; of the grave ones, one at a time in this engine, so that it is known which it was."""
    takes_grave = not path.has_suspect and not services.has_grave_suspect
    services.has_grave_suspect |= takes_grave
    claimed = Claimed()
    try:
        claimed = await services.claimer.claim(
            Ask(
                path.row.id,
                path.row.fence,
                tuple(wants),
                most_losses=0 if path.has_suspect else _ANY_LOSSES if takes_grave else 1,
                writes_use=path.governor.has_long_rates,
                openings=(openings := path.governor.openings),
            )
        )
        path.governor.wrote_openings(openings_for(len(claimed.entries), openings=openings))
    finally:
        if takes_grave:
            services.has_grave_suspect = any(entry.is_grave_suspect for entry in claimed.entries)
    path.claimed.update(entry.recipient_id for entry in claimed.entries)
    path.has_suspect = path.has_suspect or any(entry.is_suspect for entry in claimed.entries)
    return claimed


def _take_in_hand(path: OwnedPath, entry: ClaimedEntry, known: Assignment | None, services: Services) -> None:
    if known is None:
        log.error("recipient_missing", recipient=str(entry.recipient_id), message=str(entry.message_id))
        _give_back(path, entry, services, delay=_AFTER_FAULT)
    elif path.is_leaving:
        _give_back(path, entry, services)
    elif known.suppression_id is not None:
        _keep_back(path, entry, known, services)
    else:
        _begin(path, Conversation(path, entry, known, services), entry, services)


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
