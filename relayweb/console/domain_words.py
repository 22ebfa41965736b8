"""The words for sending domains: their states, their records, and what can be wrong with each."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from delivery.domain_checks import Finding, Level
from delivery.models import DomainState
from relayweb.console.words import Mark, Text

LEVELS: dict[Level, Mark] = {
    Level.PROBLEM: Mark(_("Problem"), "", tone="fail", icon="circle-x"),
    Level.WARNING: Mark(_("Warning"), "", tone="retry", icon="alert-triangle"),
    Level.NOTE: Mark(_("Note"), "", tone="wait", icon="info-circle"),
}
GOOD = Mark(_("Good"), "", tone="ok", icon="check")
NO_VERDICT = Mark(_("No verdict"), "", tone="quiet", icon="circle-dashed")

DOMAIN_STATES: dict[DomainState, Mark] = {
    DomainState.PENDING: Mark(
        _("Not proved yet"),
        _("Mail from it is refused until its ownership record is found. We look for it by ourselves."),
        tone="wait",
        icon="clock",
    ),
    DomainState.VERIFIED: Mark(
        _("Ready to send"), _("Mail from this domain is taken."), tone="ok", icon="circle-check"
    ),
    DomainState.LAPSED: Mark(
        _("Proof lost"),
        _("Its ownership record has been missing for too long: new mail is refused, waiting mail is held."),
        tone="fail",
        icon="circle-x",
    ),
    DomainState.REMOVED: Mark(
        _("Removed"), _("Mail from it is refused, waiting mail is held."), tone="quiet", icon="circle-minus"
    ),
}

# What each record of a sending domain is for, and how much depends on it.
RECORDS: dict[str, tuple[Text, Text]] = {
    "ownership": (_("Ownership"), _("needed")),
    "dkim": (_("DKIM"), _("needed")),
    "dkim_second": (_("DKIM, second key"), _("for key changes")),
    "bounce": (_("Bounces"), _("recommended")),
    "spf": (_("SPF"), _("recommended")),
    "dmarc": (_("DMARC"), _("asked for by Gmail and Microsoft")),
    "domain": (_("Receiving mail"), ""),
}

FINDINGS: dict[Finding, Text] = {
    Finding.OWNERSHIP_MISSING: _(
        "The ownership TXT record was not found. Add the value below; it can take minutes to hours to be seen."
    ),
    Finding.OWNERSHIP_DIFFERS: _(
        "The ownership TXT is there with another value (“{found}”). Look for extra quotes or spaces."
    ),
    Finding.CLAIMED_BY_ANOTHER: _(
        "The record is right, but another tenant of this service has proved this domain. If it is yours, ask support."
    ),
    Finding.DNS_NOT_ANSWERING: _(
        "The DNS servers do not answer, or answer with an error (SERVFAIL). We keep the last result and look again. If "
        "it lasts a day, ask whoever runs your DNS; an expired DNSSEC signature is a common cause."
    ),
    Finding.NO_SUCH_DOMAIN: _("The domain does not exist. Check the spelling and whether its registration has lapsed."),
    Finding.NAME_DOUBLED: _(
        "It was stored as “{found}”. Your panel adds the domain by itself: enter only “{short}” as the name."
    ),
    Finding.DKIM_MISSING: _(
        "The CNAME “{name}” is missing. Until it is there, mail cannot carry your domain's DKIM signature."
    ),
    Finding.DKIM_ELSEWHERE: _("“{name}” points to “{found}”. Replace it with “{expected}”."),
    Finding.DKIM_PROXIED: _("“{name}” shows an IP address instead of the CNAME. Switch its proxy off (DNS only)."),
    Finding.DKIM_OLD_KEY: _(
        "“{name}” holds an old key as text. Replace it with the CNAME and key changes need no work from you."
    ),
    Finding.DKIM_KEY_CHANGING: _(
        "DNS still shows the former key. We sign with it until the new one is seen. Nothing to do."
    ),
    Finding.DKIM_SECOND_MISSING: _("The second CNAME is missing, so keys cannot be changed. Sending works meanwhile."),
    Finding.SPF_MISSING: _(
        "There is no SPF record. Add “v=spf1 include:{include} ~all”, with your other mail servers in it if you have "
        "any. docomo looks at the author domain's SPF."
    ),
    Finding.SPF_TWICE: _("There are {n} SPF records; more than one makes all invalid. Merge them into one: {merged}"),
    Finding.SPF_INCLUDE_MISSING: _("SPF lacks “include:{include}”. Replace the record with: {merged}"),
    Finding.SPF_TOO_MANY_LOOKUPS: _(
        "SPF needs {n} DNS look-ups, the limit is 10; receivers treat it as failed. Remove includes you no longer use: "
        "{list}"
    ),
    Finding.SPF_DEAD_NAMES: _(
        "SPF names {n} hosts that do not exist ({names}); three or more make it invalid. Remove them."
    ),
    Finding.SPF_INCLUDE_BROKEN: _(
        "“include:{name}” leads to no SPF record, which makes yours invalid. Remove it if unused."
    ),
    Finding.SPF_ALLOWS_ALL: _("“+all” lets every server in the world send as you. Change it to “~all” or “-all”."),
    Finding.SPF_SYNTAX: _("“{token}” is not valid, so the whole SPF record is. Suggested: {fixed}"),
    Finding.DMARC_MISSING: _(
        "There is no DMARC record. Gmail and Microsoft ask bulk senders for one, docomo warns its users. Start by only "
        "watching: “{record}”"
    ),
    Finding.DMARC_INVALID: _(
        "There are {n} DMARC records, or “{token}” is not valid; receivers ignore it. Keep one correct record: {fixed}"
    ),
    Finding.DMARC_ONLY_WATCHES: _(
        "DMARC only watches (p=none). That is a fine start. When the reports show all your mail passing, go on to "
        "quarantine."
    ),
    Finding.DMARC_STRICT: _(
        "DMARC asks for a strict match (adkim=s / aspf=s), which “{signing}” does not give. Use “r”, or sign with the "
        "author's domain."
    ),
    Finding.DMARC_REPORTS_REFUSED: _(
        "The domain of “{addr}” does not permit your reports (“{record}” is missing), so none are sent. Ask its owner, "
        "or have them sent to us."
    ),
    Finding.BOUNCE_MISSING: _(
        "The bounce CNAME “{name}” is missing. Mail goes out, but DMARC then rests on DKIM alone."
    ),
    Finding.BOUNCE_ELSEWHERE: _("“{name}” points to “{found}”. Replace it with “{expected}”."),
    Finding.BOUNCE_CONFLICT: _(
        "“{name}” also has {types}, which cannot stand beside a CNAME. Remove them or choose another name."
    ),
    Finding.NULL_MX: _(
        "“{domain}” declares that it takes no mail (null MX). Some receivers refuse it as an author, and replies are "
        "lost. Set up mail for it, or use another domain."
    ),
    Finding.NO_MX: _("“{domain}” has neither MX nor A/AAAA. docomo and others may refuse it as an author."),
}
FAILING_SINCE: Text = _(
    "A needed record has been missing since {since}. If it is not back by {deadline}, new mail from this domain is "
    "refused. {n} already taken: {rule}."
)
HELD_UNTIL_BACK: Text = _("held until it is back, or until they expire")

# What can be wrong with one term of an SPF record.
SPF_FAULTS: dict[str, Text] = {
    "void": _("this name does not exist"),
    "broken": _("there is no valid SPF record"),
    "loop": _("leads back to itself"),
    "unknown": _("not looked at"),
}
