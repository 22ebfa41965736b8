"""Asking domain blocklists (RFC 5782 §3), and reading what they answer. Each is tested first, or nothing it says counts."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from delivery.dns import DnsFailure, Resolver
from delivery.source_checks.blocklists import Answer, Found, Listing, Severity
from delivery.source_checks.looking import Result, Verdict

_DATA = Path(__file__).with_name("lists.toml")


@dataclass(frozen=True, slots=True)
class DomainList:
    """``codes`` by whole answer, or ``bits`` by bit of the last octet: one of the two."""

    key: str
    title: str
    zone: str
    key_zone: str
    look_up: str
    must_be: str
    must_not_be: str
    errors: frozenset[str]
    codes: Mapping[str, Listing]
    bits: Mapping[int, Listing]

    def name_of(self, domain: str, query_key: str) -> str:
        return f"{domain}.{self.key_zone.format(key=query_key) if query_key and self.key_zone else self.zone}"


@cache
def domain_lists() -> Mapping[str, DomainList]:
    return {one["key"]: _list(one) for one in tomllib.loads(_DATA.read_text(encoding="utf-8"))["list"]}


def _list(values: Mapping[str, Any]) -> DomainList:
    return DomainList(
        key=values["key"],
        title=values["title"],
        zone=values["zone"],
        key_zone=values.get("key_zone", ""),
        look_up=values["look_up"],
        must_be=values["must_be"],
        must_not_be=values["must_not_be"],
        errors=frozenset(values["errors"]),
        codes={
            one["code"]: Listing(one["code"], one["name"], Severity(one["severity"])) for one in values.get("codes", ())
        },
        bits={
            one["bit"]: Listing(f"bit {one['bit']}", one["name"], Severity(one["severity"]))
            for one in values.get("bits", ())
        },
    )


def read(asked: DomainList, answered: Sequence[str]) -> Found:
    """What the addresses of an answer mean; none: not listed."""
    if not answered:
        return Found(Answer.CLEAR)
    answers = sorted(set(answered))
    errors = [one for one in answers if one in asked.errors or one.startswith("127.255.255.")]
    listings = [listing for one in answers for listing in _listings(asked, one)]
    if errors or not listings:
        kind = "error code" if errors else "undocumented code"
        return Found(Answer.FAILED, why=f"answered with the {kind} {', '.join(errors or answers)}")
    return Found(Answer.LISTED, tuple(listings))


def _listings(asked: DomainList, answer: str) -> list[Listing]:
    if asked.codes:
        return [asked.codes[answer]] if answer in asked.codes else []
    first, _dot, last = answer.rpartition(".")
    if first != "127.0.0" or not last.isdigit():
        return []
    return [Listing(answer, one.name, one.severity) for bit, one in asked.bits.items() if int(last) & bit]


async def ask(asked: DomainList, domain: str, resolver: Resolver, *, query_key: str = "") -> Found:
    try:
        answered = await resolver.a(asked.name_of(domain, query_key))
    except DnsFailure as failure:
        # The name holds the query key: only what kind of failure it was is told.
        if failure.is_transient:
            return Found(Answer.FAILED, why=f"no answer: {failure.kind.value}")
        return Found(Answer.CLEAR)
    return read(asked, answered)


async def test(asked: DomainList, resolver: Resolver, *, query_key: str = "") -> str:
    """Why nothing that the list says counts at present; empty where it works."""
    listed = await ask(asked, asked.must_be, resolver, query_key=query_key)
    if listed.answer is not Answer.LISTED:
        return f"self-test: its test name is not listed{f' ({listed.why})' if listed.why else ''}"
    clear = await ask(asked, asked.must_not_be, resolver, query_key=query_key)
    if clear.answer is not Answer.CLEAR:
        return "self-test: it lists everything" if clear.answer is Answer.LISTED else f"self-test: {clear.why}"
    return ""


async def look(
    domains: Sequence[str], lists: Sequence[DomainList], resolver: Resolver, *, query_keys: Mapping[str, str]
) -> list[list[Result]]:
    """The results for each domain. Lists are tested once for all, and asked a few at a time."""
    faults = await asyncio.gather(*(test(one, resolver, query_key=query_keys.get(one.key, "")) for one in lists))
    at_once = asyncio.Semaphore(20)

    async def one(domain: str, asked: DomainList, fault: str) -> Result:
        if fault:
            return _result(asked, Found(Answer.FAILED, why=fault))
        async with at_once:
            return _result(asked, await ask(asked, domain, resolver, query_key=query_keys.get(asked.key, "")))

    return [
        list(await asyncio.gather(*(one(domain, asked, fault) for asked, fault in zip(lists, faults, strict=True))))
        for domain in domains
    ]


def _result(asked: DomainList, found: Found) -> Result:
    check = f"domain_blocklist:{asked.key}"
    match found.answer:
        case Answer.FAILED:
            return Result(check, Verdict.FAILED, found.why)
        case Answer.CLEAR:
            return Result(check, Verdict.OK)
    names = ", ".join(dict.fromkeys(one.name for one in found.listings))
    codes = tuple(dict.fromkeys(one.code for one in found.listings))
    return Result(check, Verdict.BAD, f"listed by {asked.title}: {names}", codes, found.severity, asked.look_up)
