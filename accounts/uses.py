"""When and from where each credential was last used, and how often: collected, and written down every few seconds.

A crash loses the last seconds of these figures and nothing else, so no mail waits for them.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from accounts.authentication import CredentialUses, Pool, write_down_uses

log = structlog.get_logger(__name__)

_WRITTEN_EVERY_SECONDS = 5.0


class UseBook:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._uses: dict[UUID, tuple[int, str | None]] = {}

    def note(self, credential_id: UUID | None, *, peer: str | None, mails: int) -> None:
        """Behind a unix socket a peer has no address."""
        if credential_id is not None:
            count, _ = self._uses.get(credential_id, (0, None))
            self._uses[credential_id] = (count + mails, peer or None)

    async def keep(self) -> None:
        """Write down what was noted, until cancelled."""
        while True:
            await asyncio.sleep(_WRITTEN_EVERY_SECONDS)
            await self.write_down()

    async def write_down(self) -> None:
        """What cannot be written now is tried again with the next."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        now = datetime.now(tz=UTC)
        try:
            await write_down_uses(
                self._pool,
                {key: CredentialUses(count=count, last_at=now, last_from=peer) for key, (count, peer) in uses.items()},
            )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("credential_uses_not_written", error=str(error))
            for key, (count, peer) in uses.items():
                self.note(key, peer=peer, mails=count)
