"""Rules about replies that operators add while everything runs, asked before those of the data files.

They know less than the data files do (only what a peer said in a session), and promise the same: a transient reply never
fails a recipient. Their text is searched by RE2, whose time grows with the length of the text and the size of the pattern
and with nothing else, so that no pattern can stall a worker; both are bounded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from delivery.core.classification import (
    RULES,
    Action,
    Classification,
    ReplyClass,
    Scope,
    classify,
    compile_enhanced,
    expand_codes,
    normalise_text,
    softened,
)
from delivery.core.reply import Origin, Phase, Reply, from_lines

MAX_RULES = 200
MAX_PATTERN_CHARACTERS = 300
# Instructions of the compiled pattern. A search looks at each of them once per character at worst: some 10 ms in all.
MAX_PATTERN_SIZE = 1000
_MAX_PATTERN_MEMORY = 1024 * 1024
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CODES = re.compile(r"[45]\d{0,2}")
_ENHANCED = re.compile(r"(?:[45x]\.\d{1,3}\.(?:\d{1,3}(?:-\d{1,3})?|\*)|none)")
_SAMPLE = re.compile(r"([a-z]+) +([45]\d\d[ -].*)", re.DOTALL)


class RuleFault(ValueError):
    """The rule cannot be used. ``field`` is the part at fault, ``reason`` a machine word, ``detail`` what was said of it."""

    def __init__(self, field: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{field}: {reason} {detail}".strip())
        self.field = field
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Draft:
    """A rule as people write it. Empty parts fit everything, but one of codes, enhanced and text is needed."""

    name: str
    groups: tuple[str, ...]
    phases: tuple[str, ...]
    codes: tuple[str, ...]
    enhanced: tuple[str, ...]
    text: str
    reply_class: str
    action: str
    scope: str
    sample: str
    note: str = ""


@dataclass(frozen=True)
class LiveRule:
    """A rule that is ready to be asked."""

    draft: Draft
    phases: frozenset[Phase]
    codes: frozenset[int] | None
    enhanced: re.Pattern[str] | None
    text: re.Pattern[str] | None  # RE2's, which has the same methods
    classification: Classification

    @property
    def name(self) -> str:
        return self.draft.name

    def fits(self, reply: Reply, provider_group: str) -> bool:
        return (
            reply.origin is Origin.PEER
            and (not self.draft.groups or provider_group in self.draft.groups)
            and (not self.phases or reply.phase in self.phases)
            and (self.codes is None or reply.code in self.codes)
            and (self.enhanced is None or self.enhanced.fullmatch(reply.enhanced or "") is not None)
            and (self.text is None or self.text.search(normalise_text(reply.text)) is not None)
        )


def compile_rule(draft: Draft) -> LiveRule:
    """Raises RuleFault. Whether its sample is decided by it is asked by ``check_sample``."""
    if not _NAME.fullmatch(draft.name) or len(draft.name) > 60:
        raise RuleFault("name", "malformed")
    if draft.name in _BUILT_IN:
        raise RuleFault("name", "taken")
    if not (draft.codes or draft.enhanced or draft.text):
        raise RuleFault("text", "fits_everything")
    return LiveRule(
        draft=draft,
        phases=frozenset(_phase(word) for word in draft.phases),
        codes=_codes(draft.codes),
        enhanced=_enhanced(draft.enhanced),
        text=compile_text(draft.text) if draft.text else None,
        classification=_classification(draft),
    )


def compile_text(text: str) -> re.Pattern[str]:
    """Raises RuleFault for what RE2 does not know, or what would cost too much."""
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise RuleFault("text", "too_long")
    options = re2.Options()
    options.max_mem = _MAX_PATTERN_MEMORY
    options.case_sensitive = False
    options.log_errors = False
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise RuleFault("text", "pattern", said.decode() if isinstance(said, bytes) else str(said)) from None
    if pattern.programsize > MAX_PATTERN_SIZE:
        raise RuleFault("text", "too_costly")
    if pattern.search("") is not None:
        raise RuleFault("text", "fits_everything")
    found: re.Pattern[str] = pattern
    return found


def read_sample(sample: str) -> Reply:
    """``eod 550 5.1.1 no such user``: a phase and a reply as a peer gives it. Raises RuleFault."""
    match = _SAMPLE.fullmatch(sample.replace("\\n", "\n").strip())
    if match is None:
        raise RuleFault("sample", "malformed")
    return from_lines(_phase(match[1], field="sample"), [line.encode() for line in match[2].splitlines()])


@dataclass(frozen=True)
class LiveRules:
    """The rules in the order in which they are asked."""

    rules: tuple[LiveRule, ...] = ()

    def __post_init__(self) -> None:
        # The same replies come again and again; remembered as long as the rules stay what they are.
        object.__setattr__(self, "_decide", lru_cache(maxsize=4096)(self._decide_anew))
        object.__setattr__(self, "_names", frozenset(rule.name for rule in self.rules))

    def classify(self, reply: Reply, provider_group: str) -> Classification:
        """By the first rule here that fits, else by the rules of the data files."""
        if not self.rules:
            return classify(reply, provider_group)
        decided: Classification = self._decide(reply, provider_group)  # type: ignore[attr-defined]
        return decided

    def _decide_anew(self, reply: Reply, provider_group: str) -> Classification:
        for rule in self.rules:
            if rule.fits(reply, provider_group):
                return softened(rule.classification) if reply.is_transient else rule.classification
        return classify(reply, provider_group)

    def has(self, name: str) -> bool:
        return name in self._names  # type: ignore[attr-defined]

    def fitting(self, reply: Reply, provider_group: str) -> list[LiveRule]:
        return [rule for rule in self.rules if rule.fits(reply, provider_group)]


NO_LIVE_RULES = LiveRules()


@dataclass(frozen=True, slots=True)
class ChangedSample:
    """A sample of a rule of ours that another rule would decide from now on."""

    rule: str
    sample: str
    before: Classification
    after: Classification


def changed_samples(before: LiveRules, after: LiveRules) -> list[ChangedSample]:
    """What a change of rules means for the replies we have samples of."""
    found = []
    for reply, group, rule in _known_replies(before, after):
        was, becomes = before.classify(reply, group), after.classify(reply, group)
        if was.rule != becomes.rule:
            found.append(ChangedSample(rule, f"{reply.phase.value} {reply.line}", was, becomes))
    return found


def _known_replies(*all_rules: LiveRules) -> Iterable[tuple[Reply, str, str]]:
    for rule in RULES:
        for reply, group in rule.sample_replies():
            yield reply, group, rule.id
    seen: set[str] = set()
    for rules in all_rules:
        for live in rules.rules:
            if live.name not in seen:
                seen.add(live.name)
                yield read_sample(live.draft.sample), min(live.draft.groups, default=""), live.name


def check_sample(rules: LiveRules, rule: LiveRule) -> None:
    """Its sample must be decided by this very rule among ``rules``. Raises RuleFault."""
    reply = read_sample(rule.draft.sample)
    group = min(rule.draft.groups, default="")
    if not rule.fits(reply, group):
        raise RuleFault("sample", "does_not_fit")
    decided = rules.classify(reply, group).rule
    if decided != rule.name:
        raise RuleFault("sample", "decided_elsewhere", decided)


_NUMBER = re.compile(r"\d+")
_MAX_GROUPED_CHARACTERS = 500


def grouped_text(reply: Reply) -> str:
    """The same for replies that differ only in addresses, ids and numbers: what unmatched ones are grouped by."""
    status = f"{reply.code} {reply.enhanced} " if reply.enhanced else f"{reply.code} "
    return (status + _NUMBER.sub("0", normalise_text(reply.text)))[:_MAX_GROUPED_CHARACTERS]


_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]+@[^\s<>\"'(),;:\[\]]+")


def without_addresses(line: str) -> str:
    """As it was said, except for whom it was about."""
    return _ADDRESS.sub("address", line)[:_MAX_GROUPED_CHARACTERS]


# The last three are words in the addresses of the console's pages.
_BUILT_IN = frozenset(rule.id for rule in RULES) | {"unclassified", "queue-lifetime", "add", "try", "built-in"}


def _phase(word: str, *, field: str = "phases") -> Phase:
    try:
        return Phase(word)
    except ValueError:
        raise RuleFault(field, "phase", word) from None


def _codes(codes: Sequence[str]) -> frozenset[int] | None:
    for code in codes:
        if not _CODES.fullmatch(code):
            raise RuleFault("codes", "malformed", code)
    return expand_codes(codes) if codes else None


def _enhanced(patterns: Sequence[str]) -> re.Pattern[str] | None:
    for pattern in patterns:
        if not _ENHANCED.fullmatch(pattern):
            raise RuleFault("enhanced", "malformed", pattern)
    return compile_enhanced(patterns) if patterns else None


def _classification(draft: Draft) -> Classification:
    for field, words, value in (
        ("reply_class", ReplyClass, draft.reply_class),
        ("action", Action, draft.action),
        ("scope", Scope, draft.scope),
    ):
        if value not in set(words):
            raise RuleFault(field, "malformed", value)
    return Classification(ReplyClass(draft.reply_class), Action(draft.action), Scope(draft.scope), draft.name)
