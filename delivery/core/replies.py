"""Every reply we give to a client, worded once: short, and the same for every tenant.

Names, limits and ids belong into the log (`Rejection.detail`), not onto the wire. Trouble of ours is always 4yz.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class OwnReply:
    """A reply of ours. `reason` is the machine word under which the rejection log files it."""

    code: int
    enhanced: str
    text: str
    reason: str = ""

    @property
    def line(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600

    def with_reference(self, reference: str) -> OwnReply:
        """The same reply naming a reference under which our log can be searched."""
        return replace(self, text=f"{self.text} (reference {reference})")


class Rejection(Exception):
    """A submission is refused before acceptance; nothing of it is stored.

    Only the SMTP handler and the API turn it into wire text. `reason` is a machine word for the rejection log,
    `detail` is for the log alone and never reaches the client.
    """

    def __init__(self, reply: OwnReply, *, reason: str = "", detail: str = "") -> None:
        super().__init__(reply.line)
        self.reply = reply
        self.reason = reason or reply.reason
        self.detail = detail


# Positive replies.
ACCEPTED = OwnReply(250, "2.0.0", "accepted")
OK = OwnReply(250, "2.0.0", "ok")
REVERSE_PATH_OK = OwnReply(250, "2.1.0", "ok")
RECIPIENT_OK = OwnReply(250, "2.1.5", "ok")
SEND_DATA = OwnReply(354, "", "go ahead, end with <CRLF>.<CRLF>")
READY_FOR_TLS = OwnReply(220, "2.0.0", "ready to start TLS")
AUTHENTICATED = OwnReply(235, "2.7.0", "authenticated")
GOODBYE = OwnReply(221, "2.0.0", "goodbye")

# The command itself.
COMMAND_UNKNOWN = OwnReply(500, "5.5.2", "command not recognised", "syntax")
COMMAND_TOO_LONG = OwnReply(500, "5.5.2", "command line too long", "syntax")
BAD_SYNTAX = OwnReply(501, "5.5.4", "syntax error in the argument", "syntax")
BAD_SEQUENCE = OwnReply(503, "5.5.1", "bad sequence of commands", "sequence")
COMMAND_NOT_OFFERED = OwnReply(502, "5.5.1", "command not offered", "syntax")
HELO_REQUIRED = OwnReply(503, "5.5.1", "send EHLO first", "sequence")
NO_VALID_RECIPIENTS = OwnReply(554, "5.5.1", "no valid recipients", "no_recipients")
TLS_ALREADY_ACTIVE = OwnReply(503, "5.5.1", "TLS is already active", "sequence")
TOO_MANY_ERRORS = OwnReply(421, "4.7.0", "too many errors, closing connection", "too_many_errors")

# The envelope.
BAD_REVERSE_PATH = OwnReply(501, "5.1.7", "bad reverse-path", "bad_reverse_path")
BAD_RECIPIENT = OwnReply(501, "5.1.3", "bad recipient address", "bad_recipient")
RECIPIENT_DOMAIN_REFUSED = OwnReply(553, "5.1.3", "recipient domain not accepted", "bad_recipient")
PARAMETER_UNKNOWN = OwnReply(555, "5.5.4", "parameter not recognised", "bad_parameter")
PARAMETER_MALFORMED = OwnReply(501, "5.5.4", "malformed parameter", "bad_parameter")
SMTPUTF8_REQUIRED = OwnReply(553, "5.6.7", "non-ASCII address without SMTPUTF8", "smtputf8_required")
# RFC 5321 §4.5.3.1.10: too many recipients is 452, not 552.
TOO_MANY_RECIPIENTS = OwnReply(452, "4.5.3", "too many recipients", "too_many_recipients")
RECIPIENT_NOT_HERE = OwnReply(550, "5.1.1", "no such recipient here", "unknown_recipient")
RECIPIENT_SUPPRESSED = OwnReply(550, "5.7.1", "recipient is on the suppression list", "recipient_suppressed")

# Who is asking.
AUTHENTICATION_REQUIRED = OwnReply(530, "5.7.0", "authentication required", "authentication_required")
ENCRYPTION_REQUIRED = OwnReply(538, "5.7.11", "encryption required, use STARTTLS", "encryption_required")
STARTTLS_REQUIRED = OwnReply(530, "5.7.0", "send STARTTLS first", "encryption_required")
AUTHENTICATION_FAILED = OwnReply(535, "5.7.8", "authentication failed", "authentication_failed")
AUTHENTICATION_MALFORMED = OwnReply(501, "5.5.2", "malformed authentication exchange", "authentication_malformed")
AUTHENTICATION_CANCELLED = OwnReply(501, "5.7.0", "authentication cancelled", "authentication_cancelled")
AUTHENTICATION_MECHANISM_UNKNOWN = OwnReply(504, "5.5.4", "mechanism not offered", "authentication_malformed")
AUTHENTICATION_UNAVAILABLE = OwnReply(454, "4.7.0", "authentication temporarily unavailable", "local_trouble")
ALREADY_AUTHENTICATED = OwnReply(503, "5.5.1", "already authenticated", "sequence")
TOO_MANY_FAILURES = OwnReply(421, "4.7.0", "too many failed logins, closing connection", "too_many_failures")
CREDENTIAL_REVOKED = OwnReply(550, "5.7.1", "credential no longer valid", "credential_revoked")
TENANT_SUSPENDED = OwnReply(450, "4.7.1", "sending is suspended", "tenant_suspended")

# Who is writing.
AUTHOR_NOT_VERIFIED = OwnReply(550, "5.7.1", "author domain not verified for this account", "author_not_verified")
SENDER_NOT_VERIFIED = OwnReply(550, "5.7.1", "sender domain not verified for this account", "sender_not_verified")
REVERSE_PATH_NOT_VERIFIED = OwnReply(
    550, "5.7.1", "reverse-path domain not verified for this account", "reverse_path_not_verified"
)
NULL_REVERSE_PATH_REFUSED = OwnReply(550, "5.7.1", "null reverse-path not allowed here", "null_reverse_path")
RECIPIENT_NOT_ALLOWED_YET = OwnReply(
    550, "5.7.1", "recipient not allowed before a domain is verified", "recipient_not_allowed"
)
STREAM_UNKNOWN = OwnReply(550, "5.7.1", "no such stream", "stream_unknown")
POOL_NOT_ALLOWED = OwnReply(550, "5.7.1", "no such pool for this account", "pool_not_allowed")

# The content.
FROM_NOT_SINGLE = OwnReply(550, "5.7.1", "exactly one From field with one mailbox is required", "from_not_single")
SENDER_MALFORMED = OwnReply(550, "5.7.1", "the Sender field must hold one mailbox", "sender_malformed")
FIELD_REPEATED = OwnReply(554, "5.6.0", "a header field that may appear once is repeated", "field_repeated")
HEADER_MALFORMED = OwnReply(554, "5.6.0", "malformed header section", "header_malformed")
HEADER_TOO_LARGE = OwnReply(552, "5.3.4", "header section too large", "header_too_large")
LINE_TOO_LONG = OwnReply(554, "5.6.0", "a line is longer than 998 octets", "line_too_long")
BARE_LINE_ENDING = OwnReply(554, "5.6.0", "bare CR or LF in the content", "bare_line_ending")
# Whoever raises this names the field before the text.
CONTROL_REFUSED = OwnReply(550, "5.6.0", "a control field cannot be honoured", "control_refused")
IDEMPOTENCY_KEY_REUSED = OwnReply(
    550, "5.6.0", "X-Relay-Idempotency-Key: used for another mail within 24 h", "idempotency_key_reused"
)
NUL_IN_CONTENT = OwnReply(554, "5.6.0", "NUL in the content", "nul_in_content")
# RFC 1870 §6.1.
TOO_LARGE = OwnReply(552, "5.3.4", "message too large", "too_large")
MAIL_LOOP = OwnReply(554, "5.4.6", "too many hops, possible mail loop", "mail_loop")

# Not now.
SENDING_TOO_FAST = OwnReply(450, "4.7.1", "sending too fast, try again later", "sending_too_fast")
TOO_MANY_CONNECTIONS = OwnReply(421, "4.7.0", "too many connections, try again later", "too_many_connections")
IDLE_TOO_LONG = OwnReply(421, "4.4.2", "timeout, closing connection", "timeout")
SHUTTING_DOWN = OwnReply(421, "4.3.2", "service is restarting, try again", "shutting_down")
LOCAL_TROUBLE = OwnReply(451, "4.3.0", "temporary local problem, try again later", "local_trouble")
STORAGE_SHORT = OwnReply(452, "4.3.1", "not enough storage, try again later", "storage_short")
