"""The checks of a source address: what was expected, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from accounts.refusals import NotFound
from delivery import sources
from delivery.models import SourceAddress, SourceCheck, SourceState
from delivery.source_checks import checks
from delivery.source_checks.blocklists import blocklists
from relayweb.console.access import operator_page
from relayweb.console.admin.labels import CHECK_STATES, source_name
from relayweb.console.forms import tell
from relayweb.console.words import Mark, Text, fill

VERDICTS: dict[str, Mark] = {
    **CHECK_STATES,
    "skipped": Mark(pgettext_lazy("check", "Not looked at"), "", "quiet", "circle-minus"),
}
NAMES: dict[str, Text] = {
    "reverse_dns": _("Reverse DNS (PTR) that leads back"),
    "ehlo": _("EHLO name"),
    "spf": _("SPF of the bounce domain"),
    "port_25": _("Port 25 outwards"),
    "returns_tls": _("TLS of the listener for returned mail"),
}
_EXPECTED: dict[str, Text] = {
    "reverse_dns": _("A PTR record whose name leads back to {address}"),
    "ehlo": _("{ehlo} leads to {address}, and is the name in its PTR record"),
    "spf": _("The SPF record of {bounce} covers {address}"),
    "port_25": _("A mail host answers a connection that is bound to {address}"),
    "returns_tls": _("A valid certificate for the MX hosts of {bounce}, with more than 14 days left"),
}
_TO_DO: dict[str, Text] = {
    "reverse_dns": _(
        "Ask whoever gave you the address to set its PTR record to {ehlo}, and point {ehlo} to {address}."
    ),
    "ehlo": _("Point {ehlo} to {address} and have the PTR record say {ehlo}, or change the EHLO name here."),
    "spf": _("Add {term} to the SPF record of {bounce}."),
    "port_25": _("Ask the hosting provider to open port 25 outwards for {address}."),
    "returns_tls": _("Renew the certificate for the MX hosts of {bounce}, then send the gates SIGHUP."),
}
# What to do where a check could not be made; of the others: the DNS did not answer.
_NOT_MADE: dict[str, Text] = {
    "port_25": _("See whether the address is bound on its node, and whether the hosts to try have addresses."),
    "returns_tls": _("See whether the gate runs on this machine; it is looked at again within the hour."),
}
_NOT_LOOKED: dict[str, Text] = {
    "port_25": _("Name a host of yours, or one that agreed, in RELAY_SMTP_PROBES."),
}
_ORDER = ("bad", "failed", "ok", "skipped")


@dataclass(frozen=True, slots=True)
class CheckLine:
    name: Text
    mark: Mark
    expected: str
    found: str
    to_do: str = ""
    look_up: str = ""


def lines_of(source: SourceAddress, check: SourceCheck | None) -> list[CheckLine]:
    """What needs somebody first."""
    if check is None:
        return []
    results = sorted(check.results, key=lambda one: _ORDER.index(one["verdict"]))
    return [_line(source, one) for one in results]


def _line(source: SourceAddress, result: Mapping[str, Any]) -> CheckLine:
    address = str(source.address)
    values = {
        "address": address,
        "ehlo": source.ehlo_name,
        "bounce": settings.BOUNCE_DOMAIN,
        "term": f"ip{6 if ':' in address else 4}:{address}",
    }
    name, verdict, mark = result["check"], result["verdict"], VERDICTS[result["verdict"]]
    found = result["detail"] or ", ".join(result["found"])
    if name in _EXPECTED:
        to_do = _to_do(name, verdict, values)
        return CheckLine(NAMES[name], mark, fill(_EXPECTED[name], **values), found, to_do)
    known = blocklists().get(name.partition(":")[2])
    title = known.title if known else name
    expected = fill(gettext("{address} is not on it"), **values)
    to_do = ""
    if verdict == "bad":
        to_do = gettext("End the cause, then ask the list to take the address off.")
        if result.get("severity") == "severe":
            to_do += " " + gettext(
                "The list is severe: the address is paused if others can do its work. Resume it after that."
            )
        if codes := ", ".join(result["found"]):
            found = f"{found} ({codes})"
    elif verdict == "failed":
        to_do = gettext("It does not count as listed. The list may refuse public resolvers: see RELAY_BLOCKLIST_DNS.")
    return CheckLine(title, mark, expected, found, to_do, result.get("look_up", ""))


def _to_do(name: str, verdict: str, values: Mapping[str, str]) -> str:
    match verdict:
        case "bad":
            return fill(_TO_DO[name], **values)
        case "failed":
            again = gettext("The DNS did not answer; it is looked at again within the hour.")
            return str(_NOT_MADE.get(name, again))
        case "skipped" if not settings.SMTP_PROBES:
            return str(_NOT_LOOKED.get(name, ""))
    return ""


@operator_page
@require_safe
def page(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    history = checks.history_of(source, most=25)
    latest = history[0] if history else None
    lines = lines_of(source, latest)
    context = {
        "section": "sources",
        "source": source,
        "name": source_name(source),
        "check": latest,
        "lines": lines,
        "bad": sum(line.mark is VERDICTS["bad"] for line in lines),
        "failed": sum(line.mark is VERDICTS["failed"] for line in lines),
        "good": sum(line.mark is VERDICTS["ok"] for line in lines),
        "skipped": sum(line.mark is VERDICTS["skipped"] for line in lines),
        "history": [(one, VERDICTS[one.state], _troubles(one)) for one in history],
        "can_check": can_check(source),
        "looked_at": timezone.now(),
    }
    return render(request, "console/admin/sources/checks.html", context)


@operator_page
@require_POST
def check_now(request: HttpRequest, source_id: UUID) -> HttpResponse:
    source = _found(source_id)
    if not can_check(source):
        tell(request, gettext("There is no address to look at."))
    else:
        (done,) = checks.check([source])
        said = gettext("Looked at just now.")
        if done.paused:
            said += " " + gettext("A severe blocklist has it, so it is paused.")
        tell(request, said)
    return redirect("operator-source-checks", source_id=source.pk)


def can_check(source: SourceAddress) -> bool:
    return source.address is not None and source.state != SourceState.RETIRED


def _troubles(check: SourceCheck) -> list[Text]:
    bad = [one["check"] for one in check.results if one["verdict"] in {"bad", "failed"}]
    lists = blocklists()
    return [NAMES.get(name) or getattr(lists.get(name.partition(":")[2]), "title", name) for name in bad]


def _found(source_id: UUID) -> SourceAddress:
    try:
        return sources.find_source(source_id)
    except NotFound:
        raise Http404 from None
