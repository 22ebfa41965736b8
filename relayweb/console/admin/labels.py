"""The words and marks that operator pages share."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.models import AuditEntry, TenantState
from delivery.models import PoolKind, ProviderGroup, SourceAddress, SourceState
from relayweb.console import deeds, words
from relayweb.console.words import Mark, Text

SOURCE_STATES: dict[str, Mark] = {
    SourceState.ACTIVE: Mark(pgettext_lazy("source address", "In use"), _("Mail leaves from it."), "ok", "check"),
    SourceState.DRAINING: Mark(
        pgettext_lazy("source address", "Draining"),
        _("What is under way and greylisted is finished; new mail leaves from other addresses."),
        "wait",
        "hourglass-off",
    ),
    SourceState.PAUSED: Mark(
        pgettext_lazy("source address", "Paused"), _("No new attempt begins from it."), "hold", "player-pause"
    ),
    SourceState.UNUSABLE: Mark(
        _("Cannot be used"),
        _("Its node cannot bind it, or does not get out. It is looked at again every 20 seconds, by itself."),
        "fail",
        "circle-x",
    ),
    SourceState.RETIRED: Mark(
        pgettext_lazy("source address", "Retired"), _("It is kept for the history only."), "quiet", "circle-minus"
    ),
}
CHECK_STATES: dict[str, Mark] = {
    "ok": Mark(pgettext_lazy("check", "Good"), "", "ok", "check"),
    "bad": Mark(pgettext_lazy("check", "Problem"), "", "fail", "circle-x"),
    "failed": Mark(
        pgettext_lazy("check", "Check failed"), _("It says nothing about the address."), "quiet", "circle-dashed", True
    ),
}
POOL_KINDS: dict[str, Text] = {
    PoolKind.SHARED: pgettext_lazy("pool", "Shared"),
    PoolKind.DEDICATED: pgettext_lazy("pool", "Dedicated to one tenant"),
    PoolKind.QUARANTINE: pgettext_lazy("pool", "Quarantine"),
}
TENANT_STATES: dict[str, Mark] = {
    TenantState.ACTIVE: Mark(_("Active"), _("It can hand over mail."), "ok", "check"),
    TenantState.SUSPENDED: Mark(
        _("Paused"), _("New mail is put off with 450; what was taken is kept."), "hold", "player-pause"
    ),
    TenantState.CLOSED: Mark(_("Closed"), _("No credential works any more."), "quiet", "circle-minus"),
}


def source_name(source: SourceAddress) -> Text:
    return source.address or _("The system's choice")


def group_title(group: ProviderGroup) -> Text:
    return words.GROUPS.get(group.key, group.title)


class Change:
    """One line of what people changed."""

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry
        sentence = deeds.DEEDS.get(entry.action, "{name}")
        self.sentence = words.fill(sentence, name=entry.object_name or "–")
        self.changes = deeds.changes(entry.before, entry.after)
