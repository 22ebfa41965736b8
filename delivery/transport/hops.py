"""From a recipient's domain to the addresses worth dialling, at most five, best first.

What the DNS says of a domain is either a list of hosts or a `Reply` with the phase routing: permanent where a fact
stands against delivery (no such domain, null MX, only forbidden addresses), transient where nobody could say. An
address found here was checked by the guard, and it is this address that is dialled: there is no second look-up in
which the answer could change.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from delivery.core.reply import Origin, Phase, Reply, made_up
from delivery.dns import DnsFailure, DnsFailureKind, Resolver
from delivery.transport.guard import DestinationGuard
from delivery.transport.tls_policy import TlsMode, TlsPolicy

MAX_HOPS = 5
# A domain can name any number of hosts; those beyond this are not even looked up.
MAX_HOSTS_LOOKED_UP = 10
IMPLICIT_TLS_PORT = 465


@dataclass(frozen=True, slots=True)
class MxHost:
    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class MxHosts:
    """The hosts that take a domain's mail, in order of preference.

    `is_implicit` says that the domain has no MX record and is its own host (RFC 5321 §5.1), `is_secure` that the answer,
    either way, was validated by DNSSEC.
    """

    domain: str
    hosts: tuple[MxHost, ...]
    is_implicit: bool = False
    is_secure: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(mx.host for mx in self.hosts)

    @property
    def best_names(self) -> tuple[str, ...]:
        """The hosts of the lowest preference value, sorted: the key by which domains are rolled up into one site."""
        best = self.hosts[0].preference
        return tuple(sorted({mx.host for mx in self.hosts if mx.preference == best}))


@dataclass(frozen=True, slots=True)
class Smarthost:
    """A configured next hop. `host` is a name or an IP address; on port 465 TLS begins at once (RFC 8314 §3.3)."""

    host: str
    port: int
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Hop:
    """One address to dial. `tls_name` is the name its certificate must bear where one is asked for.

    `tls`, where the host has one of its own (DANE), stands above the policy for all hops.
    """

    host: str
    port: int
    address: str
    tls_name: str
    has_implicit_tls: bool = False
    tls: TlsPolicy | None = None

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        return f"{self.host}[{self.address}]:{self.port}"


async def find_mx_hosts(domain: str, resolver: Resolver) -> MxHosts | Reply:
    """The mail hosts of a domain (an A-label), or the reply that stands for their absence."""
    try:
        records = await resolver.mx(domain)
        is_secure = await resolver.is_secure(domain, "MX")
        if records:
            named = tuple(MxHost(record.preference, record.host) for record in records if record.host)
            return MxHosts(domain, named, is_secure=is_secure) if named else _null_mx(domain)
        if await resolver.addresses(domain):
            return MxHosts(domain, (MxHost(0, domain),), is_implicit=True, is_secure=is_secure)
    except DnsFailure as failure:
        return _no_answer(domain, failure)
    return _routing(550, "5.1.2", f"{domain} has no mail host: neither MX nor address records")


async def find_hops(
    target: MxHosts | Smarthost,
    resolver: Resolver,
    *,
    port: int,
    guard: DestinationGuard | None,
    families: Sequence[int] = (4, 6),
    rng: random.Random | None = None,
) -> list[Hop] | Reply:
    """At most five hops, best first; or the reply that says why there is none.

    `port` is for MX hosts; a smarthost has its own. `guard` may be None for what an operator configured, never for
    what the DNS of a stranger says. `families` are those our source address can speak, preferred one first. Hosts
    of equal preference are shuffled with `rng`, and every host gets its turn before any gets a second one.
    """
    shuffler = rng or random.SystemRandom()
    if isinstance(target, Smarthost):
        hosts, port = [target.host.strip("[]")], target.port
        has_implicit_tls = port == IMPLICIT_TLS_PORT and target.tls is not TlsMode.NONE
    else:
        hosts, has_implicit_tls = _in_order(target, shuffler), False
    search = _Search(resolver, guard, families, shuffler, takes_literals=isinstance(target, Smarthost))
    addresses = await search.addresses(hosts)
    if not addresses:
        return search.absence(target)
    return [Hop(host, port, address, host, has_implicit_tls) for host, address in addresses]


class _Search:
    """Looks hosts up and keeps count of why addresses fell away."""

    def __init__(
        self,
        resolver: Resolver,
        guard: DestinationGuard | None,
        families: Sequence[int],
        shuffler: random.Random,
        *,
        takes_literals: bool,
    ) -> None:
        self._resolver = resolver
        self._guard = guard
        self._families = families
        self._shuffler = shuffler
        self._takes_literals = takes_literals
        self._refused: list[str] = []
        self._failures: list[DnsFailure] = []
        self._has_other_family = False

    async def addresses(self, hosts: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of host and address, in the order of the hosts."""
        hosts = hosts[:MAX_HOSTS_LOOKED_UP]
        found: list[tuple[int, int, str]] = []
        for first in range(0, len(hosts), MAX_HOPS):
            batch = hosts[first : first + MAX_HOPS]
            for position, addresses in enumerate(await self._addresses_of_each(batch), start=first):
                found += [(turn, position, address) for turn, address in enumerate(addresses)]
            if len(found) >= MAX_HOPS:
                break
        chosen = sorted(found, key=lambda item: item[:2])[:MAX_HOPS]
        chosen.sort(key=lambda item: (item[1], item[0]))
        return [(hosts[position], address) for _, position, address in chosen]

    async def _addresses_of_each(self, hosts: Sequence[str]) -> list[list[str]]:
        if len(hosts) == 1:
            return [await self._addresses_of(hosts[0])]
        return await asyncio.gather(*map(self._addresses_of, hosts))

    def absence(self, target: MxHosts | Smarthost) -> Reply:
        """Why nothing was found: transient where it can pass, or where a setting of our own is to blame."""
        transient = next((failure for failure in self._failures if failure.is_transient), None)
        if transient is not None:
            return _no_answer(transient.name, transient)
        if self._refused:
            # Only the fact is told: what our network looks like is nobody's business.
            return _routing(550, "5.4.4", f"mail is not delivered to the addresses of {_name_of(target)}")
        if self._has_other_family:
            family = " and ".join(f"IPv{family}" for family in self._families)
            return _routing(451, "4.4.4", f"no host of {_name_of(target)} can be reached by {family}")
        if isinstance(target, Smarthost):
            return _routing(451, "4.4.4", f"the smarthost {target.host} has no address")
        return _routing(550, "5.4.4", f"none of the mail hosts of {target.domain} has an address")

    async def _addresses_of(self, host: str) -> list[str]:
        literal = _as_literal(host)
        if literal is not None and not self._takes_literals:
            # An MX record must name a host; one that looks like an address is never read as one (RFC 5321 §5.1).
            self._refused.append(host)
            return []
        if literal is None and self._guard is not None and _is_local_name(host):
            self._refused.append(host)
            return []
        try:
            known = [str(literal)] if literal is not None else await self._resolver.addresses(host)
        except DnsFailure as failure:
            self._failures.append(failure)
            return []
        return self._usable(known)

    def _usable(self, addresses: list[str]) -> list[str]:
        allowed = [address for address in addresses if self._guard is None or self._guard.is_allowed(address)]
        self._refused += [address for address in addresses if address not in allowed]
        self._shuffler.shuffle(allowed)
        usable = [address for family in self._families for address in allowed if _family_of(address) == family]
        self._has_other_family |= len(usable) < len(allowed)
        return usable


