"""What an SPF record costs the receivers who check it, and where it is broken (RFC 7208).

A receiver gives up, and counts the record as failed, after ten terms that need the DNS (§4.6.4), and after two names
that do not exist. ``read_terms`` looks at the text alone; ``evaluate`` follows every include, with a bound on questions,
depth and time, so that no record of a stranger's can keep us busy. What was not looked at is said to be unknown.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from delivery.dns import DnsFailure, DnsFailureKind, Resolver

MOST_LOOKUPS = 10
MOST_VOID_LOOKUPS = 2
MOST_QUESTIONS = 50
DEEPEST = 8
WITHIN_S = 8.0

_RECORD = re.compile(r"v=spf1(?:\s|$)", re.IGNORECASE)
_TERM = re.compile(r"([+?~-]?)(all|include|exists|a|mx|ptr|ip4|ip6)(?::([^/]+))?((?:/[0-9/]+)?)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_MISWRITTEN = {"ipv4": "ip4", "ipv6": "ip6", "ip": "ip4"}
_ASKS = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})


@dataclass(frozen=True, slots=True)
class Term:
    """One mechanism, or a redirect. ``value`` is the name or network behind the colon, if there is one."""

    text: str
    name: str
    value: str = ""
    qualifier: str = "+"


class Malformed(ValueError):
    """The record holds a term that makes all of it invalid. ``fixed`` is the term as it was probably meant, or empty."""

    def __init__(self, token: str, fixed: str) -> None:
        super().__init__(token)
        self.token = token
        self.fixed = fixed


def is_record(text: str) -> bool:
    return _RECORD.match(text) is not None


def read_terms(record: str) -> list[Term]:
    """The terms up to ``all``, which ends them; a redirect counts only without one. Raises Malformed."""
    terms: list[Term] = []
    redirect: Term | None = None
    has_all = False
    for token in record.split()[1:]:
        term = _read(token)
        if term is None or has_all:
            continue
        if term.name == "redirect":
            redirect = term
        else:
            terms.append(term)
            has_all = term.name == "all"
    return terms if has_all or redirect is None else [*terms, redirect]


def _read(token: str) -> Term | None:
    """None for a modifier that says nothing about who may send."""
    if found := _TERM.fullmatch(token):
        qualifier, name, value = found[1] or "+", found[2].lower(), found[3] or ""
        if _is_complete(name, value, found[4]):
            return Term(token, name, value.lower(), qualifier)
        raise Malformed(token, "")
    if found := _MODIFIER.fullmatch(token):
        name = found[1].lower()
        if name == "redirect" and found[2]:
            return Term(token, name, found[2].lower())
        # "include=" is a modifier nobody knows and does nothing; whoever wrote it meant the mechanism.
        if name in _MISWRITTEN or name in {"include", "ip4", "ip6", "a", "mx", "exists", "redirect"}:
            raise Malformed(token, _repaired(f"{_MISWRITTEN.get(name, name)}:{found[2]}"))
        return None
    name, separator, value = token.partition(":")
    raise Malformed(token, _repaired(f"{_MISWRITTEN.get(name.lower(), name)}{separator}{value}"))


def _is_complete(name: str, value: str, length: str) -> bool:
    if name == "all":
        return not value and not length
    if name in {"include", "exists"}:
        return bool(value) and not length
    if name in {"ip4", "ip6"}:
        try:
            network = ipaddress.ip_network(value + length, strict=False)
        except ValueError:
            return False
        return network.version == int(name[2])
    return True


def _repaired(token: str) -> str:
    found = _TERM.fullmatch(token)
    return token if found and _is_complete(found[2].lower(), found[3] or "", found[4]) else ""


# ---------------------------------------------------------------- following the includes


@dataclass(frozen=True, slots=True)
class Branch:
    """A term with everything below it. ``fault``: void, broken, loop, unknown, or empty."""

    term: str
    name: str
    lookups: int
    fault: str = ""
    below: tuple[Branch, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "term": self.term,
            "name": self.name,
            "lookups": self.lookups,
            "fault": self.fault,
            "below": [branch.as_json() for branch in self.below],
        }


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything a receiver might have to look up. Not complete where a bound was reached or the DNS was silent."""

    branches: tuple[Branch, ...]
    is_complete: bool = True
    voids: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def lookups(self) -> int:
        return sum(branch.lookups for branch in self.branches)


@dataclass(slots=True)
class _Walk:
    resolver: Resolver
    questions: int = 0
    is_complete: bool = True
    voids: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def may_ask(self) -> bool:
        self.questions += 1
        if self.questions > MOST_QUESTIONS:
            self.is_complete = False
        return self.questions <= MOST_QUESTIONS


async def evaluate(domain: str, record: str, resolver: Resolver) -> Tree | None:
    """Follows a record of the domain's; None where it took too long. Raises Malformed for the record itself."""
    terms, walk = read_terms(record), _Walk(resolver)
    try:
        async with asyncio.timeout(WITHIN_S):
            branches = await _branches(walk, domain, terms, (domain,))
    except TimeoutError:
        return None
    return Tree(branches, walk.is_complete, tuple(sorted(set(walk.voids))), tuple(sorted(set(walk.broken))))


async def _branches(walk: _Walk, domain: str, terms: Sequence[Term], above: tuple[str, ...]) -> tuple[Branch, ...]:
    asking = [term for term in terms if term.name in _ASKS]
    return tuple(await asyncio.gather(*(_branch(walk, domain, term, above) for term in asking)))


async def _branch(walk: _Walk, domain: str, term: Term, above: tuple[str, ...]) -> Branch:
    name = term.value or domain
    # §7: a macro is filled in with the sender's address, so that only the receiver knows the name.
    if "%" in name or term.name == "ptr":
        return Branch(term.text, name, 1)
    if term.name in {"include", "redirect"}:
        return await _included(walk, term, name, above)
    if not walk.may_ask():
        return Branch(term.text, name, 1, "unknown")
    question = walk.resolver.mx(name) if term.name == "mx" else walk.resolver.addresses(name)
    try:
        found: Sequence[object] = await question
    except DnsFailure as failure:
        if failure.is_transient:
            walk.is_complete = False
            return Branch(term.text, name, 1, "unknown")
        found = ()
    if not found:
        walk.voids.append(name)
        return Branch(term.text, name, 1, "void")
    return Branch(term.text, name, 1)


async def _included(walk: _Walk, term: Term, name: str, above: tuple[str, ...]) -> Branch:
    if name in above:
        walk.broken.append(name)
        return Branch(term.text, name, 1, "loop")
    if len(above) > DEEPEST or not walk.may_ask():
        walk.is_complete = False
        return Branch(term.text, name, 1, "unknown")
    try:
        records = [text for text in await walk.resolver.txt(name) if is_record(text)]
    except DnsFailure as failure:
        if failure.is_transient:
            walk.is_complete = False
            return Branch(term.text, name, 1, "unknown")
        if failure.kind == DnsFailureKind.NXDOMAIN:
            walk.voids.append(name)
        records = []
    try:
        terms = read_terms(records[0]) if len(records) == 1 else None
    except Malformed:
        terms = None
    if terms is None:
        # §5.2: an include without exactly one valid record makes the record that names it fail for good.
        walk.broken.append(name)
        return Branch(term.text, name, 1, "broken")
    below = await _branches(walk, name, terms, (*above, name))
    return Branch(term.text, name, 1 + sum(branch.lookups for branch in below), "", below)
