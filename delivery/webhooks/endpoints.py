"""A tenant's webhooks: added, changed, rotated, tested, disabled, removed and taken back. Every change is in the audit log.

A change takes the webhook out of its caller's hands, so that the next call is made with what is written now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, sealing
from accounts.audit import Actor
from accounts.identifiers import uuid7
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.core import webhooks
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.core.states import EVENT_TYPES
from delivery.core.webhooks import UrlUnusable
from delivery.dns import DnsFailure, Resolver
from delivery.models import Webhook, WebhookFormat, WebhookState
from delivery.models.webhook import MOST_IN_A_CALL, DisabledReason
from delivery.transport.guard import DestinationGuard
from delivery.webhooks import notices, wake
from delivery.webhooks.formats import FORMATS

MOST_OF_A_TENANT = 50
OVERLAP = timedelta(hours=24)  # how long a rotated secret signs beside the new one
UNDO_WINDOW = timedelta(days=7)
_DNS_SECONDS = 3.0

# Whoever serves it must read it anew; how it did before says nothing of what it is now.
_OUT_OF_HANDS: dict[str, Any] = {
    "owner": "",
    "leased_until": None,
    "failures": 0,
    "failing_since": None,
    "resting_until": None,
}


@dataclass(frozen=True, slots=True)
class Made:
    """``secret`` is to be shown once: what a receiver needs to check signatures."""

    webhook: Webhook
    secret: str


def add_webhook(
    tenant: Tenant,
    *,
    url: str,
    events: Sequence[str],
    actor: Actor,
    name: str = "",
    form: str = WebhookFormat.STANDARD,
    most_in_a_call: int = 1,
) -> Made:
    """Raises Refused. Looks the URL's host up, which takes as long as the DNS takes; not for use inside an event loop."""
    chosen = {
        "url": checked_url(url),
        "events": _checked_events(events, _checked_format(form)),
        "format": form,
        "most_in_a_call": _checked_most(most_in_a_call),
        "name": name.strip()[:120],
    }
    key, secret = uuid7(), FORMATS[form].new_secret()
    with transaction.atomic():
        Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)  # counted one at a time
        if Webhook.objects.of(tenant).exclude(state=WebhookState.REMOVED).count() >= MOST_OF_A_TENANT:
            raise Refused(
                _("A tenant can have %(most)s webhooks.") % {"most": MOST_OF_A_TENANT}, reason="too_many_webhooks"
            )
        webhook = Webhook.objects.create(
            id=key, tenant=tenant, sealed_secret=_sealed(secret, key), created_by=actor.user, **chosen
        )
        _record(webhook, actor, "webhook.add", after=chosen)
    return Made(webhook, FORMATS[form].shown(secret))


def update_webhook(
    webhook: Webhook,
    *,
    actor: Actor,
    url: str | None = None,
    events: Sequence[str] | None = None,
    name: str | None = None,
    most_in_a_call: int | None = None,
) -> Webhook:
    """What is None stays. Raises Refused."""
    wanted: dict[str, Any] = {}
    if url is not None and url.strip() != webhook.url:
        wanted["url"] = checked_url(url)
    if events is not None:
        wanted["events"] = _checked_events(events, webhook.format)
    if name is not None:
        wanted["name"] = name.strip()[:120]
    if most_in_a_call is not None:
        wanted["most_in_a_call"] = _checked_most(most_in_a_call)
    with transaction.atomic():
        row = _locked(webhook)
        before = {field: getattr(row, field) for field in wanted}
        changed = {field: value for field, value in wanted.items() if value != before[field]}
        if changed:
            Webhook.objects.filter(pk=row.pk).update(**changed, **_OUT_OF_HANDS)
            _record(row, actor, "webhook.update", before={name: before[name] for name in changed}, after=changed)
    return _again(webhook)


def rotate_secret(webhook: Webhook, *, actor: Actor, overlap: timedelta = OVERLAP) -> str:
    """A new secret; calls are signed with the old one too, for ``overlap``. Raises Refused."""
    secret = FORMATS[webhook.format].new_secret()
    keeps = overlap > timedelta(0)
    with transaction.atomic():
        row = _locked(webhook)
        until = timezone.now() + overlap if keeps else None
        Webhook.objects.filter(pk=row.pk).update(
            sealed_secret=_sealed(secret, row.id),
            sealed_former_secret=row.sealed_secret if keeps else None,
            former_secret_until=until,
            owner="",
            leased_until=None,
        )
        _record(row, actor, "webhook.rotate", after={"former_secret_until": until})
    _again(webhook)
    return FORMATS[webhook.format].shown(secret)


