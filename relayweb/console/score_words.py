"""Scores of tenants and sending domains in words: terms, what keeps a score down, what would raise it, and its chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Tenant
from delivery.models import SenderScore, SendingDomain
from delivery.reputation import scoring, senders
from relayweb.console import moments
from relayweb.console.words import Text

LOW = 70
TERMS: dict[str, Text] = {
    "unknown": _("Unknown users"),
    "complaints": _("Complaints"),
    "content": _("Refused as spam"),
    "blocked": _("Blocked"),
    "policy": _("Refused by policy"),
    "refused": _("Refused for other reasons"),
    "expired": _("Expired"),
    "suppressed": _("Written to suppressed recipients"),
    "spike": _("Sudden volume"),
    "age": _("Age of the sender"),
}
CAPS: dict[str, Text] = {
    "brake_slow": _("A brake slows its mail."),
    "brake_hold": _("A brake holds its mail."),
    "brake_pause": _("A brake has paused it."),
    "severe_listing": _("A domain blocklist has the domain."),
    "records": _("A DNS record of the domain that is needed is missing."),
}
REMEDIES: dict[str, Text] = {
    "brake_slow": _("Remove the cause of the brake; it ends by itself when the mail is clean."),
    "brake_hold": _("Remove the cause of the brake, and have it released."),
    "brake_pause": _("Remove the cause of the brake, and have it released."),
    "severe_listing": _("End the cause, then ask the blocklist to take the domain off."),
    "records": _("Publish the missing records; the page of the domain names them."),
    "unknown": _("Clean the lists: remove recipients that do not exist, and confirm new addresses first."),
    "complaints": _("Write only to people who asked for it, and make unsubscribing easy."),
    "content": _("Look at what was refused as spam, and change content and links."),
    "blocked": _("Fewer blocks: receivers refuse the addresses this mail leaves from."),
    "policy": _("Mend SPF, DKIM and DMARC, so that mail is authenticated."),
    "refused": _("Look at the reasons in the statistics; each class is explained there."),
    "expired": _("Remove recipients whose servers have not answered for days."),
    "suppressed": _("Take suppressed recipients out of the lists."),
    "spike": _("Steady volume: it fades within a week."),
    "age": _("Time: in its first 30 days each day of sending raises it."),
}


class _Day(Protocol):
    @property
    def day(self) -> date: ...
    @property
    def last(self) -> int: ...
    @property
    def lowest(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TermLine:
    """``measured`` in words; ``windows`` are cases of attempts or recipients, by window, the shortest first."""

    name: Text
    measured: str
    windows: Sequence[str]
    factor: str
    costs: float

    @property
    def is_costly(self) -> bool:
        return self.costs >= 0.5


@dataclass(frozen=True, slots=True)
class Shown:
    """A score as pages show it. ``row`` is None where too little was sent within 30 days."""

    row: SenderScore | None
    terms: Sequence[TermLine]
    raises: Sequence[Text]
    cap: Text
    days: Sequence[senders.Day]
    chart: Mapping[str, object] | None
    least: int

    @property
    def is_low(self) -> bool:
        return self.row is not None and self.row.score < LOW


def shown(tenant: Tenant, domain: SendingDomain | None = None) -> Shown:
    row = senders.latest(tenant, domain)
    days = senders.days_of(tenant, domain, zone=ZoneInfo(moments.zone_name()))
    return Shown(
        row,
        terms(row) if row else (),
        [REMEDIES[name] for name in senders.raises(row)] if row else (),
        CAPS.get(row.cap_reason, "") if row else "",
        list(reversed(days)),
        chart(days) if len(days) > 1 else None,
        scoring.formula_of_senders()["least_attempts"],
    )


def terms(row: SenderScore) -> list[TermLine]:
    """Every term, the costliest first."""
    found = [_term(row, scoring.Term(**term)) for term in row.terms]
    return sorted(found, key=lambda one: -one.costs)


def _term(row: SenderScore, term: scoring.Term) -> TermLine:
    windows: list[str] = []
    match term.name:
        case "spike":
            measured = gettext("{n} × a usual day").format(n=term.value) if term.value else "–"
        case "age":
            days = scoring.formula_of_senders()["age"]["days"]
            measured = gettext("{n} of {all} days").format(n=round(term.value * days), all=days)
        case name:
            measured = f"{moments.percent(term.value)} %"
            hours = scoring.windows(scoring.formula_of_senders())
            windows = [_cases(row.figures.get(str(one), {}), name) for one in hours]
    return TermLine(TERMS.get(term.name, term.name), measured, windows, f"{term.factor:.3f}", term.costs)


def _cases(counts: dict[str, int], name: str) -> str:
    whole = counts.get("accepted", 0) if name == "complaints" else scoring.Met(counts).attempts
    return gettext("{n} of {whole}").format(n=f"{counts.get(name, 0):,}", whole=f"{whole:,}")


def chart(days: Sequence[_Day]) -> Mapping[str, object]:
    """From the first day with a score to the last; days without one are gaps. ``days``: the oldest first."""
    zone = ZoneInfo(moments.zone_name())
    by_day = {one.day: one for one in days}
    span = [days[0].day + timedelta(days=n) for n in range((days[-1].day - days[0].day).days + 2)]
    edges = [int(datetime.combine(day, time(), tzinfo=zone).timestamp()) for day in span]
    found = [by_day.get(day) for day in span[:-1]]
    return {
        "kind": "scores",
        "edges": edges,
        "zone": moments.zone_name(),
        "language": get_language(),
        "by": "day",
        "isRunning": False,
        "soFar": "",
        "units": {},
        "noData": gettext("No data"),
        "series": [
            {"key": "p50", "label": gettext("last of the day"), "values": [one.last if one else None for one in found]},
            {
                "key": "p95",
                "label": gettext("lowest of the day"),
                "values": [one.lowest if one else None for one in found],
            },
        ],
    }
