"""The words for webhooks: their formats, how they stand, and how a call ended."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from delivery.models import (
    WebhookFormat,
    WebhookOutcome,
)
from relayweb.console.words import Mark, Text

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
