"""Whether an SPF record lets an address send (check_host of RFC 7208), for records of our own: no macros, no ptr.

What a receiver could not evaluate either is ``permerror``; what the DNS did not answer now is ``temperror``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from delivery.dns import DnsFailure, Resolver
from delivery.spf import MOST_LOOKUPS, WITHIN_S, Malformed, Term, is_record, read_terms

_RESULT_OF_QUALIFIER = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}

Record = TypeVar("Record")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class _Budget:
    """§4.6.4: terms that need the DNS, over all includes."""

    left: int = MOST_LOOKUPS

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Permanent("more than ten look-ups")


class _Permanent(Exception):
    pass


class _Temporary(Exception):
    pass


async def check_host(address: str, domain: str, resolver: Resolver) -> tuple[str, str]:
    """One of pass, fail, softfail, neutral, none, permerror, temperror; and the term that matched, or what was wrong."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return await _check(ipaddress.ip_address(address), domain, resolver, _Budget())
    except _Permanent as error:
        return "permerror", str(error)
    except _Temporary as error:
        return "temperror", str(error)
    except TimeoutError:
        return "temperror", "it took too long"


async def _check(address: Address, domain: str, resolver: Resolver, budget: _Budget) -> tuple[str, str]:
    records = [text for text in await _found(resolver.txt(domain)) if is_record(text)]
    if not records:
        return "none", f"{domain} has no SPF record"
    if len(records) > 1:
        raise _Permanent(f"{domain} has {len(records)} SPF records")
    try:
        terms = read_terms(records[0])
    except Malformed as error:
        raise _Permanent(f"{error} in the record of {domain}") from None
    for term in terms:
        if term.name == "redirect":
            budget.spend()
            result, why = await _check(address, term.value, resolver, budget)
            if result == "none":
                raise _Permanent(f"{term.value} has no SPF record")
            return result, why
        if await _matches(term, address, domain, resolver, budget):
            return _RESULT_OF_QUALIFIER[term.qualifier], f"{term.text} of {domain}"
    return "neutral", f"nothing in the record of {domain} matches"


async def _matches(term: Term, address: Address, domain: str, resolver: Resolver, budget: _Budget) -> bool:
    if term.name == "all":
        return True
    if term.name in {"ip4", "ip6"}:
        return address in ipaddress.ip_network(term.text.partition(":")[2], strict=False)
    budget.spend()
    name = term.value or domain
    if "%" in name or term.name == "ptr":
        raise _Permanent(f"{term.text} of {domain} is not evaluated here")
    if term.name == "include":
        result, why = await _check(address, name, resolver, budget)
        if result == "none":
            raise _Permanent(why)
        return result == "pass"
    if term.name == "exists":
        return bool(await _found(resolver.a(name)))
    hosts = [record.host for record in await _found(resolver.mx(name))] if term.name == "mx" else [name]
    lengths = _lengths(term.text)
    for host in hosts[:10]:
        asked = resolver.a(host) if address.version == 4 else resolver.aaaa(host)
        for found in await _found(asked):
            if address in ipaddress.ip_network(f"{found}/{lengths[address.version]}", strict=False):
                return True
    return False


def _lengths(text: str) -> dict[int, int]:
    """§5.6: "/24", "//64" or "/24//64" behind a or mx."""
    four, _double, six = text.partition("//")
    length = four.partition("/")[2]
    return {4: int(length) if length else 32, 6: int(six) if six else 128}


async def _found(question: Awaitable[list[Record]]) -> list[Record]:
    """§5: a name that does not exist matches nothing; a server that does not answer leaves it open."""
    try:
        return await question
    except DnsFailure as failure:
        if failure.is_transient:
            raise _Temporary(str(failure)) from None
        return []
