"""The words for suppressions, imports of them, and unsubscribes."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from delivery.models import (
    ImportState,
    SuppressionKind,
    SuppressionReason,
    SuppressionScope,
)
from relayweb.console.words import Mark, Text

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
