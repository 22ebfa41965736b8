"""Answers from the DNS for routing mail and checking domains: asynchronous, cached, and honest about what went wrong.

A name that does not exist, a name without such records and a server that fails are three different things for mail:
the first two are facts, the last says nothing (RFC 5321 §5.1). So a name without the records asked for gives an
empty list, everything else raises `DnsFailure`, whose `is_transient` says whether asking again later can help.

Whether an answer was validated (DNSSEC) is known only from the AD flag, which the name server sets and anybody between it
and us could set too; so `Trust` says whose flag counts, and without it nothing is secure.

Facts are kept as long as their TTL says, absences as RFC 2308 says, failures a few seconds only, so that a thousand
waiting recipients of one broken domain ask once. Equal questions asked at the same time share one look-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from ipaddress import ip_address
from typing import Any, cast

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.reversename

MAX_CACHED_ANSWERS = 50_000
MAX_LOOKUPS_AT_ONCE = 100
MAX_TTL_SECONDS = 86_400
# RFC 2308 §5: absences longer than one to three hours have been found to cause trouble.
MAX_NEGATIVE_TTL_SECONDS = 3_600
FAILURE_TTL_SECONDS = 5
# RFC 9715: what fits through without fragmentation.
UDP_PAYLOAD_OCTETS = 1_232
MAX_ALIASES = 8
TRIES_PER_SERVER = 2


class DnsFailureKind(StrEnum):
    NXDOMAIN = "nxdomain"  # the name does not exist
    BAD_NAME = "bad_name"  # no DNS name can look like this
    SERVFAIL = "servfail"  # the server could not find out, or answered nonsense
    TIMEOUT = "timeout"
    REFUSED = "refused"  # the server does not answer us


_TRANSIENT = frozenset({DnsFailureKind.SERVFAIL, DnsFailureKind.TIMEOUT, DnsFailureKind.REFUSED})


class DnsFailure(Exception):
    """No answer: `kind` says why, `is_transient` whether the same question may be answered later."""

    def __init__(self, kind: DnsFailureKind, name: str, record_type: str) -> None:
        super().__init__(f"{name} {record_type}: {kind.value}")
        self.kind = kind
        self.name = name
        self.record_type = record_type

    @property
    def is_transient(self) -> bool:
        return self.kind in _TRANSIENT


@dataclass(frozen=True, slots=True, order=True)
class MxRecord:
    """A mail exchanger; `host` is lower case without the final dot, and empty for a null MX (RFC 7505)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """What a certificate must match (RFC 6698): usage, selector and matching type as numbers."""

    usage: int
    selector: int
    matching_type: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching_type} {self.data.hex()}"


class Trust(Enum):
    """Whose word that an answer was validated (the AD flag, RFC 4035 §3.2.3) is believed."""

    NOBODY = "nobody"
    LOOPBACK = "loopback"  # a name server on this machine: nobody can have changed its answer on the way
    ANYBODY = "anybody"


@dataclass(frozen=True)
class _Known:
    """One cached answer: records, or the kind of failure. `name` is where aliases led."""

    expires_at: float
    records: tuple[dns.rdata.Rdata, ...]
    failure: DnsFailureKind | None = None
    name: dns.name.Name | None = None
    is_secure: bool = False

    @cached_property
    def exchangers(self) -> tuple[MxRecord, ...]:
        """Of MX records. Every mail to the domain asks for them."""
        return tuple(sorted(MxRecord(record.preference, _host(record.exchange)) for record in self.records))  # type: ignore[attr-defined]


# As it was asked: a name is parsed only when nobody has asked for it before.
_Question = tuple[str, dns.rdatatype.RdataType]


