"""One call: a POST to a URL that a stranger chose, made so that it can reach nothing but the outside world.

Names are looked up by our own resolver, every address of a name is checked, and only an address that was checked is
dialled, so a name that changes between the check and the connection gains nothing. Redirects are not followed, compressed
answers are not unpacked, and of an answer no more is read than the log can use. Whatever goes wrong is a value.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from delivery.core.webhooks import UrlUnusable, read_url
from delivery.dns import DnsFailure, Resolver
from delivery.models import WebhookOutcome
from delivery.transport.guard import DestinationGuard
from delivery.transport.tls_policy import TlsMode, TlsPolicy

MOST_OCTETS_READ = 64 * 1024
MOST_OCTETS_KEPT = 8 * 1024
BODY_SECONDS = 5.0
_MOST_FIELDS_KEPT = 40
_MOST_CHARACTERS_OF_A_FIELD = 300
_KEEP_ALIVE_S = 30.0
# Of the call that is made by this task.
_dialled: ContextVar[str | None] = ContextVar("dialled", default=None)
USER_AGENT = "relayweb-webhooks"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to. ``asked_for`` is the wait the endpoint asked for (Retry-After)."""

    outcome: WebhookOutcome
    duration_ms: int
    status: int | None = None
    error: str = ""
    address: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    is_body_cut: bool = False
    asked_for: timedelta | None = None

    @property
    def is_good(self) -> bool:
        return self.outcome is WebhookOutcome.OK

    @property
    def says_gone(self) -> bool:
        return self.status == 410


class AddressRefused(OSError):
    """A name leads to an address that is not dialled."""


class HttpCaller:
    """Makes calls, on the event loop it is opened on. Connections are kept and used again."""

    def __init__(
        self,
        resolver: Resolver,
        guard: DestinationGuard,
        *,
        timeout_s: float,
        any_port: bool = False,
        ca_file: str | None = None,
    ) -> None:
        self._guard = guard
        self._timeout_s = timeout_s
        self._any_port = any_port
        connector = _Noting(
            resolver=_Checked(resolver, guard),
            use_dns_cache=False,
            ssl=_tls_context(ca_file),
            limit=0,  # bounded by those who call
            keepalive_timeout=_KEEP_ALIVE_S,
            socket_factory=self._socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Never raises but CancelledError."""
        began = time.monotonic()
        _dialled.set(None)

        def failed(outcome: WebhookOutcome, error: str) -> Answer:
            return Answer(outcome, _milliseconds_since(began), error=error[:300], address=_dialled.get())

        try:
            read_url(url, any_port=self._any_port)
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, body, headers, began=began)
        except UrlUnusable as error:
            return failed(WebhookOutcome.REFUSED, f"the URL is none that is called: {error.reason}")
        except TimeoutError:
            return failed(WebhookOutcome.TIMEOUT, f"no answer within {self._timeout_s:g} seconds")
        except aiohttp.ClientConnectorDNSError as error:
            return failed(*_why_no_address(error))
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError) as error:
            return failed(WebhookOutcome.TLS, _text(error))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                return failed(WebhookOutcome.REFUSED, _text(error.os_error))
            return failed(WebhookOutcome.CONNECTION, _text(error.os_error))
        except AddressRefused as error:
            return failed(WebhookOutcome.REFUSED, _text(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return failed(WebhookOutcome.CONNECTION, _text(error))

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], *, began: float) -> Answer:
        async with self._session.post(
            url,
            data=body,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            allow_redirects=False,
        ) as response:
            octets, is_cut = await _read(response)
            return Answer(
                _outcome_of(response.status),
                _milliseconds_since(began),
                status=response.status,
                address=_dialled.get(),
                headers=_kept(response.headers),
                body=_readable(octets[:MOST_OCTETS_KEPT]),
                is_body_cut=is_cut or len(octets) > MOST_OCTETS_KEPT,
                asked_for=_asked_for(response.headers.get("Retry-After", "")),
            )

    def _socket(self, address: Any) -> socket.socket:
        """The last door: also a URL that names an address instead of a host comes through here."""
        family, kind, protocol, _name, target = address
        if not self._guard.is_allowed(target[0]):
            raise AddressRefused(f"{target[0]} is no address that is called")
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened


class _Noting(aiohttp.TCPConnector):
    """Notes which address a call went to, over a new connection or a kept one."""

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*arguments, **options)
        peer = connection.transport.get_extra_info("peername") if connection.transport is not None else None
        _dialled.set(peer[0].partition("%")[0] if peer else None)
        return connection


class _Checked(AbstractResolver):
    """Gives addresses only where all of them may be dialled."""

    def __init__(self, resolver: Resolver, guard: DestinationGuard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._resolver.addresses(host)
        except DnsFailure as failure:
            raise OSError(f"{host} could not be looked up: {failure.kind.value}") from failure
        if not addresses:
            raise OSError(f"{host} has no address")
        for address in addresses:
            if not self._guard.is_allowed(address):
                raise AddressRefused(f"{host} leads to {address}, which is no address that is called")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    return TlsPolicy(TlsMode.VERIFIED, ca_file).context()


def _outcome_of(status: int) -> WebhookOutcome:
    if 200 <= status < 300:
        return WebhookOutcome.OK
    return WebhookOutcome.REDIRECT if 300 <= status < 400 else WebhookOutcome.STATUS


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """What the log may show, and whether there was more. The status has decided already: the body is never waited for long."""
    octets = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in response.content.iter_any():
                octets += chunk
                if len(octets) > MOST_OCTETS_READ:
                    response.close()
                    return octets[:MOST_OCTETS_READ], True
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()
        return octets, True
    return octets, False


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    fields = list(headers.items())[:_MOST_FIELDS_KEPT]
    return {_plain(name)[:100]: _plain(value)[:_MOST_CHARACTERS_OF_A_FIELD] for name, value in fields}


def _readable(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").replace("\0", "�")


def _plain(text: str) -> str:
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else "�" for character in readable)


def _asked_for(text: str) -> timedelta | None:
    return timedelta(seconds=int(text)) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _why_no_address(error: aiohttp.ClientConnectorDNSError) -> tuple[WebhookOutcome, str]:
    cause = error.os_error
    return (WebhookOutcome.REFUSED if isinstance(cause, AddressRefused) else WebhookOutcome.DNS), _text(cause)


def _text(error: BaseException) -> str:
    return _plain(str(error) or type(error).__name__)


def _milliseconds_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
