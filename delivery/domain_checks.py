"""Says of what a sending domain publishes what is right, missing or different, record by record.

Nothing is decided or stored here, and everything but ``observe`` turns values into values. What the DNS answers is fetched
in ``delivery.domain_answers``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from delivery import spf
from delivery.dns import DnsFailureKind, Resolver
from delivery.domain_answers import DMARC_RECORD, Answer, Answers, Wanted, WantedKey, look_up, permission_name, tags_of


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


async def observe(wanted: Wanted, resolver: Resolver) -> Observation:
    """One look at everything, all questions at once.

    Takes as long as the slowest answer and never raises DnsFailure.
    """
    return judge(wanted, await look_up(wanted, resolver))


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
    own = [text for text in answers.dmarc.values if DMARC_RECORD.match(text)]
    # RFC 9989: without one of its own a domain falls under its parent's.
    records = own or [text for text in answers.parent_dmarc.values if DMARC_RECORD.match(text)]
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
    return not answer.is_unknown and not any(DMARC_RECORD.match(text) for text in answer.values)


def _judge_domain(wanted: Wanted, answers: Answers) -> RecordCheck | None:
    """Whether answers to the domain's mail can arrive: not ours to set, but receivers look at it."""
    if "" in answers.mx.values:
        return RecordCheck("domain", "MX", wanted.domain, "", ".", False, Finding.NULL_MX)
    is_known = not (answers.mx.is_unknown or answers.addresses.is_unknown)
    if is_known and not answers.mx.values and not answers.addresses.values:
        return RecordCheck("domain", "MX", wanted.domain, "", None, False, Finding.NO_MX)
    return None


_ALL = re.compile(r"[+?~-]?all", re.IGNORECASE)


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


def _holds_key(answer: Answer, key: WantedKey) -> bool:
    wanted = _public_key(key.public_record)
    return any(_public_key(text) == wanted for text in answer.values)


def _public_key(record: str) -> str | None:
    value = tags_of(record).get("p")
    return None if value is None else "".join(value.split())
