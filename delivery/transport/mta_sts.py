"""MTA-STS (RFC 8461): a domain's own word on which hosts take its mail and that their certificates must be trusted.

The word is fetched over HTTPS from the domain itself when its TXT record announces a new one, and holds for as long as it
says, even if later neither the record nor the policy can be had: that is its protection against whoever can suppress
them. So policies are kept in a store, and a domain that was never seen to have one is delivered to as ever when anything
fails. After a failed fetch it is not tried again for five minutes.

The policy host is named by a customer's recipient: it is looked up once, all its addresses must be such as mail may go
to, one of these is dialled, redirects are not followed, and time and size are bounded.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from delivery.dns import DnsFailure, Resolver
from delivery.transport.guard import DestinationGuard
from delivery.transport.tls_policy import TlsMode, TlsPolicy

HTTPS_PORT = 443
MAX_POLICY_OCTETS = 64 * 1024
FETCH_SECONDS = 30.0
MAX_AGE_SECONDS = 31_557_600  # RFC 8461 §3.2: about a year
PAUSE_AFTER_FAILURE_SECONDS = 300.0  # §3.3
REFRESH_AFTER = timedelta(days=1)  # §10.2, so that a policy does not run out unnoticed
MAX_REMEMBERED_DOMAINS = 10_000
# How long to believe that the store has no policy of a domain; another worker may have found one.
ABSENCE_SECONDS = 300.0

_RECORD = re.compile(r"v=STSv1[ \t]*;")
_RECORD_ID = re.compile(r";[ \t]*id[ \t]*=[ \t]*([A-Za-z0-9]{1,32})[ \t]*(?:;|\Z)")
_MX_PATTERN = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{1,63}")

Note = Callable[[str], None]


class StsMode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PolicyText:
    """What a policy file says."""

    mode: StsMode
    mx: tuple[str, ...]
    max_age: timedelta


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A domain's policy as we know it. `policy_id` is the one that its TXT record announced."""

    domain: str
    policy_id: str
    mode: StsMode
    mx: tuple[str, ...]
    fetched_at: datetime
    expires_at: datetime

    def names(self, host: str) -> bool:
        """Whether one of the patterns stands for the MX host (§4.1): `*.` is one label, the leftmost."""
        return any(
            host.partition(".")[2] == pattern[2:] if pattern.startswith("*.") else host == pattern
            for pattern in self.mx
        )


class PolicyStore(Protocol):
    """Where policies outlive the process."""

    async def load(self, domain: str) -> StsPolicy | None: ...
    async def save(self, policy: StsPolicy) -> None: ...


class PolicyUnavailable(Exception):
    """The policy could not be fetched, or is none. The text is for people."""


def announced_id(texts: list[str]) -> str | None:
    """The id in the TXT records of `_mta-sts.<domain>`; None where there is not exactly one good one (§3.1)."""
    records = [text for text in texts if _RECORD.match(text)]
    match = _RECORD_ID.search(records[0]) if len(records) == 1 else None
    return match[1] if match else None


def parse_policy(octets: bytes) -> PolicyText:
    """Read a policy file (§3.2). Unknown fields are ignored, and repeated ones but mx. Raises PolicyUnavailable."""
    try:
        lines = octets.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise PolicyUnavailable("the policy is no text") from None
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if not colon:
            raise PolicyUnavailable("the policy is malformed")
        if name == "mx":
            patterns.append(value.lower().removesuffix("."))
        else:
            fields.setdefault(name, value)
    max_age = fields.get("max_age", "")
    if fields.get("version") != "STSv1" or fields.get("mode") not in set(StsMode):
        raise PolicyUnavailable("the policy has no version or mode that is known")
    if not re.fullmatch(r"[0-9]{1,10}", max_age):
        raise PolicyUnavailable("the policy does not say how long it holds")
    mode = StsMode(fields["mode"])
    if mode is not StsMode.NONE and not (patterns and all(map(_MX_PATTERN.fullmatch, patterns))):
        raise PolicyUnavailable("the policy names no MX hosts, or not properly")
    return PolicyText(mode, tuple(dict.fromkeys(patterns)), timedelta(seconds=min(int(max_age), MAX_AGE_SECONDS)))


class PolicyFetcher:
    """Fetches a domain's policy file. `port` and `ca_file` are for tests; None are the system's authorities."""

    def __init__(
        self,
        resolver: Resolver,
        guard: DestinationGuard,
        *,
        port: int = HTTPS_PORT,
        ca_file: str | None = None,
        within: float = FETCH_SECONDS,
    ) -> None:
        self._resolver = resolver
        self._guard = guard
        self._port = port
        self._ca_file = ca_file
        self._within = within

    async def fetch(self, domain: str) -> PolicyText:
        """Raises PolicyUnavailable."""
        try:
            async with asyncio.timeout(self._within):
                return parse_policy(await self._get(f"mta-sts.{domain}"))
        except TimeoutError:
            raise PolicyUnavailable(f"not fetched within {self._within:g} seconds") from None
        except DnsFailure as failure:
            raise PolicyUnavailable(f"the policy host could not be looked up: {failure.kind.value}") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise PolicyUnavailable(
                f"the policy host's certificate is not trusted: {error.certificate_error}"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PolicyUnavailable(f"the policy could not be fetched: {error or type(error).__name__}") from error

    async def _get(self, host: str) -> bytes:
        addresses = await self._checked_addresses(host)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(host, addresses), ssl=self._context(), limit=1, force_close=True, use_dns_cache=False
        )
        port = "" if self._port == HTTPS_PORT else f":{self._port}"
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            ) as session,
            session.get(
                f"https://{host}{port}/.well-known/mta-sts.txt",
                allow_redirects=False,  # §3.3: must not be followed
                headers={"User-Agent": "relayweb", "Accept": "text/plain", "Accept-Encoding": "identity"},
            ) as response,
        ):
            if response.status != 200:
                raise PolicyUnavailable(f"the policy host answers {response.status}")
            if response.content_type != "text/plain":
                raise PolicyUnavailable(f"the policy is {response.content_type}, not text/plain")
            return await _read(response.content)

    async def _checked_addresses(self, host: str) -> list[str]:
        addresses = await self._resolver.addresses(host)
        if not addresses:
            raise PolicyUnavailable("the policy host has no address")
        if not all(map(self._guard.is_allowed, addresses)):
            raise PolicyUnavailable("the policy host has an address that is not dialled")
        return addresses

    def _context(self) -> ssl.SSLContext:
        return TlsPolicy(TlsMode.VERIFIED, self._ca_file).context()


