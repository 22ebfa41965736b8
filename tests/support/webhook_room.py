"""Callers over the test database, and events to be told, written as settlements write them.

async with Room(world) as room, Receiver() as receiver:
    webhook, secret = await add(room, receiver.url("/orders"))
    async with calling():
        await room.send("someone@far.test")
        await receiver.until(lambda: receiver.calls)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from accounts.audit import Actor
from accounts.identifiers import uuid7
from delivery.core.states import EVENT_TYPES
from delivery.engine.ownership import WorkerIdentity
from delivery.models import Webhook
from delivery.webhooks import endpoints
from delivery.webhooks.caller import Caller
from tests.support.engine_room import NODE, Room, in_thread

ALICE = Actor("alice@acme.example")


async def add(
    room: Room, url: str, *, events: Sequence[str] = EVENT_TYPES, tenant: Any = None, **options: Any
) -> tuple[Webhook, str]:
    made = await in_thread(
        endpoints.add_webhook, tenant or room.world.cast.acme, url=url, events=events, actor=ALICE, **options
    )
    return made.webhook, made.secret


class RunningCaller:
    def __init__(self, slot: str = "webhooks-1") -> None:
        self.caller = Caller(WorkerIdentity(f"{NODE}/{slot}", uuid7(), NODE, "test"))
        self.task = asyncio.create_task(self.caller.run(), name="caller")

    async def stop(self) -> None:
        self.caller.stop()
        await self.task

    async def kill(self) -> None:
        """As a crash does: nothing is finished, nothing is given back."""
        names = ("webhook ", "webhook-", "webhooks-", "caller")
        everything = [task for task in asyncio.all_tasks() if task.get_name().startswith(names)]
        for task in [*everything, self.task]:
            task.cancel()
        await asyncio.gather(*everything, self.task, return_exceptions=True)
        await self.caller.http.close()
        await self.caller.pool.close()


@contextlib.asynccontextmanager
async def calling(slot: str = "webhooks-1") -> AsyncIterator[RunningCaller]:
    running = RunningCaller(slot)
    yield running
    if not running.task.done():
        await running.stop()


async def happen(room: Room, recipient_id: UUID, *kinds: str, **data: Any) -> list[UUID]:
    """Events of one recipient, each in a transaction of its own."""
    keys = []
    for kind in kinds:
        keys.append(uuid7())
        await room.rows(
            """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
               SELECT message_id, %s, id, tenant_id, %s, now(), %s FROM delivery_recipient WHERE id = %s""",
            keys[-1],
            kind,
            Jsonb(data),
            recipient_id,
        )
    return keys
