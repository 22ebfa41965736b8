"""The words for what people read: one label and sentence per state, reason, action, reach, event and step.

Keyed by the members of the enums in delivery.core, and used by every page, so that one thing has one name everywhere. A
member without words in both languages fails a test. English is the message id; Japanese stands in the catalogue.

Sentences hold `{placeholders}`; `{p}` is the receiving provider's name. The functions at the end fill them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.models import CredentialKind, CredentialUse, Role
from delivery.core import webhooks
from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.reply import Origin, Phase
from delivery.core.states import EventKind, RecipientState, TenantEventKind
from delivery.models import (
    ImportState,
    JobFault,
    JobKind,
    JobState,
    OwedAction,
    SuppressionKind,
    SuppressionReason,
    SuppressionScope,
    WebhookFormat,
    WebhookOutcome,
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


class NextMove(StrEnum):
    YOU = "you"
    THEM = "them"
    US = "us"
    WAIT = "wait"


NEXT_MOVES: dict[NextMove, tuple[Text, str]] = {
    NextMove.YOU: (_("You"), "user"),
    NextMove.THEM: (_("The receiving side"), "users"),
    NextMove.US: (_("Us"), "server"),
    NextMove.WAIT: (_("Just wait"), "clock"),
}

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


@dataclass(frozen=True, slots=True)
class JobWords:
    """Work on all that a filter finds: its name, what it does and the way back, and what is said when there is nothing."""

    title: Text
    effects: tuple[Text, ...]
    button: Text
    none: Text


JOBS: dict[JobKind, JobWords] = {
    JobKind.EXPORT: JobWords(
        title=_("Export"),
        effects=(
            _(
                "The file has one line for each recipient, with state, reply, subject and identifiers, and nothing of "
                "the content."
            ),
            _("It is made in the background and kept for 7 days."),
        ),
        button=_("Export"),
        none=_("Nothing is found, so there is nothing to export."),
    ),
    JobKind.RETRY: JobWords(
        title=_("Retry now"),
        effects=(
            _("What waits to be sent again is tried now, without waiting for its next step."),
            _("What is being sent at this moment, or held, stays as it is."),
        ),
        button=_("Retry now"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.HOLD: JobWords(
        title=_("Hold"),
        effects=(
            _("Open mail is kept and not sent until you release it, or until its time runs out."),
            _("What is being sent at this moment may still go out."),
        ),
        button=_("Hold"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.RELEASE: JobWords(
        title=_("Release"),
        effects=(
            _("What a member has held is sent after all, beginning at once."),
            _("What the service holds, for example because a domain is not verified, stays held."),
        ),
        button=_("Release"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.CANCEL: JobWords(
        title=_("Cancel mail"),
        effects=(
            _("Open mail is withdrawn for good. This cannot be undone."),
            _("What is being sent at this moment may still go out."),
        ),
        button=_("Cancel this mail"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.ARCHIVE: JobWords(
        title=_("Export of everything"),
        effects=(
            _(
                "One ZIP file with settings, members, domains and their DNS records, credentials, webhooks, suppressions, "
                "unsubscribes, messages with what became of each recipient, rejections, reports, figures by month and the "
                "audit log."
            ),
            _("Not in it: the content of mail, passwords, secrets and private keys."),
            _(
                "It is made in the background and can be downloaded by owners and admins for 7 days; then it is erased. "
                "A former export goes when the new one is ready."
            ),
            _("Asking for it and each download stand in the audit log."),
        ),
        button=_("Export everything"),
        none="",
    ),
}
JOB_FAULTS: dict[JobFault, Text] = {
    JobFault.DISK_FULL: _("The service had no room left on its disk. The operator sees it; ask anew later."),
    JobFault.WORKER_LOST: _("Whoever worked on it was lost several times. Ask anew."),
    JobFault.OURS: _("A fault of ours ended it. Ask anew; if it ends again, write to support."),
}
JOB_STATES: dict[JobState, Mark] = {
    JobState.WAITING: Mark(_("Waiting"), "", tone="wait", icon="clock"),
    JobState.RUNNING: Mark(_("Running"), "", tone="wait", icon="refresh"),
    JobState.DONE: Mark(_("Done"), "", tone="ok", icon="circle-check"),
    JobState.CANCELLED: Mark(_("Stopped"), "", tone="quiet", icon="player-stop"),
    JobState.FAILED: Mark(_("Failed"), "", tone="fail", icon="circle-x"),
}

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

# ---------------------------------------------------------------- reasons


@dataclass(frozen=True, slots=True)
class ClassWords:
    """Between `why` and `remedy` stands what we do, so that one text serves open and final states."""

    next_move: NextMove
    label: Text
    happened: Text
    why: Text
    remedy: Text


CLASSES: dict[ReplyClass, ClassWords] = {
    ReplyClass.BAD_MAILBOX: ClassWords(
        next_move=NextMove.YOU,
        label=_("No such mailbox"),
        happened=_("{p} says this address does not exist."),
        why=_("It seems mistyped, or no longer in use."),
        remedy=_(
            "Check the spelling and ask the person another way. Mail to dead addresses makes receivers refuse "
            "your other mail too."
        ),
    ),
    ReplyClass.BAD_DOMAIN: ClassWords(
        next_move=NextMove.YOU,
        label=_("Domain cannot receive mail"),
        happened=_("“{domain}” does not exist or takes no mail."),
        why=_("The part after the @ is mistyped, expired, or not used for mail."),
        remedy=_("Check the part after the @. If it is right, its owner needs to know."),
    ),
    ReplyClass.INACTIVE: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mailbox disabled"),
        happened=_("{p} says the address exists but cannot be used now."),
        why=_("It seems closed, blocked, or unused for long."),
        remedy=_("Use another contact. Once you know it is back, lift the suppression and send again."),
    ),
    ReplyClass.MAILBOX_FULL: ClassWords(
        next_move=NextMove.THEM,
        label=_("Mailbox full"),
        happened=_("The recipient's mailbox has no room."),
        why=_("Its storage is used up; perhaps nobody reads it any more."),
        remedy=_("If it is urgent, use another way. An address that stays full is probably abandoned."),
    ),
    ReplyClass.TOO_LARGE: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mail too large"),
        happened=_("The mail ({size}) is larger than the receiver allows."),
        why=_("Limits differ; mobile carriers may allow only a few MB, and attachments grow by about 1.4 on the way."),
        remedy=_("Make it smaller, or send a download link instead."),
    ),
    ReplyClass.RECIPIENT_FILTER: ClassWords(
        next_move=NextMove.THEM,
        label=_("Refused by the recipient's settings"),
        happened=_("The address seems to exist, but its owner's settings refused the mail."),
        why=_(
            "Allow-lists, spoofing filters or block lists. Carriers may use the same words as for an unknown "
            "address; we judge by the step at which it was refused."
        ),
        remedy=_("Ask the recipient to allow mail from “{author_domain}”."),
    ),
    ReplyClass.AUTHENTICATION: ClassWords(
        next_move=NextMove.YOU,
        label=_("Authentication did not pass"),
        happened=_("{p} could not verify the author's domain “{author_domain}”."),
        why=_("SPF, DKIM or DMARC is missing or does not match it."),
        remedy=_("On the domain's page, mend what is marked “Problem”."),
    ),
    ReplyClass.REVERSE_DNS: ClassWords(
        next_move=NextMove.US,
        label=_("Our sending address has no matching name"),
        happened=_("{p} could not verify the name of our address."),
        why=_("Its reverse DNS and name do not match; your domain is not the cause."),
        remedy=_(
            "Nothing to do: the operator has been told. If it is urgent, contact support with “Copy for support”."
        ),
    ),
    ReplyClass.IP_BLOCK: ClassWords(
        next_move=NextMove.US,
        label=_("Our sending address is restricted"),
        happened=_("{p} does not take mail from our address at present."),
        why=_("It seems to be its reputation, a blocklist, or a sudden rise in volume."),
        remedy=_(
            "Nothing to do: the operator has been told. With an address of your own, look for lists with many "
            "unknown users or complaints."
        ),
    ),
    ReplyClass.POLICY: ClassWords(
        next_move=NextMove.YOU,
        label=_("Refused by the receiver's policy"),
        happened=_("{p} refused it by a rule of its own."),
        why=_(
            "It seems to be the reputation of the author's domain, complaints, or a restriction of that organisation."
        ),
        remedy=_("If one organisation refuses, ask its administrator; if many do, review your lists and frequency."),
    ),
    ReplyClass.CONTENT: ClassWords(
        next_move=NextMove.YOU,
        label=_("Refused because of the content"),
        happened=_("{p} refused the text, links or attachments."),
        why=_("It looks like spam, a URL has a bad name, or a file type counts as dangerous."),
        remedy=_(
            "Change the content, for example short links or executable files. Repeating the same mail lowers your"
            " reputation."
        ),
    ),
    ReplyClass.FORMAT: ClassWords(
        next_move=NextMove.YOU,
        label=_("Malformed mail"),
        happened=_("It was refused because it does not follow the standard."),
        why=_("From, Date or Message-ID missing or doubled, lines too long; rarely a fault of ours."),
        remedy=_("Give the reply and the headers to whoever looks after the program that made it."),
    ),
    ReplyClass.RATE_LIMIT: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Sent too fast for the receiver"),
        happened=_("{p} asks us to wait: too many in a short time."),
        why=_("Receivers limit how fast they take mail, by sender or by address."),
        remedy=_("Nothing to do. Separate streams for urgent notices and bulk mail keep them from slowing each other."),
    ),
    ReplyClass.GREYLIST: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Greylisted"),
        happened=_("{p} puts off mail from senders it has not seen before."),
        why=_("A defence against spam: only those who come back later are let in."),
        remedy=_("Nothing to do: we come back from the same address; most are accepted within minutes."),
    ),
    ReplyClass.TRANSIENT: ClassWords(
        next_move=NextMove.WAIT,
        label=_("Temporary trouble"),
        happened=_("The receiving server could not be reached, or cannot take mail now."),
        why=_("It seems busy, under maintenance, or cut off for a while."),
        remedy=_("Nothing to do."),
    ),
    ReplyClass.TLS: ClassWords(
        next_move=NextMove.THEM,
        label=_("Encrypted connection failed"),
        happened=_("The required encryption (TLS) could not be set up."),
        why=_("It seems to be a certificate or setting; where encryption is required we never send without."),
        remedy=_("Ask the recipient's mail administrator to check certificate and TLS settings."),
    ),
    ReplyClass.LOOP: ClassWords(
        next_move=NextMove.YOU,
        label=_("Mail loop"),
        happened=_("The mail went round in circles and was stopped."),
        why=_("Two forwarding rules seem to point at each other."),
        remedy=_("Check forwarding at the address, or your own relay's settings."),
    ),
    ReplyClass.EXPIRED: ClassWords(
        next_move=NextMove.YOU,
        label=_("Gave up at the time limit"),
        happened=_("Not accepted in {lifetime} of trying."),
        why=_("The last reason was: {last_class}."),
        remedy=_("See what helps there. The address may well be valid; send again once it is solved."),
    ),
    ReplyClass.UNCLASSIFIED: ClassWords(
        next_move=NextMove.US,
        label=_("Reply not understood yet"),
        happened=_("We could not classify the receiving server's reply."),
        why=_("The wording is new to us; so as to lose no mail we treat it as temporary."),
        remedy=_("The original is below. The operator sees it too."),
    ),
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

# ---------------------------------------------------------------- credentials

CREDENTIAL_KINDS: dict[CredentialKind, tuple[Text, Text]] = {
    CredentialKind.SMTP: (_("SMTP login"), _("User name and password for a program or a mail server.")),
    CredentialKind.API: (_("API key"), _("For programs that send over HTTPS.")),
    CredentialKind.NETWORK: (
        _("Network"),
        _("Lets the machines of a network hand over mail without signing in. An operator has to agree first."),
    ),
}
CREDENTIAL_USES: dict[CredentialUse, tuple[Text, Text]] = {
    CredentialUse.APPLICATION: (_("Application"), _("A program that writes mails of its own.")),
    CredentialUse.MAIL_SERVER: (
        _("Mail server"),
        _("A mail server of yours that passes on other people's mail; may use the empty reverse-path."),
    ),
}
CREDENTIAL_MARKS: dict[str, Mark] = {
    "active": Mark(_("Active"), "", tone="ok", icon="circle-check"),
    "unused": Mark(_("Not used yet"), "", tone="wait", icon="clock"),
    "waiting": Mark(_("Waiting for approval"), "", tone="wait", icon="clock"),
    "expired": Mark(_("Past its end"), "", tone="late", icon="hourglass-off"),
    "revoked": Mark(_("Revoked"), "", tone="quiet", icon="circle-minus"),
}

# ---------------------------------------------------------------- suppressions

SUPPRESSION_REASONS: dict[SuppressionReason, Mark] = {
    SuppressionReason.BOUNCE: Mark(_("Bounced before"), _("Mail to it failed for good."), tone="fail", icon="circle-x"),
    SuppressionReason.COMPLAINT: Mark(
        _("Spam complaint"), _("The recipient reported a mail as spam."), tone="note", icon="flag"
    ),
    SuppressionReason.UNSUBSCRIBE: Mark(
        _("Unsubscribed"), _("The recipient asked to stop."), tone="quiet", icon="mail-off"
    ),
    SuppressionReason.MANUAL: Mark(_("By hand"), _("Somebody put it on the list."), tone="wait", icon="user"),
    SuppressionReason.IMPORT: Mark(
        _("From a list"), _("It came with an imported list."), tone="wait", icon="list-check"
    ),
}
SUPPRESSION_SCOPES: dict[SuppressionScope, Text] = {
    SuppressionScope.TENANT: _("All streams"),
    SuppressionScope.STREAM: _("One stream"),
    SuppressionScope.OPERATOR: _("Everybody"),
}
SUPPRESSION_KINDS: dict[SuppressionKind, Text] = {
    SuppressionKind.ADDRESS: _("Address"),
    SuppressionKind.DOMAIN: _("Domain"),
    SuppressionKind.PATTERN: _("Pattern"),
}
IMPORT_STATES: dict[ImportState, Mark] = {
    ImportState.PREVIEW: Mark(_("To be confirmed"), "", tone="quiet", icon="circle-dashed"),
    ImportState.WAITING: Mark(_("Waiting"), "", tone="wait", icon="clock"),
    ImportState.RUNNING: Mark(_("Being read"), "", tone="wait", icon="refresh"),
    ImportState.DONE: Mark(_("Done"), "", tone="ok", icon="circle-check"),
    ImportState.FAILED: Mark(_("Stopped"), "", tone="fail", icon="circle-x"),
    ImportState.UNDONE: Mark(_("Taken back"), "", tone="quiet", icon="arrow-back-up"),
}
# How a recipient unsubscribed; a word that is not here is shown as it is.
UNSUBSCRIBED_HOW: dict[str, Text] = {
    "mail": _("by mail"),
    "one_click": _("with one click"),
    "one-click": _("with one click"),
    "page": _("on the page"),
}

# ---------------------------------------------------------------- webhooks

TENANT_EVENTS: dict[TenantEventKind, Text] = {
    TenantEventKind.DOMAIN_FAILING: _("A sending domain's proof is missing"),
    TenantEventKind.CREDENTIAL_CREATED: _("A credential was issued"),
    TenantEventKind.CREDENTIAL_REVOKED: _("A credential was revoked"),
    TenantEventKind.TENANT_PAUSED: _("The tenant was paused"),
    TenantEventKind.TENANT_RESUMED: _("The tenant was resumed"),
}
WEBHOOK_FORMATS: dict[WebhookFormat, Text] = {
    WebhookFormat.STANDARD: "Standard Webhooks",
    WebhookFormat.POSTAL: "Postal",
}
WEBHOOK_MARKS: dict[str, Mark] = {
    "active": Mark(_("Active"), "", tone="ok", icon="circle-check"),
    "new": Mark(_("Not called yet"), "", tone="wait", icon="clock"),
    "failing": Mark(_("Failing"), "", tone="retry", icon="refresh"),
    "person": Mark(_("Disabled"), _("Somebody of the tenant disabled it."), tone="quiet", icon="player-pause"),
    "gone": Mark(
        _("Disabled"), _("It answered 410 Gone, which asks not to be called any more."), tone="fail", icon="player-stop"
    ),
    "failing_for_good": Mark(_("Disabled"), _("It gave no good answer for days."), tone="fail", icon="player-stop"),
}
WEBHOOK_OUTCOMES: dict[WebhookOutcome, Mark] = {
    WebhookOutcome.OK: Mark(_("Taken"), _("The endpoint answered 2xx."), tone="ok", icon="circle-check"),
    WebhookOutcome.STATUS: Mark(
        _("Refused by the endpoint"),
        _("Anything but 2xx counts as a failure; the event is told again."),
        tone="fail",
        icon="circle-x",
    ),
    WebhookOutcome.REDIRECT: Mark(
        _("Redirected"), _("Redirects are not followed. Enter the final URL."), tone="fail", icon="circle-x"
    ),
    WebhookOutcome.TIMEOUT: Mark(
        _("No answer in time"),
        _("Answer at once and do the work afterwards; a call is given up after 30 seconds."),
        tone="late",
        icon="hourglass-off",
    ),
    WebhookOutcome.CONNECTION: Mark(
        _("No connection"), _("The connection could not be opened, or broke."), tone="fail", icon="circle-x"
    ),
    WebhookOutcome.TLS: Mark(
        _("TLS failed"), _("The certificate is not trusted, or is for another name."), tone="fail", icon="circle-x"
    ),
    WebhookOutcome.DNS: Mark(_("Host not found"), _("The URL's host has no address."), tone="fail", icon="circle-x"),
    WebhookOutcome.REFUSED: Mark(
        _("Not called"),
        _("The URL leads to an address that we do not call, such as one in a private network."),
        tone="hold",
        icon="shield-off",
    ),
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


def known(words: Mapping[ReplyClass, ClassWords], reply_class: str) -> ClassWords | None:
    """Words for a class as it stands in the database; none for a class this version does not know, or for no class."""
    try:
        return words[ReplyClass(reply_class)]
    except ValueError:
        return None
