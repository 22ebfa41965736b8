"""Acceptance and engines on one event loop over a real database, with a fake DNS; remote hosts are scripted peers.

    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as peer:
        async with room.engine():
            message_id = await room.send("someone@far.test")
            assert (await room.settled(message_id)).state == "delivered"

``far.test`` leads to ``HOST``, ``farther.test`` to ``OTHER_HOST``; a test adds records of its own. What the database says
is asked on a connection of the test's own, and waited for with an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import connection, connections
from psycopg.rows import namedtuple_row

from accounts import database
from accounts.authentication import Principal
from accounts.identifiers import uuid7
from accounts.models import Tenant
from delivery.acceptance.accept import accept_submission
from delivery.acceptance.store import MessageStore
from delivery.acceptance.submission import Peer, Submission
from delivery.core.envelope import Envelope, EnvelopeRecipient
from delivery.core.mailbox import parse_mailbox
from delivery.engine.engine import Engine
from delivery.engine.ownership import WorkerIdentity
from delivery.models import Node, SendingDomain, SourceAddress, SourcePool, Stream
from relayweb import env
from tests.support.dns_server import FakeDns
from tests.support.engine_process import EngineProcess
from tests.support.journeys import Cast, make_cast
from tests.support.smtp_peer import SmtpPeer

HOST, OTHER_HOST = "127.64.7.1", "127.64.7.2"
RECORDS = {
    "far.test": {"MX": ["10 mx.far.test."]},
    "mx.far.test": {"A": [HOST]},
    "farther.test": {"MX": ["10 mx.farther.test."]},
    "mx.farther.test": {"A": [OTHER_HOST]},
}
NODE = "node1"
PATIENCE_S = 15.0


@dataclass
class World:
    """The rows everything starts from: Acme and Globex with a verified domain each, one source address."""

    cast: Cast
    source: SourceAddress
    test_backend: int  # the server process of the test's own connection
    principals: dict[UUID, Principal] = field(default_factory=dict)

    def principal(self, tenant: Tenant | None = None, **changes: Any) -> Principal:
        return replace(self.principals[(tenant or self.cast.acme).id], **changes)


def make_world() -> World:
    cast = make_cast()
    for tenant, name in ((cast.acme, "acme.example"), (cast.globex, "globex.example")):
        SendingDomain.objects.create(tenant=tenant, name=name, state="verified", ownership_token="-")
    node, _ = Node.objects.get_or_create(name=NODE)
    source = SourceAddress.objects.create(
        node=node, address=None, ehlo_name="out.relay.test", pool=SourcePool.objects.get(name="default")
    )
    world = World(cast, source, connection.connection.info.backend_pid)
    world.principals = {tenant.id: _principal_of(tenant) for tenant in (cast.acme, cast.globex)}
    return world


def _principal_of(tenant: Tenant) -> Principal:
    return Principal(
        tenant_id=tenant.id,
        tenant_slug=tenant.slug,
        tenant_state="active",
        tenant_is_system=False,
        credential_id=None,
        credential_kind="smtp",
        credential_use="application",
        is_test=False,
        stream_id=Stream.objects.get(tenant=tenant, is_default=True).id,
        pool_id=None,
        only_domain="",
        max_message_bytes=30_000_000,
        max_recipients=1_000,
        retention_days=7,
        scopes=frozenset(),
        hourly_limit=None,
        daily_limit=None,
        monthly_limit=None,
        credential_daily_limit=None,
        has_rate=False,
    )


def mail(*fields: str, author: str = "shop@acme.example", body: str = "Good morning.\r\n") -> bytes:
    """A message's content. Further ``fields`` stand below From."""
    lines = [f"From: {author}", *fields, "Subject: =?utf-8?B?44GT44KT44Gr44Gh44Gv?=", "", body]
    return "\r\n".join(lines).encode()


class _Store(MessageStore):
    """The tests' server runs without fsync, over which nothing is promised; its mail is taken all the same."""

    async def insist_on_durability(self, connection: psycopg.AsyncConnection[Any]) -> None:
        pass


class RunningEngine:
    def __init__(self, engine: Engine, identity: WorkerIdentity) -> None:
        self.engine = engine
        self.identity = identity
        self.task = asyncio.create_task(engine.run(), name=f"engine {identity.slot}")

    async def stop(self) -> None:
        self.engine.stop()
        await self.task


