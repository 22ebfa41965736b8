"""Asking DNS blocklists by their conventions (RFC 5782), and reading what they answer.

An answer is a listing only where its code is documented; an error code, an unknown code and a silent server mean that
nobody knows. Each run tests each list first: 127.0.0.2 must be on it and 127.0.0.1 must not (§5), or nothing it says counts.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from delivery.dns import DnsFailure, Resolver

_DATA = Path(__file__).with_name("blocklists.toml")
# RFC 5782 §5; of IPv6 lists the same two as IPv4-mapped addresses.
_MUST_BE_LISTED = {4: "127.0.0.2", 6: "::ffff:127.0.0.2"}
_MUST_NOT_BE_LISTED = {4: "127.0.0.1", 6: "::ffff:127.0.0.1"}


class Severity(StrEnum):
    MINOR = "minor"
    BAD = "bad"
    SEVERE = "severe"


_ORDER = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Listing:
    code: str
    name: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Blocklist:
    key: str
    title: str
    zone: str
    key_zone: str
    families: tuple[int, ...]
    look_up: str
    codes: Mapping[str, Listing]

    def asked_zone(self, query_key: str) -> str:
        return self.key_zone.format(key=query_key) if query_key and self.key_zone else self.zone


class Answer(StrEnum):
    LISTED = "listed"
    CLEAR = "clear"
    FAILED = "failed"  # the check, not the address


@dataclass(frozen=True, slots=True)
class Found:
    """What a list says of an address. ``why`` it could not be asked, where it could not."""

    answer: Answer
    listings: tuple[Listing, ...] = ()
    why: str = ""

    @property
    def severity(self) -> Severity | None:
        return max((one.severity for one in self.listings), key=_ORDER.index, default=None)


@cache
def blocklists() -> Mapping[str, Blocklist]:
    found = tomllib.loads(_DATA.read_text(encoding="utf-8"))["list"]
    return {one["key"]: _blocklist(one) for one in found}


def _blocklist(values: Mapping[str, Any]) -> Blocklist:
    return Blocklist(
        key=values["key"],
        title=values["title"],
        zone=values["zone"],
        key_zone=values.get("key_zone", ""),
        families=tuple(values["families"]),
        look_up=values["look_up"],
        codes={one["code"]: Listing(one["code"], one["name"], Severity(one["severity"])) for one in values["codes"]},
    )


def name_below(zone: str, address: str) -> str:
    """The name to ask for: octets or nibbles reversed (RFC 5782 §2.1, §2.4)."""
    parsed = ipaddress.ip_address(address)
    parts = str(parsed).split(".") if parsed.version == 4 else list(parsed.exploded.replace(":", ""))
    return ".".join([*reversed(parts), zone])


def read(blocklist: Blocklist, answered: Sequence[str]) -> Found:
    """What the addresses of an answer mean; none: not listed."""
    if not answered:
        return Found(Answer.CLEAR)
    unknown = sorted(set(answered) - set(blocklist.codes))
    errors = [code for code in unknown if code.startswith("127.255.255.")]
    listings = tuple(blocklist.codes[code] for code in sorted(set(answered)) if code in blocklist.codes)
    if errors or not listings:
        kind = "error code" if errors else "undocumented code"
        return Found(Answer.FAILED, why=f"answered with the {kind} {', '.join(errors or unknown)}")
    return Found(Answer.LISTED, listings)


async def ask(blocklist: Blocklist, address: str, resolver: Resolver, *, query_key: str = "") -> Found:
    try:
        answered = await resolver.a(name_below(blocklist.asked_zone(query_key), address))
    except DnsFailure as failure:
        # The name holds the query key: only what kind of failure it was is told.
        return (
            Found(Answer.FAILED, why=f"no answer: {failure.kind.value}")
            if failure.is_transient
            else Found(Answer.CLEAR)
        )
    return read(blocklist, answered)


async def test(blocklist: Blocklist, family: int, resolver: Resolver, *, query_key: str = "") -> str:
    """Why nothing that the list says counts at present; empty where it works."""
    listed = await ask(blocklist, _MUST_BE_LISTED[family], resolver, query_key=query_key)
    if listed.answer is not Answer.LISTED:
        return f"self-test: its test address is not listed{f' ({listed.why})' if listed.why else ''}"
    clear = await ask(blocklist, _MUST_NOT_BE_LISTED[family], resolver, query_key=query_key)
    if clear.answer is not Answer.CLEAR:
        return "self-test: it lists everything" if clear.answer is Answer.LISTED else f"self-test: {clear.why}"
    return ""
