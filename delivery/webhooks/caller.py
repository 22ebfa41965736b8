"""Serves webhooks: finds those with something to tell, holds them under a lease, and makes their calls.

Each webhook held is served by a task of its own, so that a slow or dead endpoint costs nobody else anything: what it may
have in flight begins small, grows with good answers and shrinks to a single call when it fails. What calls came to is
written down by one settler for all of them. When the database is away, everything waits for it; a call whose result could
not be written is made again, with the same id.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from accounts import database
from delivery.core.webhooks import CallSchedule
from delivery.dns import Resolver
from delivery.engine import ownership
from delivery.engine.ownership import WorkerIdentity
from delivery.transport.guard import DestinationGuard
from delivery.webhooks import outbox, wake
from delivery.webhooks.calling import HttpCaller
from delivery.webhooks.served import Served
from delivery.webhooks.settler import Settler

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

TROUBLE = (psycopg.Error, PoolTimeout, OSError)
_POLL_S = 0.5
_LEAST_BETWEEN_LOOKS_S = 0.004
_REST_PER_LOOK = 2.0
_RECONNECT_S = 1.0
_DRAIN_S = 10.0
# Many, so that names whose servers are dead keep nobody else waiting.
_MOST_LOOKUPS_AT_ONCE = 2000


class Caller:
    """``run`` returns after ``stop``. Belongs to the event loop it runs on."""

    def __init__(self, me: WorkerIdentity) -> None:
        self.identity = me
        self.me = outbox.owner_name(me.slot, me.incarnation)
        self.lease = timedelta(seconds=settings.LEASE_SECONDS)
        self.pool = database.pool(max_size=6, min_size=1, name=f"webhooks {me.slot}")
        self.schedule = CallSchedule.parse(settings.WEBHOOK_RETRY_SCHEDULE)
        self.settler = Settler(self.me)
        self.tenant_calls: Counter[UUID] = Counter()
        self.served: dict[UUID, Served] = {}
        self.http: HttpCaller
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._doorbell = asyncio.Event()
        self._stopping = asyncio.Event()

    def ring(self) -> None:
        """Look for due events now. To be called on the caller's loop."""
        self._doorbell.set()

    def stop(self) -> None:
        """To be called on the caller's loop."""
        self._stopping.set()
        self._doorbell.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        await self.pool.open(wait=False)
        self.http = http_caller()
        self.settler.start()
        duties = [
            asyncio.create_task(self._keep(name, body), name=f"webhooks-{name}")
            for name, body in (("look", self._look), ("lease", self._keep_leases))
        ]
        log.info("webhook_caller_started", worker=self.identity.slot, incarnation=str(self.identity.incarnation))
        await self._stopping.wait()
        await self._drain(duties)
        log.info("webhook_caller_stopped", worker=self.identity.slot)

    async def _keep(self, name: str, body: Any) -> None:
        """Run a duty on a connection of its own, again and again, whatever happens to it."""
        while True:
            try:
                connection = await database.connect()
                try:
                    await body(connection)
                finally:
                    with suppress(psycopg.Error, OSError):
                        await connection.close()
            except TROUBLE as error:
                log.warning("webhooks_wait_for_the_database", duty=name, error=str(error))
            except Exception:
                log.exception("webhook_duty_broke", duty=name)
            await asyncio.sleep(_RECONNECT_S)

    # ---------------------------------------------------------------- what is due

    async def _look(self, connection: Connection) -> None:
        await connection.execute(f"LISTEN {wake.CHANNEL}")
        listener = asyncio.create_task(self._listen(connection))
        try:
            while not listener.done() and not self.is_stopping:
                self._doorbell.clear()
                began = time.monotonic()
                async with self.pool.connection() as working:
                    await self._take_due(working)
                took_s = time.monotonic() - began
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._doorbell.wait()
                await asyncio.sleep(max(_LEAST_BETWEEN_LOOKS_S, _REST_PER_LOOK * took_s))
            if listener.done():
                await listener
        finally:
            listener.cancel()
            # To its end: the loop must not watch a socket that whoever called us closes next (uvloop aborts the process).
            await asyncio.wait([listener])

    async def _listen(self, connection: Connection) -> None:
        async for _notification in connection.notifies():
            self._doorbell.set()

    async def _take_due(self, connection: Connection) -> None:
        busy = [key for key, served in self.served.items() if served.is_busy]
        due = await outbox.due_webhooks(connection, me=self.me, busy=busy)
        for key, is_mine in due:
            if is_mine and key in self.served:
                self.served[key].look()
        wanted = [key for key, is_mine in due if key not in self.served and not is_mine]
        if wanted:
            self._serve(await outbox.acquire(connection, wanted, me=self.me, lease=self.lease))
        # Mine in the table and forgotten here: its task died, or the release did not arrive.
        self._serve(key for key, is_mine in due if is_mine and key not in self.served)

    def _serve(self, keys: Iterable[UUID]) -> None:
        for key in keys:
            served = Served(self, key)
            self.served[key] = served
            task = asyncio.create_task(self._run_served(served), name=f"webhook {key}")
            self._tasks[key] = task

    async def _run_served(self, served: Served) -> None:
        try:
            await served.run()
        except TROUBLE as error:
            log.warning("webhook_waits_for_the_database", webhook=str(served.key), error=str(error))
            await asyncio.sleep(_RECONNECT_S)
        except Exception:
            log.exception("webhook_task_broke", webhook=str(served.key))
            await asyncio.sleep(_RECONNECT_S)
        finally:
            self.served.pop(served.key, None)
            self._tasks.pop(served.key, None)
        with suppress(*TROUBLE):
            async with self.pool.connection() as connection:
                await outbox.release(connection, [served.key], me=self.me)

    # ---------------------------------------------------------------- leases

    async def _keep_leases(self, connection: Connection) -> None:
        while True:
            await ownership.beat(
                connection, self.identity, is_draining=self.is_stopping, figures=self._figures(), part="webhooks"
            )
            held = list(self.served)
            still = await outbox.renew(connection, held, me=self.me, lease=self.lease)
            for key in held:
                if key not in still and key in self.served:
                    self.served[key].is_lost = True
                    self.served[key].look()
            await asyncio.sleep(self.lease.total_seconds() / 3)

    def _figures(self) -> dict[str, Any]:
        return {
            "webhooks": len(self.served),
            "calls_in_flight": sum(served.in_flight for served in self.served.values()),
            "calls": self.settler.settled,
        }

    # ---------------------------------------------------------------- the end

    async def _drain(self, duties: list[asyncio.Task[None]]) -> None:
        """Calls in flight have a moment to end; what does not is called again by whoever comes next."""
        for served in self.served.values():
            served.look()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAIN_S)
        for task in [*self._tasks.values(), *duties]:
            task.cancel()
        await asyncio.gather(*tasks, *duties, return_exceptions=True)
        await self.settler.stop()
        with suppress(*TROUBLE):
            async with asyncio.timeout(2), self.pool.connection() as connection:
                await connection.execute(
                    "UPDATE delivery_webhook SET owner = '', leased_until = NULL WHERE owner = %s", [self.me]
                )
                await connection.execute(
                    "DELETE FROM delivery_worker WHERE slot = %s AND incarnation = %s",
                    [self.identity.slot, self.identity.incarnation],
                )
        await self.http.close()
        await self.pool.close()


def http_caller() -> HttpCaller:
    """A caller of URLs with this installation's name server, guard and limits."""
    return HttpCaller(
        Resolver((settings.DNS.host, settings.DNS.port) if settings.DNS else None, max_at_once=_MOST_LOOKUPS_AT_ONCE),
        guard(),
        timeout_s=min(settings.WEBHOOK_TIMEOUT_SECONDS, 30.0),
        any_port=bool(settings.WEBHOOK_DESTINATIONS),
        ca_file=settings.CA_FILE or None,
    )


def guard() -> DestinationGuard:
    return DestinationGuard(settings.WEBHOOK_DESTINATIONS)


def slot_name() -> str:
    return f"{settings.NODE}/webhooks-{os.environ.get('RELAY_WORKER_SLOT', '1')}"