def _in_order(mx_hosts: MxHosts, shuffler: random.Random) -> list[str]:
    keyed = [(mx.preference, shuffler.random(), mx.host) for mx in mx_hosts.hosts]
    # A host that is named twice keeps its better place.
    return list(dict.fromkeys(host for _, _, host in sorted(keyed)))


def _as_literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_local_name(host: str) -> bool:
    # RFC 6761 §6.3: localhost is never a question for the DNS. A name of digits only is an IPv4 address in disguise.
    last_label = host.rstrip(".").rpartition(".")[2].lower()
    return last_label == "localhost" or last_label.isdigit() or last_label.startswith("0x")


def _family_of(address: str) -> int:
    return 6 if ":" in address else 4


def _name_of(target: MxHosts | Smarthost) -> str:
    return target.domain if isinstance(target, MxHosts) else target.host


def _routing(code: int, enhanced: str, text: str) -> Reply:
    return made_up(Phase.ROUTING, code, enhanced, text, Origin.DNS)


def _null_mx(domain: str) -> Reply:
    # RFC 7505 §4.2: the code and status for a domain that says it takes no mail.
    return _routing(556, "5.1.10", f"{domain} does not accept mail (null MX)")


def _no_answer(name: str, failure: DnsFailure) -> Reply:
    match failure.kind:
        case DnsFailureKind.NXDOMAIN:
            return _routing(550, "5.1.2", f"the domain {name} does not exist")
        case DnsFailureKind.BAD_NAME:
            return _routing(550, "5.1.2", f"{name} is no domain name")
        case DnsFailureKind.TIMEOUT:
            why = "no name server answered in time"
        case DnsFailureKind.REFUSED:
            why = "the name server refused to answer"
        case DnsFailureKind.SERVFAIL:
            why = "the name server could not answer"
    return _routing(451, "4.4.3", f"{name} could not be looked up: {why}")
