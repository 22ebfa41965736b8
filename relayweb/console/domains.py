"""Sending domains: can I send, and if not, which line do I hand to whom.

What the DNS says is stored by the checks; the pages read it and look nothing up, but for "check now", which waits for
the answers. A domain is named in the address, a removed one by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote, urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role
from accounts.refusals import NotFound, Refused
from delivery import domain_records, domain_watch
from delivery import domains as sending_domains
from delivery.domain_checks import Finding, Level, RecordCheck, level_of
from delivery.domain_names import registered_domain
from delivery.models import DomainState, SendingDomain
from delivery.queue import control
from relayweb.console import domain_lists, domain_words, moments, score_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.messages import unchanged
from relayweb.console.words import Mark, Text

AGAIN_AFTER = timedelta(seconds=3)  # a second press of "check now" finds what the first one found
WATCHED_FOR = timedelta(hours=48)
LONGEST_TXT_STRING = 255
TTL_SECONDS = 3600


class DomainForm(ConsoleForm):
    name = forms.CharField(
        label=_("Domain"),
        max_length=255,
        help_text=_(
            "What stands behind the @ of your author addresses, such as acme.example. It covers its subdomains."
        ),
        widget=forms.TextInput(
            attrs={"autocapitalize": "none", "autocomplete": "off", "spellcheck": "false", "inputmode": "url"}
        ),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding in words."""

    level: Level
    mark: Mark
    sentence: SafeString


@dataclass(frozen=True, slots=True)
class Line:
    """One record to publish: what for, how much depends on it, and how it stands."""

    record: RecordCheck
    label: Text
    need: Text
    mark: Mark
    short_name: str
    key: str  # names its parts in the page


@dataclass(frozen=True, slots=True)
class Standing:
    """A domain as a reader asks for it."""

    domain: SendingDomain
    mark: Mark
    answer: str
    faults: tuple[Fault, ...]
    policy: str

    @property
    def problems(self) -> int:
        return sum(1 for fault in self.faults if fault.level == Level.PROBLEM)

    @property
    def warnings(self) -> int:
        return sum(1 for fault in self.faults if fault.level == Level.WARNING)


# ---------------------------------------------------------------- pages


