"""Looks at what a sending domain publishes and says what is right, missing or different, record by record.

Nothing is decided or stored here: ``observe`` asks the DNS, everything else turns values into values. A name that
does not exist is a fact; a server that fails says nothing, and is reported as such so that nobody loses a domain over
it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from delivery import spf
from delivery.dns import DnsFailure, DnsFailureKind, Resolver
from delivery.spf import Tree


class Proof(StrEnum):
    """Whether the tenant controls the domain, as far as this look could tell."""

    GIVEN = "given"
    MISSING = "missing"  # the DNS says so
    UNKNOWN = "unknown"  # the DNS did not say


class Level(StrEnum):
    PROBLEM = "P"
    WARNING = "W"
    NOTE = "N"


class Finding(StrEnum):
    OWNERSHIP_MISSING = "ownership_missing"
    OWNERSHIP_DIFFERS = "ownership_differs"
    CLAIMED_BY_ANOTHER = "claimed_by_another"
    DNS_NOT_ANSWERING = "dns_not_answering"
    NO_SUCH_DOMAIN = "no_such_domain"
    NAME_DOUBLED = "name_doubled"
    DKIM_MISSING = "dkim_missing"
    DKIM_ELSEWHERE = "dkim_elsewhere"
    DKIM_PROXIED = "dkim_proxied"
    DKIM_OLD_KEY = "dkim_old_key"
    DKIM_KEY_CHANGING = "dkim_key_changing"
    DKIM_SECOND_MISSING = "dkim_second_missing"
    SPF_MISSING = "spf_missing"
    SPF_TWICE = "spf_twice"
    SPF_INCLUDE_MISSING = "spf_include_missing"
    SPF_ALLOWS_ALL = "spf_allows_all"
    SPF_TOO_MANY_LOOKUPS = "spf_too_many_lookups"
    SPF_DEAD_NAMES = "spf_dead_names"
    SPF_INCLUDE_BROKEN = "spf_include_broken"
    SPF_SYNTAX = "spf_syntax"
    DMARC_MISSING = "dmarc_missing"
    DMARC_INVALID = "dmarc_invalid"
    DMARC_ONLY_WATCHES = "dmarc_only_watches"
    DMARC_STRICT = "dmarc_strict"
    DMARC_REPORTS_REFUSED = "dmarc_reports_refused"
    BOUNCE_MISSING = "bounce_missing"
    BOUNCE_ELSEWHERE = "bounce_elsewhere"
    BOUNCE_CONFLICT = "bounce_conflict"
    NULL_MX = "null_mx"
    NO_MX = "no_mx"


_LEVELS = {
    Finding.DNS_NOT_ANSWERING: Level.WARNING,
    Finding.DKIM_OLD_KEY: Level.WARNING,
    Finding.DKIM_KEY_CHANGING: Level.NOTE,
    Finding.DKIM_SECOND_MISSING: Level.WARNING,
    Finding.SPF_MISSING: Level.WARNING,
    Finding.SPF_INCLUDE_MISSING: Level.WARNING,
    Finding.SPF_DEAD_NAMES: Level.WARNING,
    Finding.DMARC_ONLY_WATCHES: Level.NOTE,
    Finding.DMARC_STRICT: Level.WARNING,
    Finding.DMARC_REPORTS_REFUSED: Level.WARNING,
    Finding.BOUNCE_MISSING: Level.WARNING,
    Finding.BOUNCE_ELSEWHERE: Level.WARNING,
    Finding.NO_MX: Level.WARNING,
}


def level_of(finding: Finding) -> Level:
    return _LEVELS.get(finding, Level.PROBLEM)


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


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """One record as it should be, as it was found, and what that means. ``found`` is None where nothing was."""

    purpose: str  # ownership | dkim | bounce | spf | dmarc | domain
    type: str
    name: str
    value: str
    found: str | None = None
    ok: bool = False
    finding: Finding | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "purpose": self.purpose,
            "type": self.type,
            "name": self.name,
            "value": self.value,
            "found": self.found,
            "ok": self.ok,
            "finding": self.finding.value if self.finding else "",
            "level": level_of(self.finding).value if self.finding else "",
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class Observation:
    proof: Proof
    seen_selectors: frozenset[str]  # keys a verifier would find right now
    sees_bounce_host: bool
    records: tuple[RecordCheck, ...]


def wanted_records(wanted: Wanted) -> list[RecordCheck]:
    """The records in the order people set them, nothing looked up yet. Each key also stands as a TXT alternative."""
    return [
        RecordCheck("ownership", "TXT", wanted.ownership_name, wanted.ownership_value),
        *(RecordCheck("dkim", "CNAME", key.name_at(wanted.domain), key.target) for key in wanted.keys),
        *(RecordCheck("dkim", "TXT", key.name_at(wanted.domain), key.public_record) for key in wanted.keys),
        RecordCheck("bounce", "CNAME", wanted.bounce_name, wanted.bounce_target),
        RecordCheck("spf", "TXT", wanted.domain, wanted.spf_value),
        RecordCheck("dmarc", "TXT", wanted.dmarc_name, wanted.dmarc_value),
    ]


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


async def observe(wanted: Wanted, resolver: Resolver) -> Observation:
    """One look at everything, all questions at once.

    Takes as long as the slowest answer and never raises DnsFailure.
    """
    return judge(wanted, await _look_up(wanted, resolver))


async def _look_up(wanted: Wanted, resolver: Resolver) -> Answers:
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
    records = [text for text in dmarc.values if _DMARC.match(text)]
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


# ---------------------------------------------------------------- judging


def judge(wanted: Wanted, answers: Answers) -> Observation:
    proof, ownership = _judge_ownership(wanted, answers)
    seen = frozenset(key.selector for key in wanted.keys if _holds_key(answers.keys[key.selector], key))
    cname_checks = [_judge_cname(wanted, key, answers, seen) for key in wanted.keys]
    text_checks = [_judge_key_text(wanted, key, answers, seen) for key in wanted.keys]
    bounce = _judge_bounce(wanted, answers)
    domain = _judge_domain(wanted, answers)
    return Observation(
        proof=proof,
        seen_selectors=seen,
        sees_bounce_host=bounce.ok,
        records=(
            ownership,
            *cname_checks,
            *text_checks,
            bounce,
            _judge_spf(wanted, answers),
            _judge_dmarc(wanted, answers),
            *([domain] if domain else []),
        ),
    )


def _judge_ownership(wanted: Wanted, answers: Answers) -> tuple[Proof, RecordCheck]:
    answer = answers.ownership

    def check(ok: bool, finding: Finding | None = None, **data: Any) -> RecordCheck:
        return RecordCheck(
            "ownership", "TXT", wanted.ownership_name, wanted.ownership_value, answer.text, ok, finding, data
        )

    if wanted.ownership_value in {value.strip() for value in answer.values}:
        return Proof.GIVEN, check(True)
    if answer.is_unknown:
        return Proof.UNKNOWN, check(False, Finding.DNS_NOT_ANSWERING)
    if answer.values:
        return Proof.MISSING, check(False, Finding.OWNERSHIP_DIFFERS)
    if answers.ownership_doubled.values:
        doubled = f"{wanted.ownership_name}.{wanted.domain}"
        return Proof.MISSING, check(False, Finding.NAME_DOUBLED, found=doubled, short="_relay")
    if answers.mx.failure == DnsFailureKind.NXDOMAIN:
        return Proof.MISSING, check(False, Finding.NO_SUCH_DOMAIN)
    return Proof.MISSING, check(False, Finding.OWNERSHIP_MISSING)


def _judge_cname(wanted: Wanted, key: WantedKey, answers: Answers, seen: frozenset[str]) -> RecordCheck:
    answer, name = answers.cnames[key.selector], key.name_at(wanted.domain)
    is_right = answer.first == key.target
    finding: Finding | None = None
    if not is_right and key.selector not in seen:
        finding = _why_no_cname(wanted, key, answers)
    return RecordCheck("dkim", "CNAME", name, key.target, answer.text, is_right, finding)


def _why_no_cname(wanted: Wanted, key: WantedKey, answers: Answers) -> Finding | None:
    if answers.cnames[key.selector].is_unknown:
        return Finding.DNS_NOT_ANSWERING
    if answers.cnames[key.selector].values:
        return Finding.DKIM_ELSEWHERE
    if any(_public_key(text) is not None for text in answers.keys[key.selector].values):
        return Finding.DKIM_OLD_KEY
    if answers.key_addresses[key.selector].values:
        return Finding.DKIM_PROXIED
    return Finding.DKIM_MISSING if key == wanted.keys[0] else Finding.DKIM_SECOND_MISSING


def _judge_key_text(wanted: Wanted, key: WantedKey, answers: Answers, seen: frozenset[str]) -> RecordCheck:
    answer = answers.keys[key.selector]
    finding: Finding | None = None
    if key.selector not in seen and answers.cnames[key.selector].first == key.target:
        # The customer has done everything: what the CNAME leads to is ours to publish, or still being cached.
        finding = Finding.DNS_NOT_ANSWERING if answer.is_unknown else Finding.DKIM_KEY_CHANGING
    name = key.name_at(wanted.domain)
    return RecordCheck("dkim", "TXT", name, key.public_record, answer.text, key.selector in seen, finding)


def _judge_bounce(wanted: Wanted, answers: Answers) -> RecordCheck:
    answer, finding = answers.bounce_cname, None
    is_right = answer.first == wanted.bounce_target
    data: dict[str, Any] = {}
    if not is_right:
        if answer.is_unknown:
            finding = Finding.DNS_NOT_ANSWERING
        elif answer.values:
            finding = Finding.BOUNCE_ELSEWHERE
        elif answers.bounce_others.values:
            finding, data = Finding.BOUNCE_CONFLICT, {"types": list(answers.bounce_others.values)}
        else:
            finding = Finding.BOUNCE_MISSING
    return RecordCheck(
        "bounce", "CNAME", wanted.bounce_name, wanted.bounce_target, answer.text, is_right, finding, data
    )


def _judge_spf(wanted: Wanted, answers: Answers) -> RecordCheck:
    records = [text for text in answers.spf.values if spf.is_record(text)]
    found = " | ".join(records) or None

    def check(ok: bool, finding: Finding | None, value: str = wanted.spf_value, **data: Any) -> RecordCheck:
        return RecordCheck("spf", "TXT", wanted.domain, value, found, ok, finding, data)

    if not records:
        return check(False, Finding.DNS_NOT_ANSWERING if answers.spf.is_unknown else Finding.SPF_MISSING)
    merged = merge_spf(records, wanted.spf_include)
    if len(records) > 1:
        return check(False, Finding.SPF_TWICE, merged, count=len(records))
    try:
        terms = spf.read_terms(records[0])
    except spf.Malformed as fault:
        mended = [fault.fixed if term == fault.token else term for term in records[0].split()]
        advised = merge_spf([" ".join(term for term in mended if term)], wanted.spf_include)
        return check(False, Finding.SPF_SYNTAX, advised, token=fault.token)
    tree = answers.spf_tree
    data: dict[str, Any] = _tree_data(tree) if tree is not None else {}
    if tree is not None and tree.broken:
        return check(False, Finding.SPF_INCLUDE_BROKEN, merged, **data)
    if tree is not None and tree.lookups > spf.MOST_LOOKUPS:
        return check(False, Finding.SPF_TOO_MANY_LOOKUPS, merged, **data)
    if any(term.name == "all" and term.qualifier == "+" for term in terms):
        return check(False, Finding.SPF_ALLOWS_ALL, merged, **data)
    if not any(term.name == "include" and term.value == wanted.spf_include for term in terms):
        return check(False, Finding.SPF_INCLUDE_MISSING, merged, **data)
    if tree is not None and tree.voids:
        return check(len(tree.voids) <= spf.MOST_VOID_LOOKUPS, Finding.SPF_DEAD_NAMES, records[0], **data)
    return check(True, None, records[0], **data)


def _tree_data(tree: spf.Tree) -> dict[str, Any]:
    return {
        "lookups": tree.lookups,
        "is_complete": tree.is_complete,
        "voids": list(tree.voids),
        "broken": list(tree.broken),
        "tree": [branch.as_json() for branch in tree.branches],
    }


def _judge_dmarc(wanted: Wanted, answers: Answers) -> RecordCheck:
    own = [text for text in answers.dmarc.values if _DMARC.match(text)]
    # RFC 9989: without one of its own a domain falls under its parent's.
    records = own or [text for text in answers.parent_dmarc.values if _DMARC.match(text)]
    found = " | ".join(records) or None

    def check(ok: bool, finding: Finding | None, **data: Any) -> RecordCheck:
        return RecordCheck("dmarc", "TXT", wanted.dmarc_name, wanted.dmarc_value, found, ok, finding, data)

    if not records:
        return check(False, Finding.DNS_NOT_ANSWERING if answers.dmarc.is_unknown else Finding.DMARC_MISSING)
    policy = tags_of(records[0]).get("p", "none").lower()
    if len(records) > 1 or policy not in {"none", "quarantine", "reject"}:
        return check(False, Finding.DMARC_INVALID, count=len(records), token=f"p={policy}")
    tags = tags_of(records[0])
    refusing = [domain for domain, answer in answers.report_permissions.items() if _refuses_reports(answer)]
    if refusing:
        permission = permission_name(wanted.domain, refusing[0])
        return check(True, Finding.DMARC_REPORTS_REFUSED, address=refusing[0], permission=permission)
    # Signatures name the sending domain itself and bounces go to a name below it: to "s" neither is the same as an
    # author of a subdomain, or as the author's domain.
    strict = [tag for tag in ("adkim", "aspf") if tags.get(tag, "r").lower() == "s"]
    if strict:
        return check(True, Finding.DMARC_STRICT, signing=wanted.domain if "adkim" in strict else wanted.bounce_name)
    return check(True, Finding.DMARC_ONLY_WATCHES if policy == "none" else None)


def _refuses_reports(answer: Answer) -> bool:
    return not answer.is_unknown and not any(_DMARC.match(text) for text in answer.values)


def _judge_domain(wanted: Wanted, answers: Answers) -> RecordCheck | None:
    """Whether answers to the domain's mail can arrive: not ours to set, but receivers look at it."""
    if "" in answers.mx.values:
        return RecordCheck("domain", "MX", wanted.domain, "", ".", False, Finding.NULL_MX)
    is_known = not (answers.mx.is_unknown or answers.addresses.is_unknown)
    if is_known and not answers.mx.values and not answers.addresses.values:
        return RecordCheck("domain", "MX", wanted.domain, "", None, False, Finding.NO_MX)
    return None


