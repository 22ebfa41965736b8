"""What a sending domain should publish, and what the DNS answers when asked for it.

A name that does not exist is a fact; a server that fails says nothing, and is told apart so that nobody loses a domain
over it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from delivery import spf
from delivery.dns import DnsFailure, DnsFailureKind, Resolver
from delivery.spf import Tree

# ---------------------------------------------------------------- what should be there


@dataclass(frozen=True, slots=True)
class WantedKey:
    selector: str
    target: str  # where the CNAME should lead
    public_record: str  # what is published there

    def name_at(self, domain: str) -> str:
        return f"{self.selector}._domainkey.{domain}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything a domain should publish."""

    domain: str
    registered_domain: str
    ownership_value: str
    keys: tuple[WantedKey, ...]
    bounce_target: str
    spf_include: str

    @property
    def ownership_name(self) -> str:
        return f"_relay.{self.domain}"

    @property
    def bounce_name(self) -> str:
        return f"bounce.{self.domain}"

    @property
    def dmarc_name(self) -> str:
        return f"_dmarc.{self.domain}"

    @property
    def spf_value(self) -> str:
        return f"v=spf1 include:{self.spf_include} ~all"

    @property
    def dmarc_value(self) -> str:
        return "v=DMARC1; p=none"


# ---------------------------------------------------------------- looking


@dataclass(frozen=True, slots=True)
class Answer:
    """Values, or nothing because there is nothing, or nothing because nobody said."""

    values: tuple[str, ...] = ()
    failure: DnsFailureKind | None = None
    is_unknown: bool = False

    @property
    def first(self) -> str | None:
        return self.values[0] if self.values else None

    @property
    def text(self) -> str | None:
        return " | ".join(self.values) or None


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything one look at a domain asked for."""

    ownership: Answer
    ownership_doubled: Answer
    cnames: dict[str, Answer]  # by selector
    keys: dict[str, Answer]
    key_addresses: dict[str, Answer]
    bounce_cname: Answer
    bounce_others: Answer
    spf: Answer
    dmarc: Answer
    parent_dmarc: Answer
    mx: Answer
    addresses: Answer
    spf_tree: Tree | None = None  # of the one valid SPF record
    report_permissions: dict[str, Answer] = field(default_factory=dict)  # by the domain that reports are sent to


async def look_up(wanted: Wanted, resolver: Resolver) -> Answers:
    names = {key.selector: key.name_at(wanted.domain) for key in wanted.keys}
    questions: dict[str, Coroutine[Any, Any, Answer]] = {
        "ownership": _texts(resolver, wanted.ownership_name),
        "ownership_doubled": _texts(resolver, f"{wanted.ownership_name}.{wanted.domain}"),
        "bounce_cname": _cname(resolver, wanted.bounce_name),
        "bounce_others": _anything(resolver, wanted.bounce_name),
        "spf": _texts(resolver, wanted.domain),
        "dmarc": _texts(resolver, wanted.dmarc_name),
        "parent_dmarc": _texts(resolver, f"_dmarc.{wanted.registered_domain}"),
        "mx": _exchangers(resolver, wanted.domain),
        "addresses": _addresses(resolver, wanted.domain),
    }
    for selector, name in names.items():
        questions[f"cname {selector}"] = _cname(resolver, name)
        questions[f"key {selector}"] = _texts(resolver, name)
        questions[f"address {selector}"] = _addresses(resolver, name)
    found = dict(zip(questions, await asyncio.gather(*questions.values()), strict=True))
    per_selector = {
        kind: {selector: found.pop(f"{kind} {selector}") for selector in names} for kind in ("cname", "key", "address")
    }
    tree, permissions = await asyncio.gather(
        _spf_tree(resolver, wanted.domain, found["spf"]), _report_permissions(resolver, wanted, found["dmarc"])
    )
    return Answers(
        cnames=per_selector["cname"],
        keys=per_selector["key"],
        key_addresses=per_selector["address"],
        spf_tree=tree,
        report_permissions=permissions,
        **found,
    )


async def _spf_tree(resolver: Resolver, domain: str, texts: Answer) -> spf.Tree | None:
    records = [text for text in texts.values if spf.is_record(text)]
    if len(records) != 1:
        return None
    try:
        return await spf.evaluate(domain, records[0], resolver)
    except spf.Malformed:
        return None


async def _report_permissions(resolver: Resolver, wanted: Wanted, dmarc: Answer) -> dict[str, Answer]:
    """RFC 9990 §4: who is to receive another domain's reports must have said so. The first few receivers only."""
    records = [text for text in dmarc.values if DMARC_RECORD.match(text)]
    foreign = [
        domain
        for domain in (report_domains(records[0]) if records else [])
        if not _is_same_organisation(domain, wanted.registered_domain)
    ][:_MOST_REPORT_RECEIVERS]
    names = [permission_name(wanted.domain, domain) for domain in foreign]
    answers = await asyncio.gather(*(_texts(resolver, name) for name in names))
    return dict(zip(foreign, answers, strict=True))


async def _texts(resolver: Resolver, name: str) -> Answer:
    return await _answer(resolver.txt(name))


async def _addresses(resolver: Resolver, name: str) -> Answer:
    return await _answer(resolver.addresses(name))


async def _cname(resolver: Resolver, name: str) -> Answer:
    async def ask() -> list[str]:
        target = await resolver.cname(name)
        return [target] if target else []

    return await _answer(ask())


async def _exchangers(resolver: Resolver, name: str) -> Answer:
    async def ask() -> list[str]:
        return [record.host for record in await resolver.mx(name)]

    return await _answer(ask())


async def _anything(resolver: Resolver, name: str) -> Answer:
    """Types that stand at a name: none of them can stand beside a CNAME (RFC 1034 §3.6.2)."""
    answers = await asyncio.gather(_exchangers(resolver, name), _texts(resolver, name), _addresses(resolver, name))
    types = [kind for kind, answer in zip(("MX", "TXT", "A/AAAA"), answers, strict=True) if answer.values]
    return Answer(tuple(types), is_unknown=any(answer.is_unknown for answer in answers))


async def _answer(question: Coroutine[Any, Any, list[str]]) -> Answer:
    try:
        return Answer(tuple(await question))
    except DnsFailure as failure:
        return Answer(failure=failure.kind, is_unknown=failure.is_transient)


# ---------------------------------------------------------------- records as text

DMARC_RECORD = re.compile(r"v\s*=\s*DMARC1\s*(?:;|$)", re.IGNORECASE)
_REPORT_TO = re.compile(r"mailto:[^@,\s]+@([^!,\s]+)", re.IGNORECASE)
_MOST_REPORT_RECEIVERS = 4


def report_domains(record: str) -> list[str]:
    """Where a DMARC record has its aggregate reports sent."""
    return list(dict.fromkeys(domain.lower() for domain in _REPORT_TO.findall(tags_of(record).get("rua", ""))))


def permission_name(domain: str, receiver: str) -> str:
    return f"{domain}._report._dmarc.{receiver}"


def _is_same_organisation(domain: str, registered_domain: str) -> bool:
    return domain == registered_domain or domain.endswith(f".{registered_domain}")


def tags_of(record: str) -> dict[str, str]:
    """tag=value lists of DKIM (RFC 6376 §3.2) and DMARC, names in lower case."""
    tags: dict[str, str] = {}
    for part in record.split(";"):
        name, separator, value = part.partition("=")
        if separator:
            tags.setdefault(name.strip().lower(), value.strip())
    return tags
