"""Scripted hosts inside a test or a benchmark, without files and without the sandbox's own process.

    with scripted_hosts({"127.64.200.1": {"rules": [{"at": "rcpt", "times": 1, "reply": "451 4.3.0 Later"}]}}) as hosts:
        ...                                          # deliver to hosts["127.64.200.1"].port
        [mail] = hosts.wait_for(1)                   # mail.content, mail.reverse_path, mail.recipients, mail.tls

`scripted_hosts` runs them in a thread of its own, for synchronous tests; `serve_hosts` inside the running event loop
(`await hosts.until(1)`). A behaviour is given in the words of the scenario file, as a `Behaviour`, or by the name of a
built-in one. With `zones` (records) a name server is started as well; `hosts.name_server` is its address and port.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sandbox.dns_server import DnsServer
from sandbox.layout import ZoneFault
from sandbox.scenarios import Behaviour, ZoneRecord, behaviour_from, read_scenarios
from sandbox.script import Script
from sandbox.smtp_host import SmtpHost
from sandbox.store import MemoryStore, ReceivedMail
from sandbox.zones import Zones

BehaviourLike = Behaviour | Mapping[str, Any] | str


@dataclass(slots=True)
class ScriptedHosts:
    """Running hosts by the address they were asked for, and the mail that they have taken together."""

    store: MemoryStore
    hosts: dict[str, SmtpHost] = field(default_factory=dict)
    name_server: tuple[str, int] | None = None

    def __getitem__(self, address: str) -> SmtpHost:
        return self.hosts[address]

    @property
    def mails(self) -> list[ReceivedMail]:
        """Everything that reached its final dot, also what was dropped without an answer, in order."""
        return list(self.store.mails)

    def wait_for(self, count: int, *, within_s: float = 10.0, recipient: str | None = None) -> list[ReceivedMail]:
        return self.store.wait_for(count, within_s=within_s, recipient=recipient)

    async def until(self, count: int, *, within_s: float = 10.0, recipient: str | None = None) -> list[ReceivedMail]:
        return await self.store.until(count, within_s=within_s, recipient=recipient)


@asynccontextmanager
async def serve_hosts(
    behaviours: Mapping[str, BehaviourLike],
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    zones: Iterable[ZoneRecord] | None = None,
    faults: Iterable[ZoneFault] = (),
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[ScriptedHosts]:
    """Hosts on the given addresses for the time of the block. Port 0 takes a free one for each."""
    running = ScriptedHosts(MemoryStore())
    name_server = DnsServer(Zones(zones, faults=faults)) if zones is not None else None
    try:
        for number, (address, behaviour) in enumerate(behaviours.items(), start=1):
            script = Script(as_behaviour(behaviour), clock=clock)
            host = SmtpHost(f"mx{number}.hosts.test", script, running.store, tls=tls)
            await host.start(address, port)
            running.hosts[address] = host
        if name_server is not None:
            running.name_server = await name_server.start("127.0.0.1", 0)
        yield running
    finally:
        for host in running.hosts.values():
            await host.stop()
        if running.name_server is not None and name_server is not None:
            await name_server.stop()


@contextmanager
def scripted_hosts(behaviours: Mapping[str, BehaviourLike], **options: Any) -> Iterator[ScriptedHosts]:
    """The same for synchronous code: the hosts run in a thread until the block is left."""
    started = threading.Event()
    running: list[ScriptedHosts] = []
    troubles: list[BaseException] = []
    stopping: list[Callable[[], object]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serve_hosts(behaviours, **options) as hosts:
            running.append(hosts)
            stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except (OSError, ValueError) as error:
            troubles.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="scripted-hosts", daemon=True)
    thread.start()
    started.wait()
    if troubles or not running:
        thread.join()
        raise troubles[0] if troubles else RuntimeError("the scripted hosts did not start")
    try:
        yield running[0]
    finally:
        stopping[0]()
        thread.join()


def as_behaviour(given: BehaviourLike) -> Behaviour:
    if isinstance(given, Behaviour):
        return given
    if isinstance(given, str):
        return read_scenarios()[given]
    return behaviour_from("scripted", given)