class Room:
    def __init__(self, world: World, *, dns: FakeDns | None = None) -> None:
        self.world = world
        self.dns = dns or FakeDns(RECORDS, ttl=1, negative_ttl=1)
        self.port = _free_port()
        self.store = _Store(name="test")
        self.connection: psycopg.AsyncConnection[Any]
        self._running: list[RunningEngine] = []

    async def __aenter__(self) -> Self:
        await self.dns.__aenter__()
        settings.DNS = env.Endpoint(*self.dns.address)
        settings.OUTBOUND_PORT = self.port
        await self.store.open()
        self.connection = await database.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self._running:
            if not running.task.done():
                await running.stop()
        await self.store.close()
        await self.connection.close()
        await self.dns.__aexit__(None, None, None)

    # Acting

    @contextlib.asynccontextmanager
    async def engine(self, worker: str = "worker-1", *, node: str = NODE) -> AsyncIterator[RunningEngine]:
        running = self.start_engine(worker, node=node)
        yield running
        if not running.task.done():
            await running.stop()

    def start_engine(self, worker: str = "worker-1", *, node: str = NODE) -> RunningEngine:
        identity = WorkerIdentity(f"{node}/{worker}", uuid7(), node, "test")
        self._running.append(RunningEngine(Engine(identity), identity))
        return self._running[-1]

    async def send(
        self,
        *recipients: str,
        principal: Principal | None = None,
        content: bytes | None = None,
        reverse_path: str | None = "shop@acme.example",
    ) -> UUID:
        principal = principal or self.world.principal()
        envelope = Envelope(
            parse_mailbox(reverse_path) if reverse_path else None,
            tuple(EnvelopeRecipient(parse_mailbox(recipient)) for recipient in recipients),
        )
        peer = Peer("192.0.2.7", "app.acme.example", "ESMTPSA")
        return await accept_submission(
            Submission(principal, envelope, mail() if content is None else content, peer), store=self.store
        )

    async def send_as_globex(self, *recipients: str, **changes: Any) -> UUID:
        return await self.send(
            *recipients,
            principal=self.world.principal(self.world.cast.globex, **changes),
            content=mail(author="info@globex.example"),
            reverse_path="info@globex.example",
        )

    # Looking

    async def rows(self, sql: str, *parameters: Any) -> list[Any]:
        async with self.connection.cursor(row_factory=namedtuple_row) as cursor:
            await cursor.execute(sql, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def value(self, sql: str, *parameters: Any) -> Any:
        return (await self.rows(sql, *parameters))[0][0]

    async def until(self, sql: str, *parameters: Any, seconds: float = PATIENCE_S) -> Any:
        """The first value of the first row, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := await self.value(sql, *parameters)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {sql} {parameters}\n{await self._where_mail_is()}")
            await asyncio.sleep(0.01)
        return value

    async def _where_mail_is(self) -> str:
        """For whoever reads why a test failed."""
        found = await self.rows(
            """SELECT recipient.state, recipient.reply, recipient.attempts, entry.path_id, entry.losses, entry.held_reason,
                      entry.next_attempt_at - now() AS due_in, count(*)
               FROM delivery_recipient AS recipient LEFT JOIN delivery_queue_entry AS entry ON entry.recipient_id = recipient.id
               GROUP BY 1, 2, 3, 4, 5, 6, 7 LIMIT 10"""
        )
        paths = await self.rows(
            """SELECT id, fence, leased_until - now() AS leased_for, suspended_until - now() AS rests_for, pace_share,
                      pace_reason, suspended_reason
               FROM delivery_path LIMIT 10"""
        )
        return "\n".join(map(str, [*found, *paths]))

    async def until_state(self, message_id: UUID, *states: str, seconds: float = PATIENCE_S) -> Any:
        """The first recipient, once every recipient of the message is in one of these states."""
        await self.until(
            "SELECT bool_and(state = ANY(%s)) FROM delivery_recipient WHERE message_id = %s",
            list(states),
            message_id,
            seconds=seconds,
        )
        return await self.recipient(message_id)

    async def until_somebody_waits_for_a_lock(self) -> None:
        # Within a transaction pg_stat_activity would say the same for ever.
        await self.until("SELECT count(*) FROM pg_locks WHERE NOT granted")

    async def recipient(self, message_id: UUID) -> Any:
        return (await self.recipients(message_id))[0]

    async def recipients(self, message_id: UUID) -> list[Any]:
        return await self.rows("SELECT * FROM delivery_recipient WHERE message_id = %s ORDER BY address", message_id)

    async def entry(self, message_id: UUID) -> Any:
        return (await self.rows("SELECT * FROM delivery_queue_entry WHERE message_id = %s", message_id))[0]

    async def attempts(self, message_id: UUID) -> list[Any]:
        return await self.rows("SELECT * FROM delivery_attempt WHERE message_id = %s ORDER BY id", message_id)

    async def events(self, message_id: UUID) -> list[str]:
        sql = "SELECT kind FROM delivery_event WHERE message_id = %s ORDER BY occurred_at, id"
        return [row.kind for row in await self.rows(sql, message_id)]

    async def path(self) -> Any:
        return (await self.rows("SELECT * FROM delivery_path ORDER BY id DESC LIMIT 1"))[0]


@contextlib.asynccontextmanager
async def doomed(room: Room, environment: dict[str, str], worker: str = "worker-1") -> AsyncIterator[EngineProcess]:
    dns = ":".join(map(str, room.dns.address))
    async with EngineProcess(
        f"{NODE}/{worker}", {**environment, "RELAY_DNS": dns, "RELAY_OUTBOUND_PORT": str(room.port)}
    ) as process:
        yield process


def heard(peer: SmtpPeer, verb: str, times: int = 1) -> bool:
    return sum(connection.verbs.count(verb) for connection in peer.connections) >= times


def delivered(peer: SmtpPeer) -> int:
    return sum(len(connection.contents) for connection in peer.connections)


async def in_thread(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Run what uses Django's connections beside the loop, as a request does, and close these afterwards."""

    def run() -> Any:
        try:
            return work(*arguments, **options)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def _free_port() -> int:
    """A port that is free on the addresses of all remote hosts."""
    for _ in range(50):  # what is free on one address may be taken on another
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            first = probes.enter_context(socket.socket())
            first.bind((HOST, 0))
            port: int = first.getsockname()[1]
            for host in (OTHER_HOST, "127.0.0.1"):
                probes.enter_context(socket.socket()).bind((host, port))
            return port
    raise AssertionError("no port is free on all addresses")