class Resolver:
    """Asks one configured name server, or those of the system. Belongs to the event loop it is first used on.

    `timeout` is in seconds for each try; every server is tried twice. Names are given as A-labels, with or without
    the final dot, and are always taken as complete (no search list).
    """

    def __init__(
        self,
        nameserver: tuple[str, int] | None = None,
        timeout: float = 5.0,
        *,
        trust: Trust = Trust.NOBODY,
        max_cached: int = MAX_CACHED_ANSWERS,
        max_at_once: int = MAX_LOOKUPS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = [nameserver] if nameserver is not None else _system_servers()
        self._timeout = timeout
        self._trust = trust
        self._max_cached = max_cached
        self._turns = asyncio.Semaphore(max_at_once)
        self._clock = clock
        self._cache: dict[_Question, _Known] = {}
        self._asking: dict[_Question, asyncio.Task[_Known]] = {}

    async def mx(self, domain: str) -> list[MxRecord]:
        """The mail exchangers in order of preference; empty when the domain exists but has none."""
        return list((await self._known(domain, dns.rdatatype.MX)).exchangers)

    async def a(self, host: str) -> list[str]:
        return [record.address for record in await self._records(host, dns.rdatatype.A)]  # type: ignore[attr-defined]

    async def aaaa(self, host: str) -> list[str]:
        return [record.address for record in await self._records(host, dns.rdatatype.AAAA)]  # type: ignore[attr-defined]

    async def addresses(self, host: str, *, families: Sequence[int] = (4, 6)) -> list[str]:
        """IPv4 and IPv6 addresses, families in the order asked for.

        One family that fails does not hide the other's addresses, as broken AAAA look-ups are common; but when no
        address was found, a failure is raised, because then nobody knows that there are none.
        """
        lookups = [self.a(host) if family == 4 else self.aaaa(host) for family in families]
        answers: list[list[str] | BaseException]
        if self._remembers(host, _ADDRESSES):
            answers = [await _answer_or_error(lookup) for lookup in lookups]
        else:
            answers = await asyncio.gather(*lookups, return_exceptions=True)
        found: list[str] = []
        failures: list[DnsFailure] = []
        for answer in answers:
            if isinstance(answer, DnsFailure):
                failures.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found += answer
        if failures and not found:
            raise next((failure for failure in failures if failure.is_transient), failures[0])
        return found

    async def txt(self, name: str) -> list[str]:
        """Texts of the TXT records, the strings of one record put together (RFC 7208 §3.3)."""
        records = await self._records(name, dns.rdatatype.TXT)
        return [b"".join(record.strings).decode("utf-8", "replace") for record in records]  # type: ignore[attr-defined]

    async def cname(self, name: str) -> str | None:
        records = await self._records(name, dns.rdatatype.CNAME)
        return _host(records[0].target) if records else None  # type: ignore[attr-defined]

    async def ptr(self, address: str) -> list[str]:
        """Host names of an IP address."""
        reverse_name = dns.reversename.from_address(address)
        records = await self._records(reverse_name.to_text(), dns.rdatatype.PTR)
        return [_host(record.target) for record in records]  # type: ignore[attr-defined]

    async def tlsa(self, name: str) -> list[TlsaRecord]:
        """TLSA records that were validated; those that were not say nothing (RFC 7672 §2.1.1)."""
        known = await self._known(name, dns.rdatatype.TLSA)
        if not known.is_secure:
            return []
        return [
            TlsaRecord(record.usage, record.selector, record.mtype, bytes(record.cert))  # type: ignore[attr-defined]
            for record in known.records
        ]

    async def is_secure(self, name: str, record_type: str) -> bool:
        """Whether the answer, also that there are no such records, was validated. Failures are raised like any other."""
        return (await self._known(name, dns.rdatatype.from_text(record_type))).is_secure

    async def secure_host_name(self, host: str) -> str | None:
        """The name under which the host has its addresses, aliases followed; None unless that was validated."""
        for record_type in (dns.rdatatype.A, dns.rdatatype.AAAA):
            known = await self._known(host, record_type)
            if known.records:
                return _host(known.name) if known.is_secure and known.name is not None else None
        return None

    async def _records(self, name: str, record_type: dns.rdatatype.RdataType) -> tuple[dns.rdata.Rdata, ...]:
        return (await self._known(name, record_type)).records

    async def _known(self, name: str, record_type: dns.rdatatype.RdataType) -> _Known:
        question = _question(name, record_type)
        known = self._cache.get(question)
        if known is None or known.expires_at <= self._clock():
            known = await self._ask_once(question)
        if known.failure is not None:
            raise DnsFailure(known.failure, name, record_type.name)
        return known

    def _remembers(self, name: str, record_types: Sequence[dns.rdatatype.RdataType]) -> bool:
        """Whether all these questions can be answered without asking anybody."""
        now = self._clock()
        answers = [self._cache.get(_question(name, record_type)) for record_type in record_types]
        return all(known is not None and known.expires_at > now for known in answers)

    async def _ask_once(self, question: _Question) -> _Known:
        task = self._asking.get(question)
        if task is None:
            task = asyncio.create_task(self._look_up(question))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        # Shielded: whoever gives up waiting does not take the answer away from the others.
        return await asyncio.shield(task)

    async def _look_up(self, question: _Question) -> _Known:
        async with self._turns:
            known = await self._follow(question)
        self._remember(question, known)
        return known

    def _remember(self, question: _Question, known: _Known) -> None:
        self._cache.pop(question, None)
        if len(self._cache) >= self._max_cached:
            del self._cache[next(iter(self._cache))]  # the oldest
        self._cache[question] = known

    async def _follow(self, question: _Question) -> _Known:
        """Ask, and ask again for the target where a server answers with an alias but not with what it leads to."""
        text, record_type = question
        try:
            name = dns.name.from_text(text)
        except (dns.exception.DNSException, UnicodeError):
            return self._failed(DnsFailureKind.BAD_NAME)
        if name == dns.name.root:
            return self._failed(DnsFailureKind.BAD_NAME)
        ttl = MAX_TTL_SECONDS
        is_secure = True
        for _ in range(MAX_ALIASES):
            response = await self._ask(name, record_type)
            if isinstance(response, DnsFailureKind):
                return self._failed(response)
            is_secure = is_secure and bool(response.flags & dns.flags.AD)
            try:
                chain = cast(dns.message.QueryMessage, response).resolve_chaining()
            except dns.exception.DNSException:
                return self._failed(DnsFailureKind.SERVFAIL)
            ttl = min(ttl, chain.minimum_ttl)
            if chain.answer is not None:
                return _Known(self._clock() + ttl, tuple(chain.answer), None, chain.canonical_name, is_secure)
            negative_ttl = min(ttl, MAX_NEGATIVE_TTL_SECONDS)
            if response.rcode() == dns.rcode.NXDOMAIN:
                return _Known(self._clock() + negative_ttl, (), DnsFailureKind.NXDOMAIN)
            if not chain.cnames or response.authority:
                return _Known(self._clock() + negative_ttl, (), None, chain.canonical_name, is_secure)
            name = chain.canonical_name
        return self._failed(DnsFailureKind.SERVFAIL)

    def _failed(self, kind: DnsFailureKind) -> _Known:
        return _Known(self._clock() + FAILURE_TTL_SECONDS, (), kind)

    async def _ask(
        self, name: dns.name.Name, record_type: dns.rdatatype.RdataType
    ) -> dns.message.Message | DnsFailureKind:
        """The first usable response of any server; when there is none, the last failure.

        The AD flag is left standing only where it is believed.
        """
        failure = DnsFailureKind.TIMEOUT
        for _ in range(TRIES_PER_SERVER):
            for host, port in self._servers:
                query = dns.message.make_query(name, record_type, use_edns=0, payload=UDP_PAYLOAD_OCTETS)
                is_believed = self._believes(host)
                if is_believed:
                    query.flags |= dns.flags.AD  # RFC 6840 §5.7: please say whether you validated it
                try:
                    response, _by_tcp = await dns.asyncquery.udp_with_fallback(
                        query, host, timeout=self._timeout, port=port, ignore_unexpected=True, ignore_errors=True
                    )
                except dns.exception.Timeout:
                    failure = DnsFailureKind.TIMEOUT
                except (dns.exception.DNSException, OSError, EOFError):
                    failure = DnsFailureKind.SERVFAIL
                else:
                    if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        if not is_believed:
                            response.flags &= ~dns.flags.AD
                        return response
                    is_refusal = response.rcode() == dns.rcode.REFUSED
                    failure = DnsFailureKind.REFUSED if is_refusal else DnsFailureKind.SERVFAIL
        return failure

    def _believes(self, server: str) -> bool:
        return self._trust is Trust.ANYBODY or (self._trust is Trust.LOOPBACK and ip_address(server).is_loopback)


_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


def _question(name: str, record_type: dns.rdatatype.RdataType) -> _Question:
    return name.lower() if name.endswith("..") else name.lower().removesuffix("."), record_type


async def _answer_or_error(lookup: Coroutine[Any, Any, list[str]]) -> list[str] | BaseException:
    try:
        return await lookup
    except Exception as error:  # noqa: BLE001 - as gather hands it over
        return error


def _host(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _system_servers() -> list[tuple[str, int]]:
    try:
        system = dns.resolver.Resolver()
    except (dns.resolver.NoResolverConfiguration, OSError):
        return [("127.0.0.1", 53)]  # what resolv.conf(5) says of a missing file
    return [(server, system.port) for server in system.nameservers if isinstance(server, str)]