def disable_webhook(webhook: Webhook, *, actor: Actor) -> Webhook:
    """No events are noted for it and none are told; what waits, waits on. Raises Refused."""
    with transaction.atomic():
        _change_state(
            webhook,
            actor,
            "webhook.disable",
            from_state=WebhookState.ACTIVE,
            state=WebhookState.DISABLED,
            disabled_at=timezone.now(),
            disabled_reason=DisabledReason.PERSON,
        )
    return _again(webhook)


def enable_webhook(webhook: Webhook, *, actor: Actor) -> Webhook:
    """What waited is told at once. What happened meanwhile can be replayed. Raises Refused."""
    with transaction.atomic():
        _change_state(
            webhook,
            actor,
            "webhook.enable",
            from_state=WebhookState.DISABLED,
            state=WebhookState.ACTIVE,
            disabled_at=None,
            disabled_reason="",
            is_notice_due=False,
        )
        notices.close(webhook)
    wake.ring()
    return _again(webhook)


def remove_webhook(webhook: Webhook, *, actor: Actor) -> Webhook:
    """``restore_webhook`` undoes it within UNDO_WINDOW. Raises Refused."""
    with transaction.atomic():
        row = _locked(webhook)
        Webhook.objects.filter(pk=row.pk).update(
            state=WebhookState.REMOVED, removed_at=timezone.now(), is_notice_due=False, test_id=None, **_OUT_OF_HANDS
        )
        notices.close(webhook)
        _record(row, actor, "webhook.remove", before={"url": row.url, "state": row.state})
    return _again(webhook)


def restore_webhook(webhook: Webhook, *, actor: Actor) -> Webhook:
    """As it was; one that was disabled is disabled. Raises Refused."""
    with transaction.atomic():
        row = Webhook.objects.select_for_update().get(pk=webhook.pk)
        if row.state != WebhookState.REMOVED or row.removed_at is None:
            raise Refused(_("The webhook is not removed."), reason="state_unchanged")
        if row.removed_at < timezone.now() - UNDO_WINDOW:
            raise Refused(_("It was removed too long ago."), reason="too_late")
        state = WebhookState.DISABLED if row.disabled_at is not None else WebhookState.ACTIVE
        Webhook.objects.filter(pk=row.pk).update(state=state, removed_at=None)
        _record(row, actor, "webhook.restore", after={"state": state})
    wake.ring()
    return _again(webhook)


def request_test(webhook: Webhook, *, actor: Actor) -> UUID:
    """Have a test call made, also to a disabled webhook; returns the id it will carry. Raises Refused."""
    test_id = uuid7()
    with transaction.atomic():
        row = _locked(webhook)
        Webhook.objects.filter(pk=row.pk).update(test_id=test_id)
        _record(row, actor, "webhook.test")
    wake.ring()
    return test_id


# ---------------------------------------------------------------- finding


def find_webhook(key: str | UUID, *, tenant: Tenant | None = None, removed: bool = False) -> Webhook:
    """By id. Raises NotFound, also for another tenant's and, unless ``removed``, for one that was removed."""
    found = Webhook.objects.all() if tenant is None else Webhook.objects.of(tenant)
    found = found.filter(state=WebhookState.REMOVED) if removed else found.exclude(state=WebhookState.REMOVED)
    wanted = _as_uuid(key)
    webhook = None if wanted is None else found.select_related("tenant").filter(pk=wanted).first()
    if webhook is None:
        raise NotFound(_("There is no webhook %(key)s.") % {"key": key}, field="webhook")
    return webhook


def list_webhooks(tenant: Tenant) -> list[Webhook]:
    return list(Webhook.objects.of(tenant).exclude(state=WebhookState.REMOVED).order_by("created_at"))


def list_removed(tenant: Tenant) -> list[Webhook]:
    """Those that can be taken back."""
    since = timezone.now() - UNDO_WINDOW
    removed = Webhook.objects.of(tenant).filter(state=WebhookState.REMOVED, removed_at__gte=since)
    return list(removed.order_by("-removed_at"))


# ---------------------------------------------------------------- what may be chosen