class StsPolicies:
    """The policies of all domains, remembered. Belongs to the event loop it is used on."""

    def __init__(
        self,
        resolver: Resolver,
        fetcher: PolicyFetcher,
        store: PolicyStore,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
        clock: Callable[[], float] = time.monotonic,
        max_domains: int = MAX_REMEMBERED_DOMAINS,
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._store = store
        self._now = now
        self._clock = clock
        self._policies = _Bounded[StsPolicy](max_domains)
        self._absent_until = _Bounded[float](max_domains)
        self._failures = _Bounded[tuple[float, str]](max_domains)
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def of(self, domain: str, *, note: Note = lambda _: None) -> StsPolicy | None:
        """The policy that holds for mail to a domain (an A-label) now. `note` gets what people should know of it.

        What `store.load` raises comes through: without knowing, mail might go out with less protection than promised.
        """
        policy = await self._known(domain)
        announced = await self._announced(domain)
        if announced is None or (policy is not None and policy.policy_id == announced):
            if policy is not None and announced is not None and policy.fetched_at + REFRESH_AFTER < self._now():
                self._begin_fetch(domain, announced)
            return policy
        if self._pauses(domain, note):
            return policy
        stored = await self._store.load(domain)  # another worker may have been first
        if stored is not None and stored.policy_id == announced and self._holds(stored):
            self._policies.put(domain, stored)
            return stored
        task = self._begin_fetch(domain, announced)
        if task is not None:
            await asyncio.shield(task)
        self._pauses(domain, note)
        return await self._known(domain)

    async def _announced(self, domain: str) -> str | None:
        try:
            return announced_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except DnsFailure:
            return None  # §3.3: as if there were none; a policy we know holds on

    async def _known(self, domain: str) -> StsPolicy | None:
        policy = self._policies.get(domain)
        if policy is None and (self._absent_until.get(domain) or 0.0) <= self._clock():
            policy = await self._store.load(domain)
            if policy is None:
                self._absent_until.put(domain, self._clock() + ABSENCE_SECONDS)
            else:
                self._policies.put(domain, policy)
        return policy if policy is not None and self._holds(policy) else None

    def _holds(self, policy: StsPolicy) -> bool:
        return self._now() < policy.expires_at

    def _pauses(self, domain: str, note: Note) -> bool:
        """Whether a fetch failed a moment ago; why, is noted."""
        failed_until, why = self._failures.get(domain) or (0.0, "")
        if failed_until <= self._clock():
            return False
        note(f"MTA-STS: {why}")
        return True

    def _begin_fetch(self, domain: str, policy_id: str) -> asyncio.Task[None] | None:
        """The fetch under way or a new one; None in the pause after a failure."""
        task = self._fetching.get(domain)
        if task is None and not self._pauses(domain, lambda _: None):
            task = asyncio.create_task(self._fetch(domain, policy_id), name=f"mta-sts {domain}")
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _fetch(self, domain: str, policy_id: str) -> None:
        try:
            text = await self._fetcher.fetch(domain)
        except PolicyUnavailable as failure:
            self._failures.put(domain, (self._clock() + PAUSE_AFTER_FAILURE_SECONDS, str(failure)))
            return
        now = self._now()
        policy = StsPolicy(domain, policy_id, text.mode, text.mx, fetched_at=now, expires_at=now + text.max_age)
        self._failures.drop(domain)
        self._policies.put(domain, policy)
        await self._store.save(policy)


Value = TypeVar("Value")


class _Bounded(Generic[Value]):
    """Values by domain, the oldest forgotten first: which domains there are is decided by whoever sends mail."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[str, Value] = {}

    def get(self, domain: str) -> Value | None:
        return self._values.get(domain)

    def put(self, domain: str, value: Value) -> None:
        self._values.pop(domain, None)
        if len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[domain] = value

    def drop(self, domain: str) -> None:
        self._values.pop(domain, None)


class _Pinned(AbstractResolver):
    """Knows one host, by the addresses that were checked; nothing else is dialled."""

    def __init__(self, host: str, addresses: list[str]) -> None:
        self._host = host
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self._host:
            raise OSError(f"{host} was not looked up")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


async def _read(stream: aiohttp.StreamReader) -> bytes:
    body = b""
    async for chunk in stream.iter_chunked(8192):
        body += chunk
        if len(body) > MAX_POLICY_OCTETS:
            raise PolicyUnavailable(f"the policy is longer than {MAX_POLICY_OCTETS} octets")
    return body
