"""Puts the small Internet together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from sandbox import certificates
from sandbox.answering import Answering
from sandbox.configuration import Bind, Configuration
from sandbox.dns_server import DnsServer
from sandbox.inbox_page import InboxPage
from sandbox.layout import ADDRESSES, Layout, PlacedHost, lay_out
from sandbox.scenarios import Behaviour, ScenarioError, read_scenarios
from sandbox.script import Script
from sandbox.smtp_host import SmtpHost
from sandbox.store import FolderStore
from sandbox.zones import ZoneFileError, Zones

LOG = logging.getLogger("sandbox")

_Bound = TypeVar("_Bound")


class CannotStartError(Exception):
    """The sandbox cannot start; the text is a sentence for the operator."""


class Sandbox:
    """All servers of the sandbox. `start` raises `CannotStartError` and leaves nothing running."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._hosts: list[SmtpHost] = []
        self._name_servers: list[DnsServer] = []
        self._store = FolderStore(configuration.folder)
        self._page: InboxPage | None = None
        self._answering: Answering | None = None

    async def start(self) -> None:
        configuration = self._configuration
        behaviours = load_behaviours(configuration)
        try:
            layout = lay_out(behaviours, name_server_address=configuration.dns_binds[0][0])
            zones = Zones(layout.records, faults=layout.faults, folder=configuration.folder / "zones")
        except (ScenarioError, ZoneFileError) as error:
            raise CannotStartError(f"The scenarios cannot be used: {error}") from error
        try:
            (configuration.folder / "zones").mkdir(parents=True, exist_ok=True)
            self._store.open()
            tls = certificates.server_context(configuration.folder / "tls", _certified_names(layout))
        except OSError as error:
            raise CannotStartError(f"{configuration.folder} cannot be used: {error}.") from error
        self._page = InboxPage(self._store, zones, list(behaviours.values()))
        self._answering = Answering(zones, port=configuration.smtp_port)
        try:
            for bind in configuration.dns_binds:
                name_server = DnsServer(zones)
                await _bound(name_server.start, bind, "DNS", "RELAY_SANDBOX_DNS_BIND")
                self._name_servers.append(name_server)
            scripts = {name: Script(behaviour) for name, behaviour in behaviours.items()}
            for placed in layout.hosts:
                script = scripts[placed.behaviour.name]
                host = SmtpHost(placed.name, script, self._store, tls=tls, answering=self._answering)
                bind = (placed.address, configuration.smtp_port)
                await _bound(host.start, bind, "SMTP", "RELAY_SANDBOX_SMTP_PORT")
                self._hosts.append(host)
            for bind in configuration.http_binds:
                await _bound(self._page.start, bind, "HTTP", "RELAY_SANDBOX_HTTP_BIND")
        except CannotStartError:
            await self.stop()
            raise

    def ready_line(self) -> str:
        configuration = self._configuration
        return (
            f"sandbox ready dns={_shown(configuration.dns_binds)} smtp={ADDRESSES}:{configuration.smtp_port} "
            f"http={_shown(configuration.http_binds)}"
        )

    async def stop(self) -> None:
        if self._answering is not None:
            await self._answering.stop()
        await asyncio.gather(*(host.stop() for host in self._hosts))
        if self._page is not None:
            await self._page.stop()
        for name_server in self._name_servers:
            await name_server.stop()
        await self._store.close()


def load_behaviours(configuration: Configuration) -> Mapping[str, Behaviour]:
    more = [configuration.scenario_file] if configuration.scenario_file is not None else []
    try:
        return read_scenarios(*more)
    except ScenarioError as error:
        raise CannotStartError(str(error)) from error


async def _bound(start: Callable[[str, int], Awaitable[_Bound]], bind: Bind, what: str, variable: str) -> _Bound:
    host, port = bind
    try:
        return await start(host, port)
    except OSError as error:
        shown = _shown([bind])
        if error.errno == errno.EADDRINUSE:
            raise CannotStartError(
                f"{shown} ({what}) is already in use: stop what runs there, or set {variable}."
            ) from error
        reason = error.strerror or error
        raise CannotStartError(f"{shown} ({what}) cannot be opened ({reason}): set {variable}.") from error


def _shown(binds: Iterable[Bind]) -> str:
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in binds)


def _certified_names(layout: Layout) -> set[str]:
    return {name for host in layout.hosts for name in _names_of(host)}


def _names_of(host: PlacedHost) -> tuple[str, str]:
    return host.name, f"*.{host.behaviour.domain}"
