"""The way into acceptance for threads: web requests and the service's own mail.

One event loop per process runs the same store and the same group commit as a gate. It starts with the first submission and
ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from accounts.authentication import Principal, authenticate_api
from accounts.uses import UseBook
from delivery.acceptance import once
from delivery.acceptance.accept import accept_submission, accept_with_receipt, checked_draft
from delivery.acceptance.message import Receipt
from delivery.acceptance.store import MessageStore
from delivery.acceptance.submission import Once, Submission
from delivery.core import replies
from delivery.core.replies import Rejection

Answer = TypeVar("Answer")

_WITHIN_S = 30.0


class NotReady(Exception):
    """The database is away, or its settings would let a commit be lost: nothing may be promised."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of several submissions: a receipt, a refusal, or trouble of ours.

    ``is_repeated``: it was accepted before, under the same key.
    """

    receipt: Receipt | None = None
    rejection: Rejection | None = None
    trouble: Exception | None = None
    is_repeated: bool = False


class _Door:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="acceptance", daemon=True).start()
        self.store = asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(_WITHIN_S)
        self.uses = UseBook(self.store.pool)
        self._keeping = asyncio.run_coroutine_threadsafe(self.uses.keep(), self.loop)

    async def _open(self) -> MessageStore:
        store = MessageStore(name="acceptance", lookups=2)
        await store.open()
        return store

    async def _close(self) -> None:
        self._keeping.cancel()
        await self.uses.write_down()
        await self.store.close()

    def close(self) -> None:
        self.ask(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    def ask(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(question, self.loop).result(_WITHIN_S)

    async def outcome_of(self, submission: Submission, *, peer: str) -> Outcome:
        try:
            receipt = await accept_with_receipt(submission, store=self.store)
        except Rejection as rejection:
            await self.store.log_rejection(
                rejection,
                principal=submission.principal,
                peer_address=peer or None,
                author_domain=submission.envelope.reverse_path.domain if submission.envelope.reverse_path else "",
            )
            return Outcome(rejection=rejection)
        except Exception as error:  # noqa: BLE001 - one of many: the others must still be answered for
            return Outcome(trouble=error)
        self.uses.note(submission.principal.credential_id, peer=peer, mails=1)
        return Outcome(receipt=receipt)


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


def principal_of_key(key: str, *, peer: str) -> Principal | None:
    """Whose API key this is. Raises TimeoutError, or what the database raises: which never looks like a wrong key."""
    door = _opened()
    return door.ask(authenticate_api(door.store.pool, key, peer=peer))


def note_use(principal: Principal, *, peer: str) -> None:
    """A key was used for something else than mail."""
    door = _opened()
    door.loop.call_soon_threadsafe(lambda: door.uses.note(principal.credential_id, peer=peer, mails=0))


def accepted_before(tenant_id: UUID, key: Once) -> dict[int, once.Known]:
    """What an earlier request with this key became, by position."""
    door = _opened()
    return door.ask(once.known(door.store.pool, tenant_id, key))


def accept_all_from_thread(submissions: Sequence[Submission]) -> list[Outcome]:
    """Accept submissions side by side, so that they share commits; one outcome each, in order.

    Raises NotReady before anything is stored, and TimeoutError when nobody can say what was.
    """
    door = _opened()
    if not door.store.is_ready:
        raise NotReady

    async def accept() -> list[Outcome]:
        return await asyncio.gather(*(door.outcome_of(one, peer=one.peer.address or "") for one in submissions))

    return door.ask(accept())


def check_all_from_thread(submissions: Sequence[Submission]) -> None:
    """Ask everything that acceptance asks, and store nothing. Raises Rejection for the first that would be refused."""
    door = _opened()
    if not door.store.is_ready:
        raise NotReady

    async def check() -> None:
        for submission in submissions:
            await checked_draft(submission, store=door.store)

    door.ask(check())


def close() -> None:
    """Commit what was handed in and stop; the next submission opens anew."""
    global _door
    with _opening:
        door, _door = _door, None
    if door is not None:
        door.close()


def _opened() -> _Door:
    global _door
    with _opening:
        if _door is None:
            _door = _Door()
        return _door
