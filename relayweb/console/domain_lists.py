"""What domain blocklists say of a sending domain, in words: for the tenant's page of it and the operators'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from delivery.domain_blocklists import checks
from delivery.domain_blocklists.asking import domain_lists
from delivery.models import SendingDomain
from relayweb.console.words import Mark, Text

_VERDICTS: dict[str, Mark] = {
    "ok": Mark(_("Not listed"), "", "ok", "check"),
    "bad": Mark(_("Listed"), "", "fail", "circle-x"),
    "failed": Mark(_("Could not be asked"), "", "quiet", "circle-dashed", True),
}
_ORDER = ("bad", "failed", "ok")


@dataclass(frozen=True, slots=True)
class ListLine:
    title: Text
    mark: Mark
    found: str
    to_do: str
    look_up: str


@dataclass(frozen=True, slots=True)
class Listings:
    """``looked_at`` is None before the first look."""

    looked_at: datetime | None
    lines: Sequence[ListLine]


def listings_of(domain: SendingDomain) -> Listings:
    check = checks.latest(domain)
    if check is None:
        return Listings(None, ())
    lines = []
    for result in sorted(check.results, key=lambda one: _ORDER.index(one["verdict"])):
        key, verdict = result["check"].partition(":")[2], result["verdict"]
        known = domain_lists().get(key)
        codes = ", ".join(result["found"])
        found = f"{result['detail']} ({codes})" if codes else result["detail"]
        to_do = gettext("End the cause, then ask the blocklist to take the domain off.") if verdict == "bad" else ""
        lines.append(ListLine(known.title if known else key, _VERDICTS[verdict], found, to_do, result["look_up"]))
    return Listings(check.checked_at, lines)
