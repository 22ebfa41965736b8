"""The last step before the commit: content is sealed and put where it will stand, so that the commit can point there."""

from __future__ import annotations

from dataclasses import replace

from delivery import content_keys, content_store
from delivery.acceptance.directory import Directory
from delivery.acceptance.message import NewMessage
from delivery.content_store import Place, Stored


async def place(message: NewMessage, *, directory: Directory) -> NewMessage:
    """The message as its row will be. Raises StoreTrouble, SealingError: then nothing is committed."""
    sealed_key = await directory.content_key(message.principal.tenant_id)
    if sealed_key is None and not content_store.goes_there(len(message.compressed)):
        return message
    key = None if sealed_key is None else content_keys.opened(*sealed_key)
    stored = content_store.seal(message.compressed, key, message_id=message.id)
    if content_store.goes_there(len(message.compressed)):
        stored = await content_store.put(_place_of(message), stored)
    return replace(message, compressed=stored.row())


async def take_back(message: NewMessage) -> None:
    """Of a message that is certainly not committed. Never raises."""
    if Stored.read(message.compressed).is_elsewhere:
        await content_store.discard(_place_of(message))


def _place_of(message: NewMessage) -> Place:
    return Place(message.id, message.principal.retention_days)
