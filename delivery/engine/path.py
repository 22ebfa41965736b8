"""A path this worker drives, in memory: its fence, its permits, its connections, what is in flight on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from delivery.engine.ownership import PathRow, Source
from delivery.shaping.providers import Limits
from delivery.transport.pool import ConnectionPool

if TYPE_CHECKING:
    from delivery.engine.conversation import Conversation


@dataclass(eq=False, slots=True)
class OwnedPath:
    row: PathRow
    source: Source
    limits: Limits
    connections: ConnectionPool
    claimed: set[UUID] = field(default_factory=set)
    in_flight: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    conversations: dict[UUID, Conversation] = field(default_factory=dict)
    has_suspect: bool = False
    is_claiming: bool = False
    is_leaving: bool = False
    idle_since: float | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    driver: asyncio.Task[None] | None = None

    @property
    def key(self) -> tuple[UUID, int]:
        """Pool and provider group: where its lanes stand on the board."""
        return self.source.pool_id, self.row.group_id

    @property
    def is_at_rest(self) -> bool:
        """Nothing of it is ours, or about to be."""
        return not self.claimed and not self.in_flight and not self.is_claiming

    @property
    def free_permits(self) -> int:
        """How many more attempts may begin now."""
        return 0 if self.is_leaving else self.limits.connections - len(self.in_flight)

    def retry_in(self, seconds: float) -> None:
        """Look again after a while, even if nobody rings."""
        asyncio.get_running_loop().call_later(seconds, self.wake.set)
