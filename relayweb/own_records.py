"""What the installation's own DNS says, against what it needs. Decides nothing; `relay doctor` shows it.

What the DNS does not answer says nothing, and is a finding of its own: it is neither missing nor there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from delivery import spf
from delivery.dns import DnsFailure, Resolver
from delivery.domain_answers import report_domains, tags_of

# Any domain will do: the record that is looked for is a wildcard.
_SOME_DOMAIN = "customer.example"


@dataclass(frozen=True, slots=True)
class OwnNames:
    """``authors``: the domains the service itself writes from."""

    hostname: str
    bounce_domain: str
    authors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """``sentence`` says what was found or, where that is not well, what to publish."""

    name: str
    is_ok: bool
    sentence: str


async def look(names: OwnNames, resolver: Resolver) -> list[Seen]:
    looks = [
        _host(names, resolver),
        _bounce_mx(names, resolver),
        _bounce_spf(names, resolver),
        _report_permission(names, resolver),
        *(_dmarc(author, names, resolver) for author in names.authors),
    ]
    return list(await asyncio.gather(*looks))


async def _host(names: OwnNames, resolver: Resolver) -> Seen:
    name = f"address of {names.hostname}"
    try:
        found = await resolver.addresses(names.hostname)
    except DnsFailure as failure:
        if failure.is_transient:
            return _unanswered(name, failure)
        found = []
    if found:
        return Seen(name, True, ", ".join(found))
    return Seen(name, False, f"publish an A (or AAAA) record of {names.hostname}, or set RELAY_HOSTNAME")


async def _bounce_mx(names: OwnNames, resolver: Resolver) -> Seen:
    """Without it neither bounces nor complaints come back, and some receivers refuse the reverse-path."""
    name = f"MX of {names.bounce_domain}"
    try:
        hosts = [one.host for one in await resolver.mx(names.bounce_domain) if one.host]
    except DnsFailure as failure:
        if failure.is_transient:
            return _unanswered(name, failure)
        hosts = []
    if not hosts:
        return Seen(name, False, f"publish: {names.bounce_domain} MX 10 {names.hostname}; bounces come back there")
    for host in hosts:
        try:
            if await resolver.addresses(host):
                continue
        except DnsFailure as failure:
            if failure.is_transient:
                return _unanswered(name, failure)
        return Seen(name, False, f"{host} has no address: publish its A record")
    return Seen(name, True, ", ".join(hosts))


async def _bounce_spf(names: OwnNames, resolver: Resolver) -> Seen:
    """That it names each source address is looked at with the source."""
    name = f"SPF of {names.bounce_domain}"
    texts = await _texts(names.bounce_domain, resolver)
    if isinstance(texts, DnsFailure):
        return _unanswered(name, texts)
    records = [text for text in texts if spf.is_record(text)]
    if len(records) == 1:
        return Seen(name, True, records[0])
    if records:
        return Seen(name, False, f"there are {len(records)} records; leave one (RFC 7208 §4.5)")
    return Seen(name, False, f'publish: {names.bounce_domain} TXT "v=spf1 ip4:… -all" with every source address')


async def _report_permission(names: OwnNames, resolver: Resolver) -> Seen:
    """RFC 7489 §7.1: a domain agrees to take the reports about others."""
    where = f"*._report._dmarc.{names.bounce_domain}"
    texts = await _texts(where.replace("*", _SOME_DOMAIN), resolver)
    if isinstance(texts, DnsFailure):
        return _unanswered(f"TXT of {where}", texts)
    if any("dmarc1" in text.lower() for text in texts):
        return Seen(f"TXT of {where}", True, "receivers may send reports about customers' domains")
    return Seen(f"TXT of {where}", False, f'publish: {where} TXT "v=DMARC1", or no DMARC reports come for customers')


async def _dmarc(author: str, names: OwnNames, resolver: Resolver) -> Seen:
    name = f"DMARC of {author}"
    records: list[str] = []
    # The nearest record counts (RFC 9989 §4.10); what lies above is asked only where nothing is.
    labels = author.split(".")
    for start in range(max(1, len(labels) - 1)):
        texts = await _texts(f"_dmarc.{'.'.join(labels[start:])}", resolver)
        if isinstance(texts, DnsFailure):
            return _unanswered(name, texts)
        records = [text for text in texts if tags_of(text).get("v", "").upper() == "DMARC1"]
        if records:
            break
    rua = f"rua=mailto:dmarc@{names.bounce_domain}"
    if not records:
        return Seen(name, False, f'publish: _dmarc.{author} TXT "v=DMARC1; p=none; {rua}"')
    if not report_domains(records[0]):
        return Seen(name, False, f"no rua, so nobody tells of forged mail: add {rua}")
    return Seen(name, True, records[0])


async def _texts(name: str, resolver: Resolver) -> list[str] | DnsFailure:
    try:
        return await resolver.txt(name)
    except DnsFailure as failure:
        return failure if failure.is_transient else []


def _unanswered(name: str, failure: DnsFailure) -> Seen:
    return Seen(name, False, f"the DNS did not answer ({failure}): ask again, or look at RELAY_DNS")