@tenant_page()
@require_safe
def domain_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    found = sending_domains.list_domains(seat.tenant, with_removed=True)
    oldest = timezone.now() - domain_watch.UNDO_WINDOW
    present = [domain for domain in found if domain.state != DomainState.REMOVED]
    names = {domain.name for domain in present}
    removed = [
        (domain, domain.removed_at + domain_watch.UNDO_WINDOW)
        for domain in found
        if domain.removed_at is not None and domain.removed_at > oldest and domain.name not in names
    ]
    standings = [_standing(domain, waiting=0) for domain in present]
    context = {
        "section": "domains",
        "standings": standings,
        "removed": removed,
        "ready": sum(1 for standing in standings if standing.domain.state == DomainState.VERIFIED),
        "problems": sum(standing.problems for standing in standings),
    }
    return render(request, "console/domains/list.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = DomainForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            domain = sending_domains.add_domain(seat.tenant, form.cleaned_data["name"], actor=seat.actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            return redirect("domain", slug=seat.tenant.slug, name=domain.name)
    return render(request, "console/domains/add.html", {"section": "domains", "form": form})


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    return render(
        request,
        "console/domains/domain.html",
        {
            "section": "domains",
            "score": score_words.shown(seat.tenant, domain),
            "listings": domain_lists.listings_of(domain),
            **_context(domain),
        },
    )


@tenant_page()
@require_safe
def live(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    """The answer, the findings and the records, once a check has been made; 204 before."""
    domain = _found(seat, name)
    if request.GET.get("seen") == _seen(domain):
        return unchanged(timezone.now())
    return render(request, "console/domains/_state.html", {"is_refresh": True, **_context(domain)})


@tenant_page(Role.DEVELOPER)
@require_POST
def check(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    if domain.checked_at is None or timezone.now() - domain.checked_at > AGAIN_AFTER:
        was_ready = domain.state == DomainState.VERIFIED
        domain = domain_watch.check_domain(domain, actor=seat.actor)
        if domain.state == DomainState.VERIFIED and not was_ready:
            tell(request, gettext("{domain} is proved: mail from it is taken from now on.").format(domain=domain.name))
    return redirect("domain", slug=seat.tenant.slug, name=domain.name)


@tenant_page()
@require_safe
def hand_on(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    """The records for whoever looks after the DNS: as text, as a zone file, as a mail."""
    domain = _found(seat, name)
    records = _records(domain)
    text = _as_text(domain, records)
    subject = gettext("DNS records for {domain}").format(domain=domain.name)
    context = {
        "section": "domains",
        "domain": domain,
        "text": text,
        "zone": _as_zone(records),
        "mail": "mailto:?" + urlencode({"subject": subject, "body": text}, quote_via=quote),
    }
    return render(request, "console/domains/hand_on.html", context)


@tenant_page()
@require_safe
def zone_file(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    return HttpResponse(
        _as_zone(_records(domain)),
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{domain.name}.zone"'},
    )


@tenant_page(Role.DEVELOPER)
@require_POST
def switch(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    switches = {
        which: request.POST[which] == "on"
        for which in ("signs", "covers_subdomains", "keeps_reverse_path", "adds_unsubscribe")
        if request.POST.get(which) in {"on", "off"}
    }
    sending_domains.update_domain(domain, actor=seat.actor, **switches)
    tell(request, gettext("Saved."))
    return redirect("domain", slug=seat.tenant.slug, name=domain.name)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    if request.method == "POST":
        try:
            sending_domains.remove_domain(domain, actor=seat.actor)
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("“{domain}” is removed. It can be restored below.").format(domain=domain.name))
        return redirect("domains", slug=seat.tenant.slug)
    context = {
        "section": "domains",
        "domain": domain,
        "waiting": control.waiting(control.Which(domain_id=domain.id)),
        "deadline": timezone.now() + domain_watch.UNDO_WINDOW,
    }
    return render(request, "console/domains/remove.html", context)


@tenant_page(Role.DEVELOPER)
@require_POST
def restore(request: HttpRequest, seat: Seat, domain_id: UUID) -> HttpResponse:
    try:
        domain = sending_domains.find_domain(domain_id, tenant=seat.tenant, is_removed=True)
        domain = sending_domains.restore_domain(domain, actor=seat.actor)
    except NotFound:
        raise Http404 from None
    except Refused as refusal:
        tell_refusal(request, refusal)
        return redirect("domains", slug=seat.tenant.slug)
    tell(request, gettext("“{domain}” is back.").format(domain=domain.name))
    return redirect("domain", slug=seat.tenant.slug, name=domain.name)


# ---------------------------------------------------------------- what a page shows


def _found(seat: Seat, name: str) -> SendingDomain:
    try:
        return sending_domains.find_domain(name, tenant=seat.tenant)
    except Refused:
        raise Http404 from None


def _context(domain: SendingDomain) -> dict[str, object]:
    waiting = control.waiting(control.Which(domain_id=domain.id)).open if domain.failing_since else 0
    spf = next((record for record in domain_records.records_of(domain) if record.purpose == "spf"), None)
    is_watched = domain.state != DomainState.VERIFIED and timezone.now() - domain.created_at < WATCHED_FOR
    return {
        "domain": domain,
        "standing": _standing(domain, waiting=waiting),
        "lines": _lines(domain),
        "spf": spf.data if spf is not None and "tree" in spf.data else None,
        "seen": _seen(domain),
        "is_watched": is_watched,
        "zone_name": registered_domain(domain.name),
    }


def _seen(domain: SendingDomain) -> str:
    return f"{domain.state}-{domain.checked_at.timestamp() if domain.checked_at else 0}"


def _standing(domain: SendingDomain, *, waiting: int) -> Standing:
    faults = [
        Fault(level_of(record.finding), domain_words.LEVELS[level_of(record.finding)], _sentence(domain, record))
        for record in domain_records.findings_of(domain)
        if record.finding is not None
    ]
    if domain.failing_since is not None and domain.state == DomainState.VERIFIED:
        faults.insert(0, Fault(Level.PROBLEM, domain_words.LEVELS[Level.PROBLEM], _failing(domain, waiting)))
    mark = domain_words.DOMAIN_STATES[DomainState(domain.state)]
    return Standing(domain, mark, str(mark.sentence), tuple(faults), policy_of(domain))


def policy_of(domain: SendingDomain) -> str:
    for entry in domain.findings:
        if entry["purpose"] == "dmarc" and entry["found"] and entry["ok"]:
            return next((part.strip() for part in entry["found"].split(";") if part.strip().startswith("p=")), "")
    return ""


def _failing(domain: SendingDomain, waiting: int) -> SafeString:
    assert domain.failing_since is not None
    period = timedelta(seconds=settings.DOMAIN_RECHECK_SECONDS)
    deadline = domain.failing_since + domain_watch.LAPSE_PERIODS * period
    return words.fill(
        domain_words.FAILING_SINCE,
        since=moments.time_tag(domain.failing_since, style="full"),
        deadline=moments.time_tag(deadline, style="full"),
        n=f"{waiting:,}",
        rule=domain_words.HELD_UNTIL_BACK,
    )


def _sentence(domain: SendingDomain, record: RecordCheck) -> SafeString:
    assert record.finding is not None
    data = record.data
    values: dict[str, object] = {
        "found": data.get("found") or record.found or "",
        "short": data.get("short", ""),
        "name": (data.get("broken") or [record.name])[0],
        "expected": record.value,
        "include": settings.BOUNCE_DOMAIN,
        "n": data.get("count") or data.get("lookups") or 1,
        "merged": _quoted(record.value),
        "fixed": _quoted(record.value),
        "record": data.get("permission") or record.value,
        "addr": data.get("address", ""),
        "token": data.get("token", ""),
        "types": ", ".join(data.get("types", ())),
        "names": ", ".join(data.get("voids", ())),
        "list": _dearest(data),
        "signing": data.get("signing", ""),
        "domain": domain.name,
    }
    if record.finding == Finding.SPF_DEAD_NAMES:
        values["n"] = len(data.get("voids", ()))
    return words.fill(domain_words.FINDINGS[record.finding], **values)


def _quoted(value: str) -> SafeString:
    return format_html_join("", '<code translate="no" class="rw-value">{}</code>', [(value,)])


def _dearest(data: dict[str, object]) -> str:
    """The includes that cost most, ours left out of no list: the reader decides."""
    branches = data.get("tree")
    if not isinstance(branches, list):
        return ""
    costly = sorted(branches, key=lambda branch: -branch["lookups"])[:3]
    return ", ".join(f"{branch['name']} ({branch['lookups']})" for branch in costly)


def _records(domain: SendingDomain) -> list[RecordCheck]:
    """Those to publish: keys by CNAME, so that their change needs nobody."""
    return [record for record in domain_records.records_of(domain) if (record.purpose, record.type) != ("dkim", "TXT")]


def _lines(domain: SendingDomain) -> list[Line]:
    records = domain_records.records_of(domain)
    keys = {record.name: record for record in records if (record.purpose, record.type) == ("dkim", "TXT")}
    lines: list[Line] = []
    for record in _records(domain):
        purpose, key = record.purpose, keys.get(record.name)
        if purpose == "dkim":
            if key is not None and key.ok and not record.ok:
                # Published as text: as good as the CNAME until the key is to be changed.
                record = RecordCheck(
                    record.purpose, record.type, record.name, record.value, key.found, True, record.finding
                )
            elif key is not None and key.finding is not None and record.finding is None:
                record = RecordCheck(
                    record.purpose, record.type, record.name, record.value, record.found, record.ok, key.finding
                )
            if any(line.record.purpose == "dkim" for line in lines):
                purpose = "dkim_second"
        label, need = domain_words.RECORDS[purpose]
        lines.append(
            Line(record, label, need, _mark(domain, record), _short(domain, record.name), f"record-{len(lines)}")
        )
    return lines


def _mark(domain: SendingDomain, record: RecordCheck) -> Mark:
    if record.finding is not None:
        return domain_words.LEVELS[level_of(record.finding)]
    if record.ok:
        return domain_words.GOOD
    return domain_words.NO_VERDICT


def _short(domain: SendingDomain, name: str) -> str:
    """The name as panels want it that add the registered domain by themselves."""
    zone = registered_domain(domain.name)
    return "@" if name == zone else name.removesuffix(f".{zone}")


# ---------------------------------------------------------------- the records for others


def _as_text(domain: SendingDomain, records: list[RecordCheck]) -> str:
    paragraphs = [gettext("Please add these DNS records for {domain}.").format(domain=domain.name)]
    if any(record.purpose == "spf" and record.found for record in records):
        paragraphs.append(gettext("The SPF record replaces the one that is there; it keeps what that one allows."))
    for record in records:
        label, need = domain_words.RECORDS[record.purpose]
        title = f"{label} ({need})" if need else str(label)
        paragraphs.append(
            "\n".join(
                (
                    title,
                    f"  {gettext('Type')}: {record.type}",
                    f"  {gettext('Name')}: {record.name}",
                    f"  {gettext('Value')}: {record.value}",
                )
            )
        )
    return "\n\n".join(paragraphs) + "\n"


def _as_zone(records: list[RecordCheck]) -> str:
    return "".join(f"{record.name}. {TTL_SECONDS} IN {record.type} {_zone_value(record)}\n" for record in records)


def _zone_value(record: RecordCheck) -> str:
    if record.type == "CNAME":
        return f"{record.value}."
    escaped = record.value.replace("\\", "\\\\").replace('"', '\\"')
    strings = [escaped[start : start + LONGEST_TXT_STRING] for start in range(0, len(escaped), LONGEST_TXT_STRING)]
    return " ".join(f'"{string}"' for string in strings)
