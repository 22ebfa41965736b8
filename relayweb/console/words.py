"""The words for what people read of mail: one label and sentence per state, event, action, reach and step.

Keyed by the members of the enums in delivery.core, and used by every page, so that one thing has one name everywhere. A
member without words in both languages fails a test. English is the message id; Japanese stands in the catalogue. Other
subjects have files of their own beside this one (``…_words.py``).

Sentences hold `{placeholders}`; `{p}` is the receiving provider's name. The functions at the end fill them in.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import Role
from delivery.core import webhooks
from delivery.core.classification import Action, Scope
from delivery.core.reply import Origin, Phase
from delivery.core.states import EventKind, RecipientState, TenantEventKind
from delivery.models import (
    OwedAction,
)

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Mark:
    """A label with its tone and icon: always shown together, so that colour is never the only sign."""

    label: Text
    sentence: Text
    tone: str
    icon: str
    is_dashed: bool = False


# ---------------------------------------------------------------- states and marks

STATES: dict[RecipientState, Mark] = {
    RecipientState.QUEUED: Mark(
        _("Queued"), _("We have it and send it as soon as its turn comes."), tone="wait", icon="clock"
    ),
    RecipientState.DEFERRED: Mark(
        _("Deferred"),
        _("The receiving server has not accepted it yet. We try again at {time}, until {expiry}."),
        tone="retry",
        icon="refresh",
    ),
    RecipientState.HELD: Mark(
        _("Held"),
        _("Kept and not being sent. Reason: {reason}. It stays here until released."),
        tone="hold",
        icon="player-pause",
    ),
    RecipientState.DELIVERED: Mark(
        _("Accepted by the receiving server"),
        _(
            "{host} accepted it at {time}. Whether it goes to the inbox or to spam is decided there and cannot be seen "
            "from here."
        ),
        tone="ok",
        icon="circle-check",
    ),
    RecipientState.BOUNCED: Mark(
        _("Bounced"),
        _("It is certain that this mail cannot be delivered to this address. No further tries."),
        tone="fail",
        icon="circle-x",
    ),
    RecipientState.EXPIRED: Mark(
        _("Expired"),
        _("Tried {n} times over {lifetime} without being accepted; we have stopped."),
        tone="late",
        icon="hourglass-off",
    ),
    RecipientState.SUPPRESSED: Mark(
        _("Suppressed"), _("Not sent: the address is on the suppression list."), tone="quiet", icon="shield-off"
    ),
    RecipientState.CANCELLED: Mark(
        _("Cancelled"), _("Withdrawn by {who} at {time}."), tone="quiet", icon="circle-minus"
    ),
}

RETURNED = Mark(
    _("Accepted, then returned"),
    _(
        "The receiving server accepted it; at {time} a report came back that it could not be delivered. "
        "The state stays as it is."
    ),
    tone="note",
    icon="arrow-back-up",
)
AMBIGUOUS = Mark(
    _("Outcome unknown"),
    _(
        "The connection broke after the last byte and before the answer. If it was accepted, the next try makes a "
        "duplicate."
    ),
    tone="retry",
    icon="help-circle",
    is_dashed=True,
)
COMPLAINED = Mark(
    _("Complaint"),
    _("The recipient reported it as spam. This stream no longer writes to that address."),
    tone="note",
    icon="flag",
)
UNSUBSCRIBED = Mark(
    _("Unsubscribed"),
    _("The recipient asked to stop. This stream no longer writes to that address."),
    tone="quiet",
    icon="mail-off",
)
TEST = Mark(
    _("Test"),
    _("Taken with a test credential: nothing leaves the service."),
    tone="quiet",
    icon="test-pipe",
    is_dashed=True,
)
CANCELLED_BY_UNKNOWN: Text = _("Withdrawn at {time}.")
SENDING_NOW: Text = _("Sending now")
RESTS_QUIETLY: Text = _("Quiet hours of carriers until {until}.")
RESTS: Text = _("Mail to {p} rests until {until}, as its answers demanded; then it goes on by itself.")
MAYBE_HANDED_OVER: Text = _("It may already have been handed over.")

# Reports to the original reverse-path: {to} is told {said}. Their subjects are those of delivery.reports.owed.
REPORT_SUBJECTS: dict[OwedAction, Text] = {
    OwedAction.FAILED: _("Your mail could not be delivered"),
    OwedAction.DELAYED: _("Your mail is delayed"),
    OwedAction.RELAYED: _("Your mail was accepted by the receiving server"),
    OwedAction.RETURNED: _("Your mail was returned after it had been accepted"),
}
REPORT_WAITS: Text = _("A report to {to} is being written: “{said}”")
REPORT_OUTCOMES: dict[str, Text] = {
    "written": _("A report went to {to}: “{said}”"),
    "overtaken": _("A report to {to} (“{said}”) was not needed any more: the mail had gone on meanwhile."),
    "given_up": _("A report to {to} (“{said}”) could not be handed over for days, and was given up."),
    "gone": _("A report to {to} (“{said}”) was left out: the mail is not kept any more."),
}

# By what figures are divided.
DIMENSIONS: dict[str, Text] = {
    "provider": _("Provider"),
    "domain": _("Author domain"),
    "stream": _("Stream"),
    "credential": _("Credential"),
    "tag": _("Tag"),
}
OTHER_VALUES: dict[str, Text] = {
    "provider": _("Other receiving servers"),
    "domain": _("without an author domain"),
    "stream": _("unknown stream"),
    "credential": _("without a credential"),
    "tag": _("Other tags"),
}
GONE_VALUES: dict[str, Text] = {"stream": _("a removed stream"), "credential": _("a removed credential")}
CHART_SERIES: dict[str, Text] = {
    "delivered": _("Accepted by the receiving server"),
    "bounced": _("Bounced"),
    "expired": _("Expired"),
    "other": _("Suppressed or cancelled"),
}
QUOTA_PERIODS: dict[str, Text] = {
    "hour": _("Recipients this hour"),
    "day": _("Recipients today (UTC)"),
    "month": _("Recipients this month (UTC)"),
}

# What the send log can be narrowed to, by the name in its address.
LOG_TEXTS: dict[str, Text] = {
    "recipient": _("Recipient"),
    "author": _("Author"),
    "subject": _("Subject words"),
    "tag": _("Tag"),
    "message_id": _("Message-ID"),
}
LOG_FLAGS: dict[str, Text] = {
    "put_off": _("put off at least once"),
    "returned": _("accepted, then returned"),
    "ambiguous": _("with an unknown outcome"),
    "complained": _("with a complaint"),
}
OTHER_PROVIDERS: Text = _("Other receiving servers")

# Machine words of why mail is held or suppressed; a word that is not here is shown as it is.
REASONS: dict[str, Text] = {
    "poison": _("three workers in a row stopped while sending it"),
    "domain_lapsed": _("the sending domain is no longer verified"),
    "domain_removed": _("the sending domain was removed"),
    "tenant_suspended": _("sending is paused for this tenant"),
    "brake": _("a brake of the service is pulled; see Brakes"),
    "credential_held": _("mail of this credential is being checked"),
    "member": _("held by a member of the tenant"),
    "operator": _("held by the operator"),
    "policy": _("a rule of the service"),
    "suppression": _("on the suppression list"),
    "bounce": _("earlier mail to the address failed for good"),
    "complaint": _("the recipient reported an earlier mail as spam"),
    "unsubscribe": _("the recipient unsubscribed"),
    "manual": _("put on the suppression list by hand"),
    "import": _("put on the suppression list by an import"),
}

ACTIONS: dict[Action, Text] = {
    Action.RETRY: _("We try again at {time}."),
    Action.SLOW: _("We go on, more slowly, for {reach}."),
    Action.SUSPEND: _("We pause {reach} until {until}, then go on."),
    Action.SPLIT: _("We split the recipients and send again at once."),
    Action.REROUTE: _("We try another way in."),
    Action.FAIL: _("We do not try this mail again."),
    Action.FAIL_AND_COUNT: _("No further tries. After {n} within {days} days the address is suppressed (now {k})."),
    Action.FAIL_AND_SUPPRESS: _("No further tries; the address is suppressed until {expiry}."),
}

SCOPES: dict[Scope, Text] = {
    Scope.MESSAGE: _("this mail"),
    Scope.RECIPIENT: _("this address"),
    Scope.TENANT_PROVIDER: _("your mail to {p}"),
    Scope.ADDRESS_PROVIDER: _("our address towards {p}"),
    Scope.PROVIDER: _("all mail to {p}"),
}

# ---------------------------------------------------------------- timeline and conversation

EVENTS: dict[EventKind, Mark] = {
    EventKind.ACCEPTED: Mark(_("Received from you"), "", tone="wait", icon="mail"),
    EventKind.DELIVERED: STATES[RecipientState.DELIVERED],
    EventKind.DEFERRED: STATES[RecipientState.DEFERRED],
    EventKind.BOUNCED: STATES[RecipientState.BOUNCED],
    EventKind.RETURNED: RETURNED,
    EventKind.EXPIRED: STATES[RecipientState.EXPIRED],
    EventKind.SUPPRESSED: STATES[RecipientState.SUPPRESSED],
    EventKind.COMPLAINED: COMPLAINED,
    EventKind.UNSUBSCRIBED: UNSUBSCRIBED,
    EventKind.HELD: STATES[RecipientState.HELD],
    EventKind.CANCELLED: STATES[RecipientState.CANCELLED],
}

# Read after "Their words": at which step the reply came.
PHASES: dict[Phase, Text] = {
    Phase.ROUTING: _("at look-up"),
    Phase.CONNECT: _("at connecting"),
    Phase.HELO: _("at greeting"),
    Phase.STARTTLS: _("at encryption"),
    Phase.AUTH: _("at signing in"),
    Phase.MAIL: _("at the reverse-path"),
    Phase.RCPT: _("at the recipient"),
    Phase.DATA: _("before the content"),
    Phase.EOD: _("after the content"),
    Phase.QUIT: _("at leaving"),
}

ORIGINS: dict[Origin, Text] = {
    Origin.PEER: _("The receiving server"),
    Origin.NETWORK: _("Network"),
    Origin.DNS: _("DNS"),
    Origin.TLS: _("TLS"),
    Origin.OWN: _("relayweb"),
}

ROLES: dict[Role, Text] = {
    Role.OWNER: _("Owner"),
    Role.ADMIN: _("Admin"),
    Role.DEVELOPER: _("Developer"),
    Role.ANALYST: _("Analyst"),
}

# What a role may do; completes "who can …".
RIGHTS: dict[Role, Text] = {
    Role.OWNER: _("do everything, and hand the tenant over or close it"),
    Role.ADMIN: _("do everything with mail, team and settings"),
    Role.DEVELOPER: _("set up domains and credentials, and act on mail"),
    Role.ANALYST: _("read everything and change nothing"),
}

STREAM_KINDS: dict[str, Text] = {"transactional": _("notices"), "bulk": _("bulk")}

# Groups that are no receiving system; all others go by their own title.
GROUPS: dict[str, Text] = {
    "unrouted": _("Not looked up yet"),
    "unreachable": _("No host found"),
}

# ---------------------------------------------------------------- what webhooks are told

TENANT_EVENTS: dict[TenantEventKind, Text] = {
    TenantEventKind.DOMAIN_FAILING: _("A sending domain's proof is missing"),
    TenantEventKind.CREDENTIAL_CREATED: _("A credential was issued"),
    TenantEventKind.CREDENTIAL_REVOKED: _("A credential was revoked"),
    TenantEventKind.TENANT_PAUSED: _("The tenant was paused"),
    TenantEventKind.TENANT_RESUMED: _("The tenant was resumed"),
}


def event_words(kind: str) -> Text:
    """A label for any type of event that webhooks are told."""
    if kind == webhooks.TEST:
        return _("Test call")
    try:
        return EVENTS[EventKind(kind)].label if kind in set(EventKind) else TENANT_EVENTS[TenantEventKind(kind)]
    except ValueError:
        return kind


# ---------------------------------------------------------------- filling in


def fill(text: Text, **values: object) -> SafeString:
    """The sentence with its placeholders filled in; values are escaped unless they are safe already.

    "The receiving server" is capitalised where it begins a sentence; names of providers and hosts stay as they are.
    """
    sentence = str(text)
    if sentence.startswith("{p}") and values.get("p") == (unnamed := provider_name("")):
        values["p"] = unnamed[:1].upper() + unnamed[1:]
    return format_html(sentence, **{"_": "", **values})


def provider_name(title: str) -> str:
    """How a sentence calls the receiving side."""
    return title or gettext("the receiving server")


def reason(word: str) -> Text:
    return REASONS.get(word, word)