# ---------------------------------------------------------------- records as text

_DMARC = re.compile(r"v\s*=\s*DMARC1\s*(?:;|$)", re.IGNORECASE)
_ALL = re.compile(r"[+?~-]?all", re.IGNORECASE)
_REPORT_TO = re.compile(r"mailto:[^@,\s]+@([^!,\s]+)", re.IGNORECASE)
_MOST_REPORT_RECEIVERS = 4


def report_domains(record: str) -> list[str]:
    """Where a DMARC record has its aggregate reports sent."""
    return list(dict.fromkeys(domain.lower() for domain in _REPORT_TO.findall(tags_of(record).get("rua", ""))))


def permission_name(domain: str, receiver: str) -> str:
    return f"{domain}._report._dmarc.{receiver}"


def _is_same_organisation(domain: str, registered_domain: str) -> bool:
    return domain == registered_domain or domain.endswith(f".{registered_domain}")


def merge_spf(records: Sequence[str], include: str) -> str:
    """One SPF record out of those found, with our include before the final ``all``; ``+all`` becomes ``~all``."""
    terms: list[str] = []
    ending = ""
    for record in records:
        for term in record.split()[1:]:
            if _ALL.fullmatch(term):
                ending = ending or (term if term[0] in "~-?" else "~all")
            elif term not in terms:
                terms.append(term)
    if f"include:{include}" not in {term.lower().lstrip("+") for term in terms}:
        terms.append(f"include:{include}")
    has_redirect = any(term.lower().startswith("redirect=") for term in terms)
    return " ".join(["v=spf1", *terms, *([] if has_redirect and not ending else [ending or "~all"])])


def tags_of(record: str) -> dict[str, str]:
    """tag=value lists of DKIM (RFC 6376 §3.2) and DMARC, names in lower case."""
    tags: dict[str, str] = {}
    for part in record.split(";"):
        name, separator, value = part.partition("=")
        if separator:
            tags.setdefault(name.strip().lower(), value.strip())
    return tags


def _holds_key(answer: Answer, key: WantedKey) -> bool:
    wanted = _public_key(key.public_record)
    return any(_public_key(text) == wanted for text in answer.values)


def _public_key(record: str) -> str | None:
    value = tags_of(record).get("p")
    return None if value is None else "".join(value.split())
