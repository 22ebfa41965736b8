"""What a reply means: its class, what to do about it, and how far that reaches.

The knowledge is data: `classification.toml` and `classification_reports.toml` beside this file. Which rule decides:

1. Rules of the provider group come before rules for everybody.
2. Among those, text beats enhanced status beats reply code (`5.7.1` alone means half a dozen things).
3. Among equals, the order of the file.

Text is looked at only where a peer said it; replies made up by the network, DNS, TLS or ourselves are matched by rules
that name their origin, so that a suspension can never feed on its own wording. Two promises hold whatever rules say:

- A transient reply never fails a recipient: an action that would fail becomes *retry*.
- A reply that no rule knows is *unclassified* and retried until the queue lifetime ends, even if its code is 5yz. We
  may try again, we may not lose mail. (A 5yz with a registered enhanced status is not unknown.)

A reply that a report tells at second hand is asked about one kind of rule at a time (`classify_reported`): its phase may
be unknown, then it is taken for an answer to RCPT, and rules for the phase `report` come before the others of their
kind. What such a rule says can never suspend a path: the report may be hours old, and about somebody else's path.

Rules are read and compiled once. A file with a fault raises `RuleError` at import, so a broken rule cannot run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up


class ReplyClass(StrEnum):
    BAD_MAILBOX = "bad_mailbox"
    BAD_DOMAIN = "bad_domain"
    INACTIVE = "inactive"
    MAILBOX_FULL = "mailbox_full"
    TOO_LARGE = "too_large"
    RECIPIENT_FILTER = "recipient_filter"
    AUTHENTICATION = "authentication"
    REVERSE_DNS = "reverse_dns"
    IP_BLOCK = "ip_block"
    POLICY = "policy"
    CONTENT = "content"
    FORMAT = "format"
    RATE_LIMIT = "rate_limit"
    GREYLIST = "greylist"
    TRANSIENT = "transient"
    TLS = "tls"
    LOOP = "loop"
    EXPIRED = "expired"
    UNCLASSIFIED = "unclassified"


class Action(StrEnum):
    RETRY = "retry"
    SLOW = "slow"
    SUSPEND = "suspend"
    SPLIT = "split"
    REROUTE = "reroute"
    FAIL = "fail"
    FAIL_AND_COUNT = "fail_and_count"
    FAIL_AND_SUPPRESS = "fail_and_suppress"

    @property
    def is_failing(self) -> bool:
        return self in (Action.FAIL, Action.FAIL_AND_COUNT, Action.FAIL_AND_SUPPRESS)


class Scope(StrEnum):
    MESSAGE = "message"
    RECIPIENT = "recipient"
    TENANT_PROVIDER = "tenant_provider"
    ADDRESS_PROVIDER = "address_provider"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Classification:
    """`rule` is the id of the rule that decided."""

    reply_class: ReplyClass
    action: Action
    scope: Scope
    rule: str


class Evidence(IntEnum):
    """What a rule looks at, the strongest first."""

    TEXT = 0
    STATUS = 1
    CODE = 2


class RuleError(ValueError):
    """A rule of the data file is malformed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the data file. Empty `groups` and `phases`, and None for the rest, mean that anything fits.

    Rules that are `is_for_reports` are asked about refusals told by a report alone; None among their phases stands for
    a report that does not tell the phase. An empty `enhanced` fits where there is no status.
    """

    id: str
    groups: frozenset[str]
    phases: frozenset[Phase | None]
    is_for_reports: bool
    origins: frozenset[Origin]
    codes: frozenset[int] | None
    enhanced: re.Pattern[str] | None
    text: re.Pattern[str] | None
    classification: Classification
    source: str
    samples: tuple[str, ...]

    @property
    def evidence(self) -> Evidence:
        if self.text is not None:
            return Evidence.TEXT
        return Evidence.STATUS if self.enhanced is not None else Evidence.CODE

    @property
    def rank(self) -> tuple[bool, Evidence, bool]:
        return (not self.groups, self.evidence, not self.is_for_reports)

    def is_asked_at(self, phase: Phase) -> bool:
        return not self.is_for_reports and self.is_told_at(phase)

    def is_told_at(self, phase: Phase | None) -> bool:
        """An unknown phase is taken for RCPT."""
        return not self.phases or phase in self.phases or (phase is None and Phase.RCPT in self.phases)

    def fits(self, origin: Origin, code: int, enhanced: str | None, text: str) -> bool:
        return (
            origin in self.origins
            and (self.codes is None or code in self.codes)
            and (self.enhanced is None or self.enhanced.fullmatch(enhanced or "") is not None)
            and (self.text is None or self.text.search(text) is not None)
        )

    def sample_replies(self) -> list[tuple[Reply, str]]:
        """The samples of a session as replies, each with the provider group it is said by."""
        group = min(self.groups, default="")
        return [
            (_read_sample(sample, self.origins), group)
            for sample in self.samples
            if not sample.startswith(f"{REPORT} ")
        ]

    def report_samples(self) -> list[str]:
        """The samples of replies told by a report."""
        return [sample.removeprefix(f"{REPORT} ") for sample in self.samples if sample.startswith(f"{REPORT} ")]


# Beside the phases of a session, in the data file only.
REPORT, UNKNOWN = "report", "unknown"
UNCLASSIFIED = Classification(ReplyClass.UNCLASSIFIED, Action.RETRY, Scope.MESSAGE, "unclassified")
EXPIRED = Classification(ReplyClass.EXPIRED, Action.FAIL, Scope.MESSAGE, "queue-lifetime")

# Long enough for every known reply; bounds what a hostile peer can make us search.
_MAX_MATCHED_CHARACTERS = 1000
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]+@[^\s<>\"'(),;:\[\]]+")
_IP_ADDRESS = re.compile(r"\b(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7})\b")
_SESSION_ID = re.compile(r"\b(?=[a-z_-]*\d)[a-z0-9_-]{12,}\b")


def classify(reply: Reply, provider_group: str) -> Classification:
    """The meaning of a reply that was not positive; `provider_group` is a key such as `google`, or empty."""
    # Most groups have no rules of their own; taken together they share what has been found out.
    group = provider_group if provider_group in _GROUPS_WITH_RULES else ""
    return _classify(group, reply.phase, reply.origin, reply.code, reply.enhanced, normalise_text(reply.text))


@lru_cache(maxsize=8192)
def classify_reported(
    evidence: Evidence | None,
    *,
    provider_group: str,
    phase: Phase | None,
    code: int,
    enhanced: str,
    text: str,
) -> Classification | None:
    """What one kind of rule says about a refusal told by a report; None where none of them fits.

    Without a kind, the rules of the provider group are asked, whatever they look at; it has to be known for that.
    `code` is 550 or 450 where the report does not give one. A transient code never gives a failing action.
    """
    group = provider_group if provider_group in _GROUPS_WITH_RULES else ""
    line = normalise_text(text)
    for rule in _report_candidates(group, phase, evidence):
        if rule.fits(Origin.PEER, code, enhanced or None, line):
            return softened(rule.classification) if 400 <= code < 500 else rule.classification
    return None


@lru_cache(maxsize=8192)
def normalise_text(text: str) -> str:
    """Lower case on one line, with addresses and session ids replaced: the same text for the same complaint."""
    line = " ".join(text[:_MAX_MATCHED_CHARACTERS].lower().split())
    line = _ADDRESS.sub("address", line)
    line = _IP_ADDRESS.sub("ip", line)
    return _SESSION_ID.sub("id", line)


@lru_cache(maxsize=8192)
def _classify(
    provider_group: str, phase: Phase, origin: Origin, code: int, enhanced: str | None, text: str
) -> Classification:
    for rule in _candidates(provider_group, phase):
        if rule.fits(origin, code, enhanced, text):
            return softened(rule.classification) if 400 <= code < 500 else rule.classification
    return UNCLASSIFIED


@cache
def _candidates(provider_group: str, phase: Phase) -> tuple[Rule, ...]:
    return tuple(
        rule for rule in RULES if (not rule.groups or provider_group in rule.groups) and rule.is_asked_at(phase)
    )


@cache
def _report_candidates(provider_group: str, phase: Phase | None, evidence: Evidence | None) -> tuple[Rule, ...]:
    rules = [rule for rule in RULES if rule.is_told_at(phase)]
    if evidence is None:
        return tuple(rule for rule in rules if provider_group in rule.groups)
    return tuple(rule for rule in rules if rule.evidence is evidence and not rule.groups)


def softened(classification: Classification) -> Classification:
    """What a transient reply makes of it: it never fails a recipient."""
    if not classification.action.is_failing:
        return classification
    return Classification(classification.reply_class, Action.RETRY, classification.scope, classification.rule)


# Reading the data.


def read_rules(text: str) -> tuple[Rule, ...]:
    """Compile the rules of a TOML text into the order in which they are asked. Raises `RuleError`."""
    rules = [_read_rule(row) for row in tomllib.loads(text)["rule"]]
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        raise RuleError(f"rule ids are not unique: {sorted(id for id in set(ids) if ids.count(id) > 1)}")
    return tuple(sorted(rules, key=lambda rule: rule.rank))


_KNOWN_KEYS = frozenset(
    {
        "id", "groups", "phases", "origins", "codes", "enhanced", "text",
        "class", "action", "scope", "source", "samples",
    }
)  # fmt: skip


def _read_rule(row: dict[str, Any]) -> Rule:
    name = str(row.get("id", "?"))
    try:
        if unknown := row.keys() - _KNOWN_KEYS:
            raise RuleError(f"unknown keys {sorted(unknown)}")
        return Rule(
            id=row["id"],
            groups=frozenset(row.get("groups", ())),
            phases=frozenset(_read_phase(phase) for phase in row.get("phases", ()) if phase != REPORT),
            is_for_reports=REPORT in row.get("phases", ()),
            origins=frozenset(Origin(origin) for origin in row.get("origins", ("peer",))),
            codes=expand_codes(row["codes"]) if "codes" in row else None,
            enhanced=compile_enhanced(row["enhanced"]) if "enhanced" in row else None,
            text=re.compile(row["text"]) if "text" in row else None,
            classification=Classification(
                ReplyClass(row["class"]), Action(row["action"]), Scope(row["scope"]), row["id"]
            ),
            source=row["source"],
            samples=tuple(row["samples"]),
        )
    except (KeyError, ValueError, re.error) as error:
        raise RuleError(f"rule {name}: {error}") from error


def _read_phase(word: str) -> Phase | None:
    return None if word == UNKNOWN else Phase(word)


def expand_codes(prefixes: Iterable[str]) -> frozenset[int]:
    """`55` stands for 550 to 559."""
    starts = tuple(prefixes)
    return frozenset(code for code in range(400, 600) if str(code).startswith(starts))


def compile_enhanced(patterns: Sequence[str]) -> re.Pattern[str]:
    """`none` is no status, `x.7.26` is that detail in any class, `5.7.*` any detail, `5.7.606-649` a range of details."""
    return re.compile("|".join(_enhanced_expression(pattern) for pattern in patterns))


def _enhanced_expression(pattern: str) -> str:
    if pattern == "none":
        return ""
    status_class, subject, detail = pattern.split(".")
    class_expression = "[45]" if status_class == "x" else str(int(status_class))
    if detail == "*":
        detail_expression = r"\d+"
    elif "-" in detail:
        first, last = detail.split("-")
        detail_expression = f"(?:{'|'.join(str(number) for number in range(int(first), int(last) + 1))})"
    else:
        detail_expression = str(int(detail))
    return rf"{class_expression}\.{int(subject)}\.{detail_expression}"


def _read_sample(sample: str, origins: frozenset[Origin]) -> Reply:
    phase, _, line = sample.partition(" ")
    reply = from_lines(Phase(phase), [part.encode() for part in line.split("\n")])
    if Origin.PEER in origins:
        return reply
    return made_up(reply.phase, reply.code, reply.enhanced, reply.text, min(origins))


RULES = read_rules(
    "\n".join(
        files(__package__).joinpath(name).read_text("utf-8")
        for name in ("classification.toml", "classification_reports.toml")
    )
)
_GROUPS_WITH_RULES = frozenset[str]().union(*(rule.groups for rule in RULES))
