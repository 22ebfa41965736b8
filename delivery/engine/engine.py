"""The engine: wires the parts, listens for the doorbell, keeps leases alive, and drains when it is told to stop.

It needs PostgreSQL and nothing else. While the database is away it waits and tries again; attempts in flight end before
their final dot, since no mark can be written. Everything else that can go wrong is local to a path or a conversation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db import connection as django_connection
from psycopg_pool import PoolTimeout

from accounts import clock, database
from delivery import quiet_hours, strikes
from delivery.engine import caps, driver, ownership, recovery, sources
from delivery.engine.committer import Release
from delivery.engine.lanes import LaneBoard
from delivery.engine.ownership import PathRow, Renewed, Source, WorkerIdentity
from delivery.engine.path import OwnedPath
from delivery.engine.router import Router
from delivery.engine.services import Services
from delivery.models.provider import GroupKind
from delivery.queue import claim, overflow, wake
from delivery.queue.claim import DueLane, OldClaim
from delivery.shaping.governor import PERSISTED_FROM_S, Governor
from delivery.shaping.providers import Limits, default_limits
from delivery.shaping.windows import Rate
from delivery.transport.pool import ConnectionPool

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

# Without any doorbell, due lanes are looked for this often.
_POLL_S = 1.0
# Doorbells that ring one after the other are answered together, so that a look, and the claims that follow, find several
# mails; looking takes at most a seventh of the time.
_LEAST_BETWEEN_TICKS_S = 0.05
_REST_PER_TICK = 6.0
_LONGEST_REST_S = 0.5  # however slow a busy machine makes a look: a mail to somebody else waits for it
# A path with nothing to do is kept this long, so that its connections and its lease serve the next mail.
_KEPT_IDLE_S = 60.0
_DRAIN_S = 25.0
# A greylisted recipient stays with its address, unless that has used up its day and would let it wait for longer than this.
_LONGEST_PINNED_WAIT_S = 900.0
_REPORTS_AT_ONCE = 50
_RECONNECT_S = 0.5
# Between two looks at watched credentials: with 200 in flight a new credential sends up to about 800 a second.
_WATCH_S = 0.25
# When the database comes back all leases may have run out; whoever lives renews his before anybody takes them for dead.
_GRACE_S = 2.0


class Engine:
    def __init__(self, me: WorkerIdentity) -> None:
        self._me = me
        self._lease = timedelta(seconds=settings.LEASE_SECONDS)
        self._pool = database.pool(max_size=6, min_size=2, name=f"engine {me.slot}")
        self._services = Services(me, self._pool, ring=self.ring)
        self._router = Router(self._services)
        self._board = LaneBoard()
        self._paths: dict[int, OwnedPath] = {}
        self._path_ids: dict[tuple[UUID, int], int] = {}
        self._sources: list[Source] = []
        self._slots: frozenset[str] = frozenset()
        self._doorbell = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._is_draining = False
        self._grace_until = 0.0

    def ring(self) -> None:
        """Look for due lanes now. To be called on the engine's loop."""
        self._doorbell.set()

    def stop(self) -> None:
        """Begin to drain; ``run`` returns when that is done. To be called on the engine's loop."""
        self._stopping.set()

    async def run(self) -> None:
        await self._pool.open(wait=False)
        self._services.committer.start()
        tasks = [
            asyncio.create_task(self._keep(name, body), name=f"engine-{name}")
            for name, body in (
                ("lanes", self._follow_lanes),
                ("leases", self._keep_leases),
                ("sweep", self._sweep),
                ("brakes", self._watch_credentials),
            )
        ]
        log.info("engine_started", worker=self._me.slot, incarnation=str(self._me.incarnation))
        await self._stopping.wait()
        await self._drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._leave()
        log.info("engine_stopped", worker=self._me.slot)

    async def _keep(self, name: str, body: Any) -> None:
        """Run a duty on a connection of its own, again and again, whatever happens to it: a duty never ends by itself."""
        while True:
            try:
                connection = await database.connect()
                try:
                    await body(connection)
                finally:
                    with suppress(psycopg.Error, OSError):
                        await connection.close()
            except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
                log.warning("engine_waits_for_the_database", duty=name, error=str(error))
            except Exception:
                log.exception("engine_duty_broke", duty=name)
            await asyncio.sleep(_RECONNECT_S)

    # ---------------------------------------------------------------- what is due

    async def _follow_lanes(self, connection: Connection) -> None:
        for channel in (wake.LANES, wake.ROUTES, wake.PATHS):
            await connection.execute(f"LISTEN {channel}")
        self._grace_until = time.monotonic() + _GRACE_S
        listener = asyncio.create_task(self._listen(connection))
        try:
            async with self._pool.connection() as first:
                await recovery.free_predecessor(first, slot=self._me.slot, incarnation=self._me.incarnation)
                await self._refresh_world(first)
            while not listener.done():
                self._doorbell.clear()
                began = time.monotonic()
                async with self._pool.connection() as working:
                    wait_s = await self._tick(working)
                ended = time.monotonic()
                rest_s = min(max(_LEAST_BETWEEN_TICKS_S, _REST_PER_TICK * (ended - began)), _LONGEST_REST_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._doorbell.wait()
                await asyncio.sleep(ended + rest_s - time.monotonic())
            await listener
        finally:
            listener.cancel()
            # To its end: the loop must not watch a socket that whoever called us closes next (uvloop aborts the process).
            await asyncio.wait([listener])

    async def _listen(self, connection: Connection) -> None:
        async for notification in connection.notifies():
            if notification.channel == wake.ROUTES:
                async with self._pool.connection() as working:
                    await self._services.refresh_routes(working)
            elif notification.channel == wake.PATHS:
                async with self._pool.connection() as working:
                    await self._refresh_world(working)
            self._doorbell.set()

    async def _tick(self, connection: Connection) -> float:
        """Look at what is due, take the paths for it, wake their drivers; returns how long there is nothing to look for."""
        if self._is_draining:
            return _POLL_S
        due = await self._without_quiet(connection, await claim.due_lanes(connection))
        self._router.look_up([lane.id for lane in due if lane.group_kind == GroupKind.UNROUTED])
        routed = [lane for lane in due if lane.group_kind != GroupKind.UNROUTED]
        self._board.replace(routed)
        await self._take_paths(connection, routed)
        for path in self._paths.values():
            if self._board.has_work(*path.key, path.source.id, is_draining=path.source.is_draining):
                path.wake.set()
        next_due_s = await claim.seconds_to_next_due(connection)
        return _POLL_S if next_due_s is None else min(_POLL_S, max(next_due_s, 0.0) + 0.001)

    async def _without_quiet(self, connection: Connection, due: list[DueLane]) -> list[DueLane]:
        resting = quiet_hours.quiet_lanes(due, clock.now())
        if not resting:
            return due
        await quiet_hours.rest(connection, resting)
        log.info("lanes_rest", lanes=len(resting), until=max(resting.values()).isoformat())
        return [lane for lane in due if lane.id not in resting]

    async def _take_paths(self, connection: Connection, lanes: Iterable[DueLane]) -> None:
        by_pool: dict[UUID, list[Source]] = {}
        for source in self._sources:
            by_pool.setdefault(source.pool_id, []).append(source)
        sources = {source.id: source for source in self._sources}
        pairs = {
            (source.id, lane.group_id)
            for lane in lanes
            for source in by_pool.get(lane.pool_id, ())
            if lane.pinned_source_id == source.id or (lane.pinned_source_id is None and not source.is_draining)
        }
        unknown = pairs - self._path_ids.keys()
        if unknown:
            self._path_ids.update(await ownership.path_ids(connection, unknown))
        wanted = [
            path_id for pair in pairs if (path_id := self._path_ids[pair]) not in self._paths and self._is_mine(path_id)
        ]
        if wanted:
            takes_expired = time.monotonic() >= self._grace_until
            acquired = await ownership.acquire(
                connection, self._me, wanted, lease=self._lease, takes_expired=takes_expired
            )
            # Before any of them begins: a new address must not send more than its warm-up allows, not even at first.
            warming = await caps.read(connection, [row.id for row in acquired])
            for row in acquired:
                self._start_path(row, sources[row.source_id], warming.get(row.id))

    def _is_mine(self, path_id: int) -> bool:
        return ownership.owner_of(path_id, self._slots | {self._me.slot}) == self._me.slot

    def _start_path(self, row: PathRow, source: Source, cap: Rate | None) -> None:
        limits = self._limits_of(row, row.group_limits, source, cap)
        governor = Governor(limits, row.learnt)
        governor.take_over(time.monotonic(), messages=row.uses, connections=row.connections, was_in_use=row.was_in_use)
        connections = ConnectionPool(
            source_address=source.address,
            ehlo_name=source.ehlo_name,
            timeouts=self._services.timeouts,
            broken_tls=self._services.broken_tls,
            before_connecting=lambda: path.connection_turn(),
        )
        path = OwnedPath(
            row=row, source=source, governor=governor, connections=connections, idle_since=time.monotonic()
        )
        path.write_openings = lambda count: self._services.write_openings(row.id, count)
        path.apply_governor()
        path.driver = asyncio.create_task(driver.drive(path, self._board, self._services), name=f"path {row.id}")
        self._paths[row.id] = path
        log.debug("path_taken", path=row.id, group=row.group_key, fence=row.fence)

    def _limits_of(self, row: PathRow, overrides: dict[str, Any], source: Source, cap: Rate | None) -> Limits:
        """What is said of the group, the address's share of it, and not more than the stage of a warm-up."""
        limits = self._limits_of_group(row, overrides).shared(source.share)
        return limits if cap is None else limits.capped(cap)

    def _limits_of_group(self, row: PathRow, overrides: dict[str, Any]) -> Limits:
        """The defaults of the group, what a route says, what an operator has set."""
        limits = default_limits(row.group_key, row.group_kind)
        route = self._services.routes.of_group(row.group_id)
        if route is not None and route.connections:
            limits = limits.overridden({"connections": route.connections})
        try:
            return limits.overridden(overrides)
        except ValueError as error:
            log.error("limits_unreadable", group=row.group_key, error=str(error))
            return limits

    # ---------------------------------------------------------------- leases

    async def _keep_leases(self, connection: Connection) -> None:
        while True:
            await self._refresh_world(connection)
            await self._tidy_paths(connection)
            await self._overflow(connection)
            await asyncio.sleep(self._lease.total_seconds() / 3)

    async def _refresh_world(self, connection: Connection) -> None:
        await ownership.beat(connection, self._me, is_draining=self._is_draining, figures=self._figures())
        self._slots = await ownership.live_slots(connection, node=self._me.node, lease=self._lease)
        self._sources = await ownership.usable_sources(connection, node=self._me.node)
        await self._services.refresh_routes(connection)
        # Only these: a path that is taken while we ask is not among the answers, and not lost.
        paths = dict(self._paths)
        held = await ownership.renew(connection, self._me, list(paths), lease=self._lease)
        warming = await caps.read(connection, list(held))
        sources_now = {source.id: source for source in self._sources}
        for path_id, path in paths.items():
            renewed = held.get(path_id)
            if renewed is not None and renewed.fence == path.row.fence:
                # One that may be used no more stays as it was until its path is given up.
                source = sources_now.get(path.source.id, path.source)
                await self._follow_changes(connection, path, renewed, source, warming.get(path_id))
            elif self._paths.get(path_id) is path:
                self._lose(path)
        await self._release_strays(connection)
        await self._services.refresh_rates(connection)
        self._services.claimer.gate.forget()
        await self._services.refresh_rules(connection)

    async def _follow_changes(
        self, connection: Connection, path: OwnedPath, renewed: Renewed, source: Source, cap: Rate | None
    ) -> None:
        """An operator's changes count at once; what this path has learnt meanwhile is written down first."""
        if path.has_unsaved:
            await self._services.save_learnt(connection, path)
        elif renewed.learnt != path.governor.learnt and path.governor.differs(renewed.learnt):
            path.governor.set_learnt(renewed.learnt)
            path.wake.set()
        limits = self._limits_of(path.row, renewed.group_limits, source, cap)
        if limits != path.limits:
            path.governor.set_limits(limits)
            path.wake.set()
        path.apply_governor()

    def _lose(self, path: OwnedPath) -> None:
        """Somebody else drives it now. What has not reached its dot must not; what has will find its fence gone."""
        log.warning("path_lost", path=path.row.id, group=path.row.group_key, in_flight=len(path.in_flight))
        path.is_leaving = True
        for conversation in list(path.conversations.values()):
            conversation.withdraw()
        self._drop(path)

    def _drop(self, path: OwnedPath) -> None:
        self._paths.pop(path.row.id, None)
        if path.driver is not None:
            path.driver.cancel()
        asyncio.create_task(path.connections.close_all())  # noqa: RUF006 - the pool keeps its own references

    async def _tidy_paths(self, connection: Connection) -> None:
        """Hand over what belongs to others by now, and what has had nothing to do for a while."""
        usable = set(self._sources)
        for path in list(self._paths.values()):
            # An address that was moved to another pool or got another name is taken up anew, with what it is now.
            path.is_leaving = self._is_draining or not self._is_mine(path.row.id) or path.source not in usable
            idle_s = 0.0 if path.idle_since is None else time.monotonic() - path.idle_since
            has_been_idle = idle_s > _KEPT_IDLE_S
            if path.is_at_rest and (path.is_leaving or has_been_idle) and self._paths.get(path.row.id) is path:
                if path.has_unsaved:
                    await self._services.save_learnt(connection, path)
                self._drop(path)
                in_use = idle_s < PERSISTED_FROM_S
                await ownership.give_up(connection, self._me, [path.row.id], were_in_use=in_use)
                self._doorbell.set()

    async def _overflow(self, connection: Connection) -> None:
        """What is bound to an address whose turn comes late leaves from the pool's others: better from elsewhere than not."""
        for path in list(self._paths.values()):
            if path.governor.wait(time.monotonic()) > _LONGEST_PINNED_WAIT_S:
                moved = await overflow.unpin(connection, source_id=path.source.id, group_id=path.row.group_id)
                if moved:
                    log.info("pinned_overflowed", path=path.row.id, group=path.row.group_key, entries=moved)

    async def _release_strays(self, connection: Connection) -> None:
        """What is claimed in our name and nobody here has in hand: after lost connections, or a fault of ours."""
        strays = [old for old in await claim.old_claims(connection, list(self._paths)) if self._is_stray(old)]
        for old in strays:
            log.warning(
                "stray_claim",
                recipient=str(old.entry.recipient_id),
                message=str(old.entry.message_id),
                is_marked=old.is_marked,
            )
        marked = [old for old in strays if old.is_marked]
        if marked:
            await recovery.free_marked(connection, marked)
        for old in strays:
            if not old.is_marked:
                await self._services.committer.release(Release(old.entry, old.path_id, old.fence))

    def _is_stray(self, old: OldClaim) -> bool:
        path = self._paths.get(old.path_id)
        return path is not None and old.fence == path.row.fence and old.entry.recipient_id not in path.claimed

    def _figures(self) -> dict[str, Any]:
        return {
            "paths": len(self._paths),
            "in_flight": sum(len(path.in_flight) for path in self._paths.values()),
            "connections": sum(path.connections.connections for path in self._paths.values()),
        }

    # ---------------------------------------------------------------- sweeping

    async def _sweep(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(settings.SWEEP_SECONDS)
            await recovery.sweep(connection)
            await sources.look_again(connection, node=self._me.node)
            await self._judge_strikes(connection)
            await self._services.unmatched.write(connection)
            await self._services.rule_hits.write(connection)
            await self._services.tallies.write(connection)
            await self._write_reports(connection)

    async def _judge_strikes(self, connection: Connection) -> None:
        """Suppressions follow refusals within a sweep, whatever beat and broker do. Nobody's mail waits for it."""
        sql = """SELECT EXISTS (SELECT 1 FROM delivery_strike
                                WHERE judged_at IS NULL AND due_at <= now() AND reply_class <> 'bad_domain')"""
        row = await (await connection.execute(sql)).fetchone()
        if row is not None and row[0]:
            await asyncio.to_thread(_judge_in_thread)

    async def _write_reports(self, connection: Connection) -> None:
        """What we owe to reverse-paths, some at a time: housekeeping writes the rest of many. No sweep waits for it."""
        if self._writing is not None and not self._writing.done():
            return
        sql = "SELECT EXISTS (SELECT 1 FROM delivery_owed_dsn WHERE written_at IS NULL AND due_at <= now())"
        row = await (await connection.execute(sql)).fetchone()
        if row is not None and row[0]:
            self._writing = asyncio.create_task(asyncio.to_thread(_write_in_thread), name="engine-reports")

    # ---------------------------------------------------------------- watched credentials

    async def _watch_credentials(self, connection: Connection) -> None:
        """What went out of credentials that nobody knows yet is judged before more of it does (delivery.brakes.watch).

        At once while there is something of ours, and now and then for those whose engine is gone.
        """
        gate = self._services.claimer.gate
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.SWEEP_SECONDS):
                    await gate.has_taken.wait()
            gate.has_taken.clear()
            while await self._is_watching(connection):
                await asyncio.to_thread(_watch_in_thread)
                await asyncio.sleep(_WATCH_S)

    async def _is_watching(self, connection: Connection) -> bool:
        sql = """SELECT EXISTS (SELECT 1 FROM delivery_unjudged)
                        OR EXISTS (SELECT 1 FROM delivery_queue_entry WHERE held_reason = 'first_results')"""
        row = await (await connection.execute(sql)).fetchone()
        return row is not None and bool(row[0])

    # ---------------------------------------------------------------- stopping

    async def _drain(self) -> None:
        """No new claims; what has not reached its final dot is given back, what has gets its answer or 25 seconds."""
        self._is_draining = True
        deadline = time.monotonic() + _DRAIN_S
        given_back = awaited = 0
        for path in self._paths.values():
            path.is_leaving = True
            for conversation in list(path.conversations.values()):
                if conversation.withdraw():
                    given_back += 1
                else:
                    awaited += 1
        log.info("engine_draining", given_back=given_back, awaited=awaited)
        # A claim that is under way just now gives back what it gets.
        while not all(path.is_at_rest for path in self._paths.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _leave(self) -> None:
        for path in list(self._paths.values()):
            if path.driver is not None:
                path.driver.cancel()
        self._router.stop()
        await self._services.claimer.stop()
        await self._services.committer.stop(drain_s=5)
        await asyncio.gather(*(path.connections.close_all() for path in self._paths.values()), return_exceptions=True)
        with suppress(psycopg.Error, PoolTimeout, OSError):
            async with self._pool.connection(timeout=2) as connection:
                await self._services.tallies.write(connection)
                # What is still in flight past its dot is recorded as ambiguous, by ourselves, before we go.
                await ownership.leave(connection, self._me, list(self._paths))
                await ownership.sign_off(connection, self._me)
                await connection.execute(wake.RING, [wake.LANES])
        await self._pool.close(timeout=2)


def _watch_in_thread() -> None:
    from delivery.brakes import watch  # imported where it is needed: it brings notices and the audit log along

    try:
        watch.judge()
    except DatabaseError as error:
        log.warning("watched_credentials_not_judged", error=str(error))
    except Exception:
        # The edge of a thread: a moment later it is tried again.
        log.exception("watch_broke")
    finally:
        django_connection.close()


def _write_in_thread() -> None:
    from delivery.reports import owed  # imported where it is needed: most engines never owe a report

    try:
        owed.write_waiting(most=_REPORTS_AT_ONCE)
    except DatabaseError as error:
        log.warning("reports_not_written", error=str(error))
    except Exception:
        # The edge of a thread: the next sweep tries again.
        log.exception("reports_broke")
    finally:
        django_connection.close()


def _judge_in_thread() -> None:
    try:
        strikes.judge_due()
    except DatabaseError as error:
        log.warning("strikes_not_judged", error=str(error))
    finally:
        django_connection.close()
