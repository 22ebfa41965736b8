"""One look at an address through the DNS. Decides nothing and writes nothing down.

What the DNS says is missing is bad; what it does not answer is a check that failed, which says nothing about the address.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from delivery import spf_result
from delivery.dns import DnsFailure, Resolver
from delivery.source_checks import blocklists
from delivery.source_checks.blocklists import Answer, Blocklist, Found, Severity

_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10", "fc00::/7", "::1/128"),
    )
)


class Verdict(StrEnum):
    OK = "ok"
    BAD = "bad"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """``check``: reverse_dns, ehlo, spf, blocklist:KEY, port_25 or returns_tls. ``severity`` only of blocklists.

    ``found`` is what the DNS had, or the names in a certificate.
    """

    check: str
    verdict: Verdict
    detail: str = ""
    found: tuple[str, ...] = ()
    severity: Severity | None = None
    look_up: str = ""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "found": list(self.found)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look at, and whom to ask. ``query_keys`` by blocklist."""

    bounce_domain: str
    lists: Sequence[Blocklist]
    resolver: Resolver
    blocklist_resolver: Resolver
    query_keys: Mapping[str, str] = field(default_factory=dict)


async def look(addresses: Sequence[tuple[str, str]], asked: Asked) -> list[list[Result]]:
    """The results for each (address, EHLO name). Lists are tested once for all."""
    families = {ipaddress.ip_address(address).version for address, _ehlo in addresses if not is_private(address)}
    wanted = [(one, family) for one in asked.lists for family in one.families if family in families]
    faults = await asyncio.gather(
        *(
            blocklists.test(one, family, asked.blocklist_resolver, query_key=asked.query_keys.get(one.key, ""))
            for one, family in wanted
        )
    )
    tested: dict[tuple[str, int], str] = {
        (one.key, family): fault for (one, family), fault in zip(wanted, faults, strict=True)
    }
    return list(await asyncio.gather(*(_look_at(address, ehlo, asked, tested) for address, ehlo in addresses)))


async def _look_at(address: str, ehlo_name: str, asked: Asked, tested: Mapping[tuple[str, int], str]) -> list[Result]:
    if is_private(address):
        why = "a private address: receivers see another one"
        return [Result(check, Verdict.SKIPPED, why) for check in ("reverse_dns", "ehlo", "spf")]
    version = ipaddress.ip_address(address).version
    spoken = [one for one in asked.lists if version in one.families]
    return list(
        await asyncio.gather(
            _reverse_dns(address, asked.resolver),
            _ehlo(address, ehlo_name, asked.resolver),
            _spf(address, asked),
            *(_blocklist(one, address, tested[one.key, version], asked) for one in spoken),
        )
    )


async def _reverse_dns(address: str, resolver: Resolver) -> Result:
    """A PTR record, and a name in it that leads back (forward-confirmed): many receivers refuse an address without."""
    names = await _names_of(address, resolver)
    if isinstance(names, Result):
        return names
    if not names:
        return Result("reverse_dns", Verdict.BAD, "there is no PTR record")
    failures = []
    for name in names[:10]:
        try:
            if await _leads_to(name, address, resolver):
                return Result("reverse_dns", Verdict.OK, f"{name}, which leads back", tuple(names))
        except DnsFailure as failure:
            failures.append(str(failure))
    if failures:
        return Result("reverse_dns", Verdict.FAILED, failures[0], tuple(names))
    return Result("reverse_dns", Verdict.BAD, f"{', '.join(names[:3])} does not lead back to {address}", tuple(names))


async def _ehlo(address: str, ehlo_name: str, resolver: Resolver) -> Result:
    """The name it introduces itself with leads to it, and is the one its PTR record gives."""
    try:
        leads_here = await _leads_to(ehlo_name, address, resolver)
    except DnsFailure as failure:
        return Result("ehlo", Verdict.FAILED, str(failure))
    if not leads_here:
        return Result("ehlo", Verdict.BAD, f"{ehlo_name} does not lead to {address}")
    names = await _names_of(address, resolver)
    if isinstance(names, Result):
        return Result("ehlo", Verdict.FAILED, names.detail)
    if ehlo_name.lower() not in names:
        told = ", ".join(names[:3]) or "none"
        return Result("ehlo", Verdict.BAD, f"{ehlo_name} is not the name in the PTR record ({told})", tuple(names))
    return Result("ehlo", Verdict.OK, ehlo_name)


async def _spf(address: str, asked: Asked) -> Result:
    result, why = await spf_result.check_host(address, asked.bounce_domain, asked.resolver)
    detail = f"{asked.bounce_domain}: {result}, {why}"
    if result == "temperror":
        return Result("spf", Verdict.FAILED, detail)
    return Result("spf", Verdict.OK if result == "pass" else Verdict.BAD, detail)


async def _blocklist(blocklist: Blocklist, address: str, fault: str, asked: Asked) -> Result:
    check = f"blocklist:{blocklist.key}"
    found = Found(Answer.FAILED, why=fault)
    if not fault:
        key = asked.query_keys.get(blocklist.key, "")
        found = await blocklists.ask(blocklist, address, asked.blocklist_resolver, query_key=key)
    if found.answer is Answer.FAILED:
        return Result(check, Verdict.FAILED, found.why)
    if found.answer is Answer.CLEAR:
        return Result(check, Verdict.OK)
    names = ", ".join(dict.fromkeys(one.name for one in found.listings))
    codes = tuple(one.code for one in found.listings)
    return Result(check, Verdict.BAD, f"listed by {blocklist.title}: {names}", codes, found.severity, blocklist.look_up)


async def _names_of(address: str, resolver: Resolver) -> list[str] | Result:
    try:
        return await resolver.ptr(address)
    except DnsFailure as failure:
        return Result("reverse_dns", Verdict.FAILED, str(failure)) if failure.is_transient else []


async def _leads_to(name: str, address: str, resolver: Resolver) -> bool:
    """Raises DnsFailure where the DNS does not answer."""
    wanted = ipaddress.ip_address(address)
    try:
        found = await (resolver.a(name) if wanted.version == 4 else resolver.aaaa(name))
    except DnsFailure as failure:
        if failure.is_transient:
            raise
        return False
    return any(ipaddress.ip_address(one) == wanted for one in found)


def is_private(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in _PRIVATE)
