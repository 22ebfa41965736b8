"""The way into acceptance for threads: web requests and the service's own mail.

One event loop per process runs the same store and the same group commit as a gate. It starts with the first submission and
ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

from delivery.acceptance.accept import accept_submission
from delivery.acceptance.store import MessageStore
from delivery.acceptance.submission import Submission
from delivery.core import replies
from delivery.core.replies import Rejection

_WITHIN_S = 30.0


class _Door:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="acceptance", daemon=True).start()
        self.store = asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(_WITHIN_S)

    async def _open(self) -> MessageStore:
        store = MessageStore(name="acceptance", lookups=2)
        await store.open()
        return store


_door: _Door | None = None
_opening = threading.Lock()


def accept_from_thread(submission: Submission) -> UUID:
    """Accept a submission and wait for its commit; returns the message id.

    Raises Rejection, TimeoutError, or what the database raises: then nothing was promised to anybody.
    """
    door = _opened()
    if not door.store.is_ready:
        raise Rejection(replies.LOCAL_TROUBLE, detail="the database is away, or its settings are not safe")
    return asyncio.run_coroutine_threadsafe(accept_submission(submission, store=door.store), door.loop).result(
        _WITHIN_S
    )


def _opened() -> _Door:
    global _door
    with _opening:
        if _door is None:
            _door = _Door()
        return _door
