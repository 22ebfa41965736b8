"""The words of scores and warm-ups: terms, what would raise a score, and why a stage was kept, passed or taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from delivery.models import ReputationScore, WarmUpState, WarmUpStep
from delivery.reputation import scoring
from relayweb.console import moments
from relayweb.console.score_words import TermLine
from relayweb.console.words import Text

TERMS: dict[str, Text] = {
    "blocked": _("Blocked"),
    "throttled": _("Told to slow down"),
    "unknown": _("Unknown users"),
    "complaints": _("Complaints"),
    "content": _("Refused as spam"),
    "policy": _("Refused by policy"),
    "spike": _("Sudden volume"),
    "age": _("Age of the address"),
}
CAPS: dict[str, Text] = {
    "severe_listing": _("A severe blocklist has the address."),
    "reverse_dns": _("The reverse DNS of the address is broken."),
}
REMEDIES: dict[str, Text] = {
    "severe_listing": _("Have the address taken off the blocklist; the page of its checks says where."),
    "reverse_dns": _("Repair the PTR record; the page of its checks says what it should be."),
    "blocked": _("No blocks any more: pause the address towards this provider and find out who caused them."),
    "throttled": _("Go slower: set lower limits, or let the pace that was learnt stand."),
    "unknown": _("Fewer unknown users: find the tenants with old lists and have them cleaned."),
    "complaints": _("Fewer complaints: only to people who asked for it, with a way to unsubscribe."),
    "content": _("Look at what was refused as spam, and whose it was."),
    "policy": _("Mend SPF, DKIM and DMARC of the sending domains that were refused."),
    "spike": _("Steady volume: it fades within a week."),
    "age": _("Time: each stage of the warm-up that is used and clean raises it."),
}


def terms(row: ReputationScore) -> list[TermLine]:
    """Every term, the costliest first."""
    found = [_term(row, scoring.Term(**term)) for term in row.terms]
    return sorted(found, key=lambda one: -one.costs)


def _term(row: ReputationScore, term: scoring.Term) -> TermLine:
    windows: list[str] = []
    match term.name:
        case "spike":
            measured = gettext("{n} × a usual day").format(n=term.value) if term.value else "–"
        case "age":
            measured = gettext("{share} of the stages passed").format(share=f"{moments.percent(term.value)} %")
        case name:
            measured = f"{moments.percent(term.value)} %"
            windows = [_cases(row.figures.get(str(hours), {}), name) for hours in scoring.windows()]
    return TermLine(TERMS.get(term.name, term.name), measured, windows, f"{term.factor:.3f}", term.costs)


def _cases(counts: dict[str, int], name: str) -> str:
    met = scoring.Met(counts)
    whole = counts.get("accepted", 0) if name == "complaints" else met.attempts
    return gettext("{n} of {whole}").format(n=f"{counts.get(name, 0):,}", whole=f"{whole:,}")


def allowed(count: int, per: str) -> str:
    said = gettext("{n} an hour") if per == "hour" else gettext("{n} a day")
    return said.format(n=f"{count:,}")


@dataclass(frozen=True, slots=True)
class StepLine:
    step: WarmUpStep
    moved: str
    why: str


def steps(found: Sequence[WarmUpStep]) -> list[StepLine]:
    return [StepLine(step, _moved(step), why(step.why)) for step in found]


def _moved(step: WarmUpStep) -> str:
    match step.state:
        case WarmUpState.STOPPED:
            return gettext("Stopped at stage {n}").format(n=step.from_stage + 1)
        case WarmUpState.FINISHED:
            return gettext("Finished behind stage {n}").format(n=step.from_stage + 1)
    if step.from_stage == step.to_stage:
        return gettext("Stage {n}").format(n=step.to_stage + 1)
    return gettext("Stage {before} → {after}").format(before=step.from_stage + 1, after=step.to_stage + 1)


# What judging writes down, with the sentence for it. A person's own reason stands as it was written.
_WHYS: tuple[tuple[re.Pattern[str], Text], ...] = (
    (re.compile(r"started$"), _("started")),
    (re.compile(r"started anew$"), _("started anew")),
    (re.compile(r"stopped by hand$"), _("stopped by hand")),
    (re.compile(r"set by hand$"), _("set by hand")),
    (re.compile(r"the stage lasts a day$"), _("the stage lasts a day")),
    (re.compile(r"not used for (?P<n>\d+) days$"), _("not used for {n} days")),
    (
        re.compile(r"not used: (?P<n>\d+) of (?P<all>\d+) accepted in a day, (?P<share>[\d.]+%) are needed$"),
        _("not used: {n} of {all} accepted in a day, {share} are needed"),
    ),
    (
        re.compile(r"not used: (?P<n>\d+) of (?P<all>\d+) accepted in an hour, (?P<share>[\d.]+%) are needed$"),
        _("not used: {n} of {all} accepted in an hour, {share} are needed"),
    ),
    (
        re.compile(r"used and clean: (?P<n>\d+) of (?P<all>\d+) accepted in a day$"),
        _("used and clean: {n} of {all} accepted in a day"),
    ),
    (
        re.compile(r"used and clean: (?P<n>\d+) of (?P<all>\d+) accepted in an hour$"),
        _("used and clean: {n} of {all} accepted in an hour"),
    ),
    (re.compile(r"blocked: (?P<n>\d+) of (?P<all>\d+) attempts$"), _("blocked: {n} of {all} attempts")),
    (
        re.compile(r"(?P<term>[a-z]+): (?P<share>[\d.]+%) \((?P<n>\d+)\), at most (?P<most>[\d.]+%) is good$"),
        _("{term}: {share} ({n}), at most {most} is good"),
    ),
)


def why(text: str) -> str:
    for pattern, sentence in _WHYS:
        if found := pattern.match(text):
            values = found.groupdict()
            if "term" in values:
                values["term"] = str(TERMS.get(values["term"], values["term"]))
            return str(sentence).format(**values)
    return text
