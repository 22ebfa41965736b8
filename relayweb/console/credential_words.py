"""The words for credentials: their kinds, their uses, and how they stand."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from accounts.models import CredentialKind, CredentialUse
from relayweb.console.words import Mark, Text

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
