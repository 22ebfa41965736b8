"""Content as it was accepted, compressed, wherever it stands and however it was sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from accounts.sealing import SealingError
from delivery import content_keys, content_store
from delivery.content_store import ContentUnreadable, Place, Stored, StoreTrouble

log = structlog.get_logger(__name__)


def frame_of(place: Place, row: bytes) -> bytes:
    """The zstandard frame. Raises StoreTrouble, ContentUnreadable."""
    stored = content_store.fetch_now(place, Stored.read(row))
    if stored.key_id is None:
        return stored.payload
    try:
        key = content_keys.by_id([stored.key_id]).get(stored.key_id)
    except SealingError as error:
        raise ContentUnreadable(str(error)) from error
    return content_store.unseal(stored, key, message_id=place.message_id)


async def frames_of(
    pool: AsyncConnectionPool[Any], rows: Sequence[tuple[UUID, int, bytes]], *, insists: bool
) -> dict[UUID, bytes]:
    """Of rows as (message, retention class, row). What cannot be read is left out and logged.

    ``insists``: raises StoreTrouble where one cannot be reached now; otherwise that one is left out too.
    """
    stored: dict[UUID, Stored] = {}
    elsewhere: list[tuple[Place, Stored]] = []
    for message_id, retention_days, row in rows:
        try:
            one = Stored.read(bytes(row))
        except ContentUnreadable as error:
            _tell(message_id, error)
            continue
        if one.is_elsewhere:
            elsewhere.append((Place(message_id, retention_days), one))
        else:
            stored[message_id] = one
    if elsewhere:
        for message_id, found in (await content_store.fetch_all(elsewhere)).items():
            if isinstance(found, Stored):
                stored[message_id] = found
            elif isinstance(found, StoreTrouble) and insists:
                raise found
            else:
                _tell(message_id, found)
    return await _opened(pool, stored)


async def _opened(pool: AsyncConnectionPool[Any], stored: dict[UUID, Stored]) -> dict[UUID, bytes]:
    wanted = {one.key_id for one in stored.values() if one.key_id is not None}
    if not wanted:
        return {message_id: one.payload for message_id, one in stored.items()}
    found: dict[UUID, bytes] = {}
    try:
        keys = await content_keys.find(pool, wanted)
    except SealingError as error:
        log.error("content_keys_unusable", error=str(error))
        keys = {}
    for message_id, one in stored.items():
        try:
            key = keys.get(one.key_id) if one.key_id else None
            found[message_id] = content_store.unseal(one, key, message_id=message_id)
        except ContentUnreadable as error:
            _tell(message_id, error)
    return found


def _tell(message_id: UUID, error: Exception) -> None:
    log.error("content_unreadable", message=str(message_id), error=str(error))
