"""The words for what the audit log holds: a sentence per action, and names for the values that changed.

A test goes through the code and fails for an action without words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.models import Role
from relayweb.console import brakes
from relayweb.console.credential_words import CREDENTIAL_KINDS, CREDENTIAL_USES
from relayweb.console.words import GROUPS, ROLES, Text

# {name} is what it was done to.
DEEDS: dict[str, Text] = {
    "alert.acknowledge": _("Took the alert {name}"),
    "alert.take_back": _("Gave the alert {name} back"),
    "alert.mute": _("Muted the alert {name}"),
    "alert.unmute": _("Unmuted the alert {name}"),
    "alert.test": _("Sent a test alert: {name}"),
    "brake.pull": _("A brake was pulled: {name}"),
    "brake.release": _("A brake was let go: {name}"),
    "brake.appeal": _("Asked for the release of a brake: {name}"),
    "brake.refuse": _("Kept a brake pulled after a request: {name}"),
    "brake.level": _("Changed how strictly brakes watch {name}"),
    "credential.issue": _("Issued the credential {name}"),
    "credential.approve": _("Approved the credential {name}"),
    "credential.revoke": _("Revoked the credential {name}"),
    "credential.rotate": _("Made a new secret for the credential {name}"),
    "domain.add": _("Added the sending domain {name}"),
    "domain.assume": _("Vouched for the sending domain {name}"),
    "domain.verify": _("The sending domain {name} was verified"),
    "domain.lapse": _("The verification of the sending domain {name} lapsed"),
    "domain.lose": _("The sending domain {name} went to another tenant"),
    "domain.remove": _("Removed the sending domain {name}"),
    "domain.restore": _("Restored the sending domain {name}"),
    "domain.key_renew": _("Made a new DKIM key for {name}"),
    "domain.key_switch": _("Changed which DKIM key signs for {name}"),
    "domain.update": _("Changed the sending domain {name}"),
    "invitation.accept": _("Accepted the invitation for {name}"),
    "invitation.resend": _("Sent the invitation for {name} again"),
    "invitation.send": _("Invited {name}"),
    "invitation.withdraw": _("Withdrew the invitation for {name}"),
    "job.cancel": _("Cancelled a job on the send log: {name}"),
    "key.rotate": _("Sealed secrets anew with the current key"),
    "limits.set": _("Changed the limits of {name}"),
    "log.export": _("Asked for an export of the send log: {name}"),
    "log.retry": _("Asked to have all mail of a filter tried again: {name}"),
    "log.retry_done": _("All mail of a filter was put forward: {name}"),
    "log.hold": _("Asked to hold all mail of a filter: {name}"),
    "log.hold_done": _("All mail of a filter was held: {name}"),
    "log.release": _("Asked to release all mail of a filter: {name}"),
    "log.release_done": _("All mail of a filter was released: {name}"),
    "log.cancel": _("Asked to cancel all mail of a filter: {name}"),
    "log.cancel_done": _("All mail of a filter was cancelled: {name}"),
    "member.leave": _("Left the tenant: {name}"),
    "member.remove": _("Removed the member {name}"),
    "member.role": _("Changed the role of {name}"),
    "message.cancel": _("Cancelled mail: {name}"),
    "message.hold": _("Held mail: {name}"),
    "message.release": _("Released mail: {name}"),
    "message.send_again": _("Sent mail again as a new message: {name}"),
    "message.retry": _("Had mail tried again: {name}"),
    "operator.create": _("Made {name} an operator"),
    "operator.dismiss": _("Dismissed the operator {name}"),
    "person.sign_up": _("Signed up: {name}"),
    "person.password": _("Changed the password of {name}"),
    "person.email": _("Changed the e-mail address to {name}"),
    "person.update": _("Changed the profile of {name}"),
    "factor.add": _("Added a second factor for {name}"),
    "factor.remove": _("Removed a second factor of {name}"),
    "factor.codes": _("Made recovery codes for {name}"),
    "session.end": _("Ended a session of {name}"),
    "session.end_others": _("Ended the other sessions of {name}"),
    "node.drain": _("Drained the node {name}"),
    "node.resume": _("Took the node {name} back into use"),
    "pool.add": _("Added the pool {name}"),
    "pool.assign": _("Assigned the pool {name}"),
    "pool.standby": _("Changed the stand-by pool of {name}"),
    "pool.update": _("Changed the pool {name}"),
    "pool.remove": _("Removed the pool {name}"),
    "provider_data.import": _("Imported figures of a provider: {name}"),
    "provider_data.undo": _("Took back an import of a provider's figures: {name}"),
    "reply_rule.add": _("Added the reply rule {name}"),
    "reply_rule.change": _("Changed the reply rule {name}"),
    "reply_rule.disable": _("Switched the reply rule {name} off"),
    "reply_rule.enable": _("Switched the reply rule {name} on"),
    "reply_rule.move": _("Moved the reply rule {name}"),
    "reply_rule.remove": _("Removed the reply rule {name}"),
    "reply_rule.restore": _("Restored the reply rule {name}"),
    "route.remove": _("Removed the route {name}"),
    "route.set": _("Set the route {name}"),
    "shaping.release": _("Lifted the suspension of {name}"),
    "shaping.set": _("Changed the shaping of {name}"),
    "shaping.suspend": _("Suspended sending to {name}"),
    "source.add": _("Added the source address {name}"),
    "source.families": _("Changed the address families of {name}"),
    "source.pause": _("Paused the source address {name}"),
    "source.resume": _("Resumed the source address {name}"),
    "source.move": _("Moved the source address {name} to another pool"),
    "source.update": _("Changed the source address {name}"),
    "source.remove": _("Removed the source address {name}"),
    "suppression.add": _("Suppressed {name}"),
    "suppression.import": _("Imported suppressions: {name}"),
    "suppression.remove": _("Lifted the suppression of {name}"),
    "suppression.restore": _("Restored the suppression of {name}"),
    "filter.save": _("Saved the filter {name}"),
    "filter.rename": _("Renamed the filter {name}"),
    "filter.remove": _("Removed the filter {name}"),
    "suppression.add_many": _("Suppressed several addresses: {name}"),
    "suppression.remove_many": _("Lifted several suppressions: {name}"),
    "suppression.import_undo": _("Took back an import of suppressions: {name}"),
    "unmatched_reply.heed": _("Took the unclassified replies “{name}” back into the list"),
    "unmatched_reply.ignore": _("Ignored the unclassified replies “{name}”"),
    "warmup.set": _("Set the stage of a warm-up: {name}"),
    "warmup.start": _("Started the warm-up of {name}"),
    "warmup.step": _("A warm-up went to another stage: {name}"),
    "warmup.stop": _("Stopped the warm-up of {name}"),
    "webhook.add": _("Added the webhook {name}"),
    "webhook.update": _("Changed the webhook {name}"),
    "webhook.enable": _("Switched the webhook {name} on"),
    "webhook.disable": _("Switched the webhook {name} off"),
    "webhook.rotate": _("Made a new secret for the webhook {name}"),
    "webhook.remove": _("Removed the webhook {name}"),
    "webhook.restore": _("Restored the webhook {name}"),
    "webhook.replay": _("Replayed events to the webhook {name}"),
    "webhook.test": _("Tested the webhook {name}"),
    "tenant.approve": _("Approved the tenant {name}"),
    "tenant.act_as": _("An operator acted for {name}"),
    "tenant.act_as_end": _("An operator stopped acting for {name}"),
    "tenant.operators_read": _("Changed whether operators who act for members of {name} see contents"),
    "tenant.close": _("Closed the tenant {name}"),
    "tenant.create": _("Made the tenant {name}"),
    "tenant.export": _("Asked for an export of everything of {name}"),
    "tenant.export_download": _("Downloaded an export of everything of {name}"),
    "tenant.erase": _("Erased the tenant {name}"),
    "tenant.quiet_hours": _("Changed the quiet hours of {name}"),
    "tenant.resume": _("Resumed the tenant {name}"),
    "tenant.seal_content": _("Changed whether the content of {name} is sealed with a key of its own"),
    "tenant.suspend": _("Suspended the tenant {name}"),
    "tenant.transfer": _("Handed the tenant {name} over"),
    "tenant.two_factors": _("Changed whether members of {name} need a second factor"),
    "tenant.update": _("Changed the settings of {name}"),
    "trust.set": _("Changed the step of {name} on the trust ladder"),
}

# What operators do beside that.
OPERATORS_NOUNS: dict[str, Text] = {
    "alert": _("Alerts"),
    "factor": _("Second factors"),
    "key": _("Keys that seal"),
    "node": _("Nodes"),
    "operator": _("Operators"),
    "person": _("People"),
    "pool": _("Pools"),
    "provider_data": _("Figures of providers"),
    "reply_rule": _("Reply rules"),
    "route": _("Routes"),
    "session": _("Sessions"),
    "shaping": _("Throttles"),
    "source": _("Source addresses"),
    "unmatched_reply": _("Unclassified replies"),
    "warmup": _("Warm-up"),
}

NOUNS: dict[str, Text] = {
    "brake": _("Brakes"),
    "credential": _("Credentials"),
    "domain": _("Sending domains"),
    "filter": _("Saved filters"),
    "invitation": _("Invitations"),
    "job": _("Exports and changes"),
    "limits": _("Limits"),
    "log": _("Send log"),
    "member": _("Members"),
    "message": _("Mail"),
    "suppression": _("Suppressions"),
    "tenant": _("The tenant"),
    "trust": _("Trust ladder"),
    "webhook": _("Webhooks"),
}

VALUES: dict[str, Text] = {
    "adds_unsubscribe": _("own way to unsubscribe added"),
    "class": pgettext_lazy("reply", "class"),
    "action": pgettext_lazy("reply", "action"),
    "scope": pgettext_lazy("reply", "reach"),
    "covers_subdomains": _("subdomains covered"),
    "enabled": _("in use"),
    "from": _("from (time of day)"),
    "groups": _("providers"),
    "keeps_reverse_path": _("own reverse-path kept"),
    "max_message_bytes": _("octets of one message"),
    "max_recipients": _("recipients of one message"),
    "lets_operators_read": _("operators may see contents"),
    "place": pgettext_lazy("in an order", "place"),
    "read": _("rows read"),
    "running": _("running warm-ups"),
    "signs": _("signed with DKIM"),
    "tls": _("TLS"),
    "trust_level": _("step of the trust ladder"),
    "url": _("URL"),
    "brake_level": _("level of brakes"),
    "rule": _("rule"),
    "until": _("until (time of day)"),
    "streams": _("streams"),
    "content_retention_days": _("content kept for (days)"),
    "changed": _("recipients changed"),
    "copy": _("new message"),
    "recipients": _("recipients"),
    "count": _("number"),
    "daily_limit": _("recipients a day"),
    "email": _("e-mail address"),
    "exact": _("counted exactly"),
    "filter": _("filter"),
    "found": _("recipients found"),
    "hourly_limit": _("recipients an hour"),
    "in_hand": _("being sent at that moment"),
    "keeps_content_after_delivery": _("content kept after delivery"),
    "seals_content": _("content sealed with a key of its own"),
    "kind": _("kind"),
    "language": _("language"),
    "log_retention_days": _("log kept for (days)"),
    "monthly_limit": _("recipients a month"),
    "name": _("name"),
    "node": _("node"),
    "note": pgettext_lazy("remark", "note"),
    "pool": _("pool"),
    "standby": _("stand-by pool"),
    "ehlo_name": _("EHLO name"),
    "weight": _("Weight"),
    "drained": _("drained"),
    "ends_at": _("ends at"),
    "source": _("source address"),
    "tenant": _("tenant"),
    "paths": _("paths"),
    "network": _("network"),
    "owner": _("owner"),
    "owner_is_new": _("owner is new"),
    "rate_per_second": _("recipients a second"),
    "reason": _("reason"),
    "refuses_suppressed": _("suppressed recipients refused"),
    "required": _("required"),
    "role": _("role"),
    "shared": _("shared with the tenant"),
    "slug": _("short name"),
    "state": _("state"),
    "step": _("step"),
    "stream": _("stream"),
    "time_zone": _("time zone"),
    "use": _("used by"),
    "username": _("user name"),
    "address": _("address"),
    "awaits_approval": _("waits for an operator"),
    "connections": _("connections"),
    "events": _("events"),
    "families": _("IP versions"),
    "former_secret_until": _("former secret works until"),
    "host": _("host"),
    "is_assumed": _("verified without a record"),
    "is_operator": _("operator"),
    "is_test": _("for tests only"),
    "only_domain": _("for this domain only"),
    "only_networks": _("from these networks only"),
    "port": _("port"),
    "refused": _("refused"),
    "removed": _("removed"),
    "revoked_at": _("revoked at"),
    "schedule": _("schedule"),
    "scopes": _("scopes"),
    "stage": _("stage"),
    "target": _("target"),
    "values": _("values"),
}


# What a state is called here, of whichever thing it is: in the middle of a sentence, so without an icon or capitals.
STATES: dict[str, Text] = {
    "active": pgettext_lazy("state", "active"),
    "closed": pgettext_lazy("state", "closed"),
    "disabled": pgettext_lazy("state", "switched off"),
    "finished": pgettext_lazy("state", "finished"),
    "lapsed": pgettext_lazy("state", "lapsed"),
    "paused": pgettext_lazy("state", "paused"),
    "pending": pgettext_lazy("state", "not verified yet"),
    "removed": pgettext_lazy("state", "removed"),
    "retired": pgettext_lazy("state", "retired"),
    "running": pgettext_lazy("state", "running"),
    "stopped": pgettext_lazy("state", "stopped"),
    "suspended": pgettext_lazy("state", "suspended"),
    "unusable": pgettext_lazy("state", "unusable"),
    "verified": pgettext_lazy("state", "verified"),
}

# Machine words among the values, by the name of what they are the value of.
WORDS: dict[str, Mapping[str, Text]] = {
    "state": STATES,
    "step": {step: mark.label for step, mark in brakes.STEPS.items()},
    "rule": brakes.RULES,
    "brake_level": {"none": _("none"), "standard": _("standard"), "strict": _("strict"), "": _("the default")},
    "kind": {
        "shared": pgettext_lazy("pool", "Shared"),
        "dedicated": pgettext_lazy("pool", "Dedicated to one tenant"),
        "quarantine": pgettext_lazy("pool", "Quarantine"),
        "google": "Google",
        "microsoft": "Microsoft",
        **{kind: label for kind, (label, _hint) in CREDENTIAL_KINDS.items()},
    },
    "groups": {**GROUPS, "all": _("all")},
    "schedule": {"by provider group": _("the one made for the provider")},
    "tls": {
        "none": _("none"),
        "opportunistic": _("where it is offered"),
        "required": _("required"),
        "verified": _("required, with a good certificate"),
    },
    "use": {use: label for use, (label, _hint) in CREDENTIAL_USES.items()},
    "language": {"ja": _("Japanese"), "en": _("English")},
    "families": {
        "46": _("IPv4 first"),
        "64": _("IPv6 first"),
        "4": _("IPv4 only"),
        "6": _("IPv6 only"),
    },
}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[Text, str, str]]:
    """What changed: its name, what it was and what it is; empty for what was not there."""
    written = [
        (VALUES.get(name, name), _written(before.get(name), name), _written(after.get(name), name))
        for name in dict.fromkeys([*before, *after])
    ]
    return [(name, was, now) for name, was, now in written if was != now]


def _written(value: Any, name: str) -> str:
    if name == "role" and value in Role.values:
        return str(ROLES[Role(value)])
    words = WORDS.get(name, {})
    if isinstance(value, str) and value in words:
        return str(words[value])
    match value:
        case None | "" | []:
            return ""
        case True:
            return str(_("on"))
        case False:
            return str(_("off"))
        case list():
            return ", ".join(str(words.get(str(one), one)) for one in value)
        case _:
            return str(value)
