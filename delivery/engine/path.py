"""A path this worker drives, in memory: its fence, its permits, its connections, what is in flight on it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from accounts import clock
from delivery.engine.ownership import PathRow, Source
from delivery.shaping.changes import KEPT_OF_A_PATH, Change
from delivery.shaping.governor import OPENINGS_IN_ADVANCE, Governor
from delivery.shaping.providers import Limits
from delivery.transport.pool import ConnectionPool

if TYPE_CHECKING:
    from delivery.engine.conversation import Conversation


# Holding a connection for longer than this, to wait for a turn, would cost the peer more than a new one.
_LONGEST_WAIT_S = 5.0
_LONGEST_NAP_S = 30.0


class NotNow(Exception):
    """There will be no turn for a while: the entry goes back and comes again after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no turn for {seconds:.1f} s")
        self.seconds = seconds


async def _turn(take: Callable[[float], float], before: Callable[[], Awaitable[None]] | None = None) -> None:
    while True:
        if before is not None:
            await before()
        wait = take(time.monotonic())
        if wait <= 0:
            return
        if wait > _LONGEST_WAIT_S:
            raise NotNow(wait)
        await asyncio.sleep(wait)


@dataclass(eq=False, slots=True)
class OwnedPath:
    row: PathRow
    source: Source
    governor: Governor
    connections: ConnectionPool
    claimed: set[UUID] = field(default_factory=set)
    in_flight: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    conversations: dict[UUID, Conversation] = field(default_factory=dict)
    has_suspect: bool = False
    is_claiming: bool = False
    is_leaving: bool = False
    has_unsaved: bool = False
    # Not written down yet; more than these only where the database was away for long, and then the oldest go.
    unsaved_changes: deque[Change] = field(default_factory=lambda: deque(maxlen=KEPT_OF_A_PATH))
    idle_since: float | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    driver: asyncio.Task[None] | None = None
    # Writes down so many connections, for the next owner to know of. Raises NotNow.
    write_openings: Callable[[int], Awaitable[None]] | None = None

    @property
    def key(self) -> tuple[UUID, int]:
        """Pool and provider group: where its lanes stand on the board."""
        return self.source.pool_id, self.row.group_id

    @property
    def is_at_rest(self) -> bool:
        """Nothing of it is ours, or about to be."""
        return not self.claimed and not self.in_flight and not self.is_claiming

    @property
    def limits(self) -> Limits:
        return self.governor.limits

    @property
    def free_permits(self) -> int:
        """How many more attempts may begin now."""
        if self.is_leaving or self.governor.is_suspended(clock.now()):
            return 0
        awaiting_turn = sum(not conversation.has_turn for conversation in self.conversations.values())
        return self.governor.permits(len(self.in_flight), awaiting_turn, now=time.monotonic())

    async def message_turn(self) -> None:
        """Wait until one more message may be offered. Raises NotNow when that takes too long to hold a connection for it."""
        await _turn(self.governor.take_turn)

    async def connection_turn(self) -> None:
        """Wait until one more connection may be opened. Raises NotNow."""
        await _turn(self.governor.take_connection_turn, self._have_openings)

    async def _have_openings(self) -> None:
        """A claim brings them along; connections that had to be opened again take more."""
        while self.governor.lacks_openings and self.write_openings is not None:
            await self.write_openings(OPENINGS_IN_ADVANCE)
            self.governor.wrote_openings(OPENINGS_IN_ADVANCE)

    def look_again_when_there_is_a_turn(self) -> None:
        """Nobody rings when time passes."""
        wait = self.governor.wait(time.monotonic())
        if wait > 0 and len(self.in_flight) < self.governor.connections:
            self.retry_in(min(wait, _LONGEST_NAP_S))

    def apply_governor(self) -> None:
        """After limits or pace changed."""
        self.connections.max_connections = self.governor.connections
        self.connections.max_messages = self.governor.limits.messages_per_connection

    def retry_in(self, seconds: float) -> None:
        """Look again after a while, even if nobody rings."""
        asyncio.get_running_loop().call_later(seconds, self.wake.set)
