"""The words of alerts: for the console and for letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from delivery.alerts import rules
from delivery.models import Alert
from relayweb.console import moments
from relayweb.console.brakes import RULES as BRAKE_RULES
from relayweb.console.words import Mark, Text


@dataclass(frozen=True, slots=True)
class AlertWords:
    """``title`` names {subject}; ``sentence`` has what was found; ``to_do`` is where to begin."""

    title: Text
    sentence: Text
    to_do: Text


KINDS: dict[str, AlertWords] = {
    "blocklisted": AlertWords(
        _("{source} is on a blocklist"),
        _("The list says: {detail}."),
        _("End the cause, then ask the list to take the address off; the page of its checks leads there."),
    ),
    "domain_blocklisted": AlertWords(
        _("The sending domain {domain} of {name} is on a blocklist"),
        _("The list says: {detail}."),
        _(
            "Look at what the tenant sends, and pull a brake where it harms others; the tenant asks the list for removal."
        ),
    ),
    "reverse_dns": AlertWords(
        _("The reverse DNS of {source} is broken"),
        _("The look-up says: {detail}."),
        _("Have the PTR record repaired; many receivers refuse the address until then."),
    ),
    "closed_outwards": AlertWords(
        _("Port 25 is closed outwards from {source}"),
        _("No host that was tried answers: {detail}."),
        _("Ask the hosting provider to open it; what leaves from this address waits or goes round until then."),
    ),
    "returns_tls": AlertWords(
        _("Senders may refuse the certificate for returned mail"),
        _("The listener's certificate: {detail}."),
        _("Renew it for the MX hosts of the bounce domain, then send the gates SIGHUP; strict senders return nothing."),
    ),
    "source_unusable": AlertWords(
        _("{source} cannot be used"),
        _("The node {node} says: {detail}."),
        _("Put the address back on its node, or retire it; it is tried again by itself."),
    ),
    "queue_age": AlertWords(
        _("Mail waits too long"),
        _("Mail that is due has waited for {waited}."),
        _("See whether workers run, whether a pool has an address in use, and what the throttles say."),
    ),
    "worker_silent": AlertWords(
        _("A process is silent: {subject}"),
        _("It was last heard of {since}."),
        _("See whether it runs on its node; others take over its mail meanwhile."),
    ),
    "node_silent": AlertWords(
        _("The node {subject} is silent"),
        _("None of its delivery workers is alive; it has {addresses} addresses in use."),
        _("Start it, or drain it: its addresses send nothing until then."),
    ),
    "database_unsafe": AlertWords(
        _("The database does not keep what it confirms"),
        _("Its settings are: {detail}."),
        _("Switch fsync, full_page_writes and synchronous_commit on; the gates refuse mail until then."),
    ),
    "disk": AlertWords(
        _("The disk of {subject} is nearly full"),
        _("{percent} % are free: {free}."),
        _("Make room or enlarge it; a full disk stops accepting and delivering."),
    ),
    "certificate": AlertWords(
        _("The certificate of {subject} expires soon"),
        _("It is valid until {ends}: {days} days."),
        _("Put a new one in the place of RELAY_TLS_CERT and RELAY_TLS_KEY."),
    ),
    "brake": AlertWords(
        _("A brake holds {name}"),
        _("The rule: {rule}. Pulled at {since}."),
        _("Look at its evidence, and let it go or keep it."),
    ),
    "test": AlertWords(
        _("A test alert"), _("Nothing is wrong: an operator asked for it."), _("There is nothing to do.")
    ),
}
SEVERITIES: dict[str, Mark] = {
    "critical": Mark(pgettext_lazy("alert", "Critical"), "", "fail", "circle-x"),
    "warning": Mark(pgettext_lazy("alert", "Warning"), "", "wait", "alert-triangle"),
}
OCCASIONS: dict[str, Text] = {
    "opened": _("Alert: {what}"),
    "reminder": _("Still true: {what}"),
    "closed": _("Over: {what}"),
}


def title(alert: Alert) -> str:
    return _filled(_words(alert).title, alert)


def sentence(alert: Alert) -> str:
    return _filled(_words(alert).sentence, alert)


def to_do(alert: Alert) -> str:
    return _filled(_words(alert).to_do, alert)


def runbook(alert: Alert) -> str:
    """The section of the documentation that says what to do, step by step; empty for a test."""
    rule = rules.rules().get(alert.kind)
    return rule.runbook if rule else ""


def _words(alert: Alert) -> AlertWords:
    return KINDS.get(alert.kind) or AlertWords(f"{alert.kind} {{subject}}", "", "")


def _filled(text: Text, alert: Alert) -> str:
    return str(text).format_map(_Values(_readable(alert.evidence) | {"subject": alert.subject}))


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "–"


def _readable(evidence: Mapping[str, Any]) -> dict[str, str]:
    found = {name: str(value) for name, value in evidence.items()}
    if "since" in evidence:
        found["since"] = _moment(evidence["since"])
    if "rule" in evidence:
        found["rule"] = str(BRAKE_RULES.get(evidence["rule"], evidence["rule"]))
    if "ends_at" in evidence:
        found["ends"] = _moment(evidence["ends_at"])
    if "seconds" in evidence:
        found["waited"] = moments.duration(timedelta(seconds=evidence["seconds"]))
    if "free_bytes" in evidence:
        found["free"] = moments.size(evidence["free_bytes"])
    return found


def _moment(text: str) -> str:
    try:
        return moments.written(datetime.fromisoformat(text), style="full")
    except ValueError:
        return gettext("at an unknown time")
