"""What receivers report: who sends in a domain's name, what passes, what to do about it; and who could not encrypt.

Advice is a function of the sums. It never trusts a report further than to say what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts.refusals import Refused
from delivery import domain_reports
from delivery import domains as sending_domains
from delivery.domain_reports import DomainSummary, SenderLine, Share, Who
from delivery.models import AggregateKind, DomainState, SendingDomain
from relayweb.console import domain_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.domains import policy_of
from relayweb.console.words import Mark

PERIODS: dict[int, str | Promise] = {7: _("7 days"), 30: _("30 days"), 90: _("90 days"), 180: _("180 days")}
DEFAULT_DAYS = 30
# Below this, a share of what passes says little.
ENOUGH_MAILS = 100
GOOD_SHARE = 0.99

SENDERS: dict[Who, Mark] = {
    Who.OURS: Mark(_("This service"), _("Mail that you hand over here."), tone="ok", icon="circle-check"),
    Who.KNOWN: Mark(
        _("Known service"),
        _("It has the domain's key, or stands in its SPF record: somebody has set it up."),
        tone="wait",
        icon="info-circle",
    ),
    Who.STRANGER: Mark(
        _("Stranger"),
        _("Nothing it sent passed. A service that nobody has set up, a forwarder, or somebody who pretends to be you."),
        tone="retry",
        icon="alert-triangle",
    ),
}
FAULTS: dict[str, str | Promise] = {
    "damaged": _("the file is damaged"),
    "too_large": _("it is too large"),
    "too_dense": _("it is packed in a way that no honest report is"),
    "too_deep": _("it is packed too many times"),
    "too_many_members": _("the archive holds too many files"),
    "unknown_method": _("it is packed by a method that is not read"),
    "document_type": _("it declares a document type, which no report may"),
    "no_xml": _("it is no XML"),
    "not_dmarc": _("it is XML, and no DMARC report"),
    "no_domain": _("it names no domain"),
    "no_period": _("it is about no time that can be right"),
    "no_report_id": _("it has no id"),
    "no_tls_report": _("it is no TLS report"),
    "no_policies": _("it holds no policies"),
}
TLS_FAILURES: dict[str, str | Promise] = {
    "starttls-not-supported": _("STARTTLS was not offered"),
    "certificate-host-mismatch": _("the certificate names another host"),
    "certificate-expired": _("the certificate has expired"),
    "certificate-not-trusted": _("nobody trusts who signed the certificate"),
    "validation-failure": _("the connection could not be verified"),
    "tlsa-invalid": _("the TLSA record is malformed"),
    "dnssec-invalid": _("DNSSEC does not verify"),
    "dane-required": _("DANE is required and not there"),
    "sts-policy-fetch-error": _("the MTA-STS policy could not be fetched"),
    "sts-policy-invalid": _("the MTA-STS policy is malformed"),
    "sts-webpki-invalid": _("the certificate of the policy's host is not valid"),
}


@dataclass(frozen=True, slots=True)
class Advice:
    mark: Mark
    sentence: SafeString


@dataclass(frozen=True, slots=True)
class Sender:
    line: SenderLine
    mark: Mark
    remedy: words.Text


@tenant_page()
@require_safe
def domain_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    days = _days(request)
    found = domain_reports.summaries(seat.tenant, since=timezone.now() - timedelta(days=days))
    total, passed = sum(one.total for one in found), sum(one.passed for one in found)
    context = {
        "section": "dmarc",
        "days": days,
        "periods": PERIODS,
        "summaries": [(one, percent(one.passed, one.total), percent(one.tls_passed, one.tls_total)) for one in found],
        "total": total,
        "percent": percent(passed, total),
        "has_reports": any(one.last_at for one in found),
        **_records(found[0].domain if found else None),
    }
    return render(request, "console/dmarc/list.html", context)


@tenant_page()
@require_safe
def domain_page(request: HttpRequest, seat: Seat, name: str) -> HttpResponse:
    domain = _found(seat, name)
    days = _days(request)
    since = timezone.now() - timedelta(days=days)
    reporters = domain_reports.reporters_of(domain, since=since)
    reporter = request.GET.get("reporter", "")
    reporter = reporter if reporter in reporters else ""
    summary = domain_reports.summary_of(domain, since=since)
    lines = domain_reports.senders_of(domain, since=since, reporter=reporter)
    shares = domain_reports.shares(lines)
    latest = domain_reports.latest_of(domain, since=since)
    # Where the record is not looked up, what the reporters saw of it has to do.
    policy = _policy(domain) or next((one.policy for one in latest if one.kind == AggregateKind.DMARC), "")
    context = {
        "section": "dmarc",
        "domain": domain,
        "days": days,
        "periods": PERIODS,
        "reporter": reporter,
        "reporters": reporters,
        "summary": summary,
        "percent": percent(summary.passed, summary.total),
        "tls_percent": percent(summary.tls_passed, summary.tls_total),
        "senders": [_sender(line) for line in lines],
        "is_cut": len(lines) >= domain_reports.MOST_SENDERS,
        "shares": [(SENDERS[share.who], share, percent(share.passed, share.count)) for share in shares],
        "advice": advise(policy, summary, shares) if summary.reports else [],
        "policy": policy,
        "failures": [
            (TLS_FAILURES.get(line.kind, line.kind), line)
            for line in domain_reports.tls_failures_of(domain, since=since)
        ],
        "damaged": [(FAULTS.get(one.fault, one.fault), one) for one in domain_reports.damaged_of(domain, since=since)],
        "latest": latest,
        **_records(domain),
    }
    return render(request, "console/dmarc/domain.html", context)


def advise(policy: str, summary: DomainSummary, shares: Sequence[Share]) -> list[Advice]:
    """What to do, the most pressing first; never more than the numbers say."""
    by_who = {share.who: share for share in shares}
    found: list[Advice] = []
    ours, known, strangers = (by_who.get(who) for who in (Who.OURS, Who.KNOWN, Who.STRANGER))
    if ours is not None and ours.passed < ours.count:
        found.append(
            _advice(
                PROBLEM,
                _(
                    "{n} of {m} mails that you handed over here did not pass. Look at the DKIM records on the domain's page; "
                    "mail that was forwarded and changed on its way also counts here."
                ),
                n=f"{ours.count - ours.passed:,}",
                m=f"{ours.count:,}",
            )
        )
    if strangers is not None:
        found.append(_about_strangers(policy, strangers))
    if known is not None and known.passed < known.count * GOOD_SHARE:
        found.append(
            _advice(
                WARNING,
                _(
                    "{n} of {m} mails of known services did not pass. Let each of them sign with your domain (DKIM); SPF alone "
                    "breaks when mail is forwarded."
                ),
                n=f"{known.count - known.passed:,}",
                m=f"{known.count:,}",
            )
        )
    if summary.tls_total > summary.tls_passed:
        found.append(
            _advice(
                WARNING,
                _("{n} of {m} connections to your own mail servers could not be encrypted; the reasons stand below."),
                n=f"{summary.tls_total - summary.tls_passed:,}",
                m=f"{summary.tls_total:,}",
            )
        )
    if summary.total:
        found.append(_about_policy(policy, [share for share in (ours, known) if share is not None]))
    return found


PROBLEM, WARNING, NOTE, GOOD = (
    Mark(_("Problem"), "", tone="fail", icon="circle-x"),
    Mark(_("Warning"), "", tone="retry", icon="alert-triangle"),
    Mark(_("Note"), "", tone="wait", icon="info-circle"),
    domain_words.GOOD,
)


def _about_strangers(policy: str, strangers: Share) -> Advice:
    numbers = {"n": f"{strangers.count:,}", "a": f"{strangers.addresses:,}"}
    if policy in ("quarantine", "reject"):
        return _advice(
            NOTE,
            _(
                "Addresses that you have not set up ({a}) sent {n} mails in your name that did not pass; your policy has them "
                "stopped. Look through the list for services of your own."
            ),
            **numbers,
        )
    return _advice(
        WARNING,
        _(
            "Addresses that you have not set up ({a}) sent {n} mails in your name, and your policy lets them through. If "
            "you know one, set it up (DKIM with your domain); the others will be stopped once the policy is quarantine or reject."
        ),
        **numbers,
    )


def _about_policy(policy: str, own: Sequence[Share]) -> Advice:
    count, passed = sum(share.count for share in own), sum(share.passed for share in own)
    if policy == "reject":
        return _advice(GOOD, _("Your policy is reject: receivers refuse mail that uses your name and does not pass."))
    if count < ENOUGH_MAILS:
        return _advice(
            NOTE,
            _("{n} mails of your own are too few to judge by. Wait for {m} before you make the policy stricter."),
            n=f"{count:,}",
            m=ENOUGH_MAILS,
        )
    share = percent(passed, count)
    if passed < count * GOOD_SHARE:
        return _advice(
            NOTE,
            _("{share} % of your own mail passes. Mend the rest before you make the policy stricter: {goal} % should."),
            share=share,
            goal=round(GOOD_SHARE * 100),
        )
    following = "reject" if policy == "quarantine" else "quarantine"
    return _advice(
        GOOD,
        _("{share} % of your own mail passes ({n} mails). You can go on to p={policy} in your DMARC record."),
        share=share,
        n=f"{count:,}",
        policy=following,
    )


def _advice(mark: Mark, sentence: words.Text, **values: object) -> Advice:
    return Advice(mark, words.fill(sentence, **values))


def _sender(line: SenderLine) -> Sender:
    return Sender(line, SENDERS[line.who], _remedy(line))


def _remedy(line: SenderLine) -> words.Text:
    if line.who is Who.STRANGER:
        return _("If it is yours, let it sign with your domain. If not, a stricter policy stops it.")
    if not line.failed:
        return _("Nothing to do.")
    if line.who is Who.OURS:
        return _("Look at the DKIM records on the domain's page.")
    return _("Some of its mail does not pass: let it sign with your domain.")


def percent(part: int, whole: int) -> str:
    """With one digit; never 100.0 where something is missing, and empty where there is nothing."""
    if not whole:
        return ""
    return "100" if part >= whole else f"{min(99.9, 100 * part / whole):.1f}"


def _records(domain: SendingDomain | None) -> dict[str, str]:
    """What to publish so that reports come here."""
    name = domain.name if domain else "example.com"
    policy = (_policy(domain) if domain else "") or "none"
    return {
        "rua_name": f"_dmarc.{name}",
        "rua_value": f"v=DMARC1; p={policy}; rua=mailto:dmarc@{settings.BOUNCE_DOMAIN}",
        "tls_name": f"_smtp._tls.{name}",
        "tls_value": f"v=TLSRPTv1; rua=mailto:tlsrpt@{settings.BOUNCE_DOMAIN}",
    }


def _policy(domain: SendingDomain) -> str:
    return policy_of(domain).removeprefix("p=").strip()


def _found(seat: Seat, name: str) -> SendingDomain:
    try:
        domain = sending_domains.find_domain(name, tenant=seat.tenant)
    except Refused:
        raise Http404 from None
    if domain.state == DomainState.PENDING:
        raise Http404
    return domain


def _days(request: HttpRequest) -> int:
    days = request.GET.get("days", "")
    return int(days) if days.isdecimal() and int(days) in PERIODS else DEFAULT_DAYS