def checked_url(text: str) -> str:
    """Raises Refused with a sentence that says what is wrong with it."""
    url = _with_ascii_host(text.strip())
    if len(url) > 2000:
        raise _unusable("malformed")
    try:
        parts = webhooks.read_url(url, any_port=bool(settings.WEBHOOK_DESTINATIONS))
    except UrlUnusable as error:
        raise _unusable(error.reason) from None
    host = parts.hostname or ""
    addresses = [host] if _is_address(host) else _look_up(host)
    guard = DestinationGuard(settings.WEBHOOK_DESTINATIONS)
    if not all(guard.is_allowed(address) for address in addresses):
        raise _unusable("address")
    return url


def _with_ascii_host(text: str) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        if host.isascii() or "@" in parts.netloc:
            return text
        port = f":{parts.port}" if parts.port is not None else ""
        return urlunsplit(parts._replace(netloc=parse_domain(host) + port))
    except (ValueError, MailboxSyntaxError):
        return text


def _look_up(host: str) -> list[str]:
    """The addresses of a name; none where the DNS does not answer now, for then nothing is known against it."""
    server = (settings.DNS.host, settings.DNS.port) if settings.DNS else None

    async def ask() -> list[str]:
        async with asyncio.timeout(2 * _DNS_SECONDS):
            return await Resolver(server, _DNS_SECONDS).addresses(host)

    try:
        addresses = asyncio.run(ask())
    except DnsFailure as failure:
        if failure.is_transient:
            return []
        raise _unusable("name") from None
    except TimeoutError:
        return []
    if not addresses:
        raise _unusable("name")
    return addresses


def _unusable(reason: str) -> Refused:
    sentence = {
        "malformed": _("This is no URL: it reads like https://example.com/hooks."),
        "scheme": _("A URL of a webhook begins with https:// or http://."),
        "user": _("A URL of a webhook holds no user name or password."),
        "port": _("Only the usual ports are called: 443 for https, 80 for http."),
        "address": _("The URL leads to an address inside a private network, which is not called."),
        "name": _("The URL's host has no address in the DNS."),
    }[reason]
    return Refused(sentence, reason=f"url_{reason}", field="url")


def _checked_events(events: Sequence[str], form: str) -> list[str]:
    unknown = [kind for kind in events if kind not in EVENT_TYPES]
    if unknown:
        raise Refused(_("There is no event %(name)s.") % {"name": unknown[0]}, reason="event_unknown", field="events")
    untold = [kind for kind in events if kind not in FORMATS[form].events]
    if untold:
        raise Refused(
            _("The format %(format)s has no event %(name)s.") % {"format": form, "name": untold[0]},
            reason="event_not_in_format",
            field="events",
        )
    if not events:
        raise Refused(_("Choose at least one event."), reason="events_missing", field="events")
    return [kind for kind in EVENT_TYPES if kind in set(events)]


def _checked_format(form: str) -> str:
    if form not in FORMATS:
        raise Refused(_("There is no format %(name)s.") % {"name": form}, reason="format_unknown", field="format")
    return form


def _checked_most(most: int) -> int:
    if not 1 <= most <= MOST_IN_A_CALL:
        raise Refused(
            _("A call can tell 1 to %(most)s events.") % {"most": MOST_IN_A_CALL},
            reason="batch_size",
            field="most_in_a_call",
        )
    return most


# ---------------------------------------------------------------- small parts


def _change_state(webhook: Webhook, actor: Actor, action: str, *, from_state: str, **fields: Any) -> None:
    changed = Webhook.objects.filter(pk=webhook.pk, state=from_state).update(**fields, **_OUT_OF_HANDS)
    if not changed:
        raise Refused(_("The webhook is not in a state for this."), reason="state_unchanged")
    _record(webhook, actor, action, before={"state": from_state}, after={"state": fields["state"]})


def _locked(webhook: Webhook) -> Webhook:
    """Raises Refused for one that was removed meanwhile."""
    row = Webhook.objects.select_for_update().filter(pk=webhook.pk).exclude(state=WebhookState.REMOVED).first()
    if row is None:
        raise Refused(_("The webhook was removed."), reason="webhook_removed")
    return row


def _again(webhook: Webhook) -> Webhook:
    webhook.refresh_from_db()
    return webhook


def _sealed(secret: str, key: UUID) -> bytes:
    return sealing.seal(secret.encode(), context=Webhook.sealing_context(key))


def _record(webhook: Webhook, actor: Actor, action: str, **what: Any) -> None:
    audit.record(
        actor,
        action,
        tenant=webhook.tenant,
        object_id=webhook.id,
        object_name=(webhook.name or webhook.url)[:255],
        **what,
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _as_uuid(key: str | UUID) -> UUID | None:
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except ValueError:
        return None
