"""The words for what is refused at the door: what happened, and how to mend it. A refusal without words fails a test."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from relayweb.console.words import Text


@dataclass(frozen=True, slots=True)
class RejectionWords:
    what: Text
    remedy: Text


_OURS = RejectionWords(_("A passing fault of ours."), _("Nothing to do: your side tries again ({reference})."))
_DIALOGUE = RejectionWords(
    _("The conversation did not follow SMTP."),
    _("Give the code and the reference to whoever looks after the program that sends."),
)
_HEADERS = RejectionWords(
    _("The header section does not follow the standard."),
    _("Have it send each of From, Date, Subject and Message-ID once, and no bare line endings."),
)
_TLS = RejectionWords(_("Signed in before encryption."), _("Choose STARTTLS (587) or TLS (465)."))
_PASSWORD = RejectionWords(
    _("Wrong user name or password."), _("Look for copied spaces, and whether it is revoked or expired.")
)
_LIMIT = RejectionWords(
    _("The limit for this period is reached."), _("Nothing is lost as long as your side tries again.")
)
_TOO_MUCH = RejectionWords(_("Too much at once."), _("Open fewer connections and send again a little later."))

# Keyed by the machine words of delivery.core.replies.
REJECTIONS: dict[str, RejectionWords] = {
    "authentication_failed": _PASSWORD,
    "too_many_failures": _PASSWORD,
    "credential_revoked": RejectionWords(
        _("The credential has been revoked."), _("Issue a new one and enter it in the program that sends.")
    ),
    "encryption_required": _TLS,
    "authentication_required": RejectionWords(
        _("Nobody had signed in."), _("Switch on SMTP authentication in the program that sends.")
    ),
    "authentication_malformed": _DIALOGUE,
    "authentication_cancelled": _DIALOGUE,
    "author_not_verified": RejectionWords(
        _("The author's domain “{domain}” is not verified."), _("Add it, or change the author.")
    ),
    "author_outside_credential": RejectionWords(
        _("This credential is limited to another domain than “{domain}”."),
        _("Change the author, or use another credential."),
    ),
    "onboarding_over": RejectionWords(
        _("The onboarding domain serves until a domain of yours is verified."),
        _("Send from a domain you have verified."),
    ),
    "sender_not_verified": RejectionWords(
        _("The domain in the Sender field is not verified."), _("Add it, or remove the Sender field.")
    ),
    "reverse_path_not_verified": RejectionWords(
        _("The domain of the reverse-path is not verified."), _("Use a reverse-path in a domain you have added.")
    ),
    "null_reverse_path": RejectionWords(
        _("The reverse-path is empty."), _("From a mail server of yours, use a credential for mail servers.")
    ),
    "recipient_not_allowed": RejectionWords(
        _("Until a domain is verified, mail goes to members' confirmed addresses only."),
        _("Add a sending domain to write to everybody."),
    ),
    "recipient_suppressed": RejectionWords(
        _("The recipient is on the suppression list."),
        _("Take the address off your list, or lift the suppression once you know that it is good."),
    ),
    "unknown_recipient": RejectionWords(_("There is no such address here."), _("Check the recipient's address.")),
    "from_not_single": RejectionWords(
        _("From must appear once and hold one address."), _("Have the program write one From with one address.")
    ),
    "sender_malformed": _HEADERS,
    "field_repeated": _HEADERS,
    "header_malformed": _HEADERS,
    "header_too_large": RejectionWords(
        _("The header section is too large."), _("Send less in the header, for example fewer addresses in To and Cc.")
    ),
    "line_too_long": RejectionWords(
        _("A line is over 998 bytes."), _("Have the body sent as base64 or quoted-printable.")
    ),
    "bare_line_ending": _HEADERS,
    "nul_in_content": _HEADERS,
    "smtputf8_required": RejectionWords(
        _("An address holds characters that need SMTPUTF8."),
        _("Use an address in ASCII, or a program that offers SMTPUTF8."),
    ),
    "too_large": RejectionWords(_("The mail is over the size limit."), _("Send less.")),
    "mail_loop": RejectionWords(
        _("The mail has passed too many servers."), _("Look for two forwarding rules that point at each other.")
    ),
    "own_loop": RejectionWords(
        _("The mail has been to the same recipient through here before."),
        _("Look for a forwarding rule that sends it back. To send it again, take out its Received fields."),
    ),
    "too_many_recipients": RejectionWords(
        _("Too many recipients in one mail."),
        _("Nothing to do in most cases: mail servers send the rest in a second mail."),
    ),
    "bad_recipient": RejectionWords(_("The recipient's address is not valid."), _("Check the recipient's address.")),
    "bad_reverse_path": RejectionWords(
        _("The reverse-path is not a valid address."), _("Check the address mail is sent from.")
    ),
    "bad_parameter": _DIALOGUE,
    "no_recipients": RejectionWords(
        _("No recipient was accepted."), _("See the rejections of the recipients before it.")
    ),
    "syntax": _DIALOGUE,
    "sequence": _DIALOGUE,
    "too_many_errors": _DIALOGUE,
    "timeout": RejectionWords(
        _("Nothing came for too long."), _("See whether a firewall or virus scanner holds the connection up.")
    ),
    "tenant_suspended": RejectionWords(
        _("Sending is paused for this tenant."), _("See the notices, or ask the operator.")
    ),
    "stream_unknown": RejectionWords(
        _("The stream that the mail names does not exist."), _("Use the name of a stream of yours, or none.")
    ),
    "pool_not_allowed": RejectionWords(
        _("The pool of sending addresses that the mail names is not yours to use."),
        _("Name a pool of your own or one that a stream of yours uses, or none."),
    ),
    "control_refused": RejectionWords(
        _("A header field that begins with X-Relay- cannot be honoured."),
        _("Correct the field that the reply names, or leave it out."),
    ),
    "idempotency_key_reused": RejectionWords(
        _("The idempotency key was used for another mail within 24 hours."),
        _("Use a new key for each mail, and the same one only to try that mail again."),
    ),
    "sending_too_fast": _LIMIT,
    "quota": _LIMIT,
    "too_many_connections": _TOO_MUCH,
    "local_trouble": _OURS,
    "storage_short": _OURS,
    "shutting_down": _OURS,
}
