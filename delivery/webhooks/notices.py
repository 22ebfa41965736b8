"""Tells the people of a tenant that a webhook was disabled without them: it answered 410, or failed for days."""

from __future__ import annotations

import smtplib
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import DatabaseError, transaction
from django.utils import timezone, translation
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from accounts.models import Membership, Role, User
from delivery.core.replies import Rejection
from delivery.models import Webhook
from delivery.models.webhook import DisabledReason

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 50
_TOLD = (Role.OWNER, Role.ADMIN, Role.DEVELOPER)


def send_due() -> int:
    """How many webhooks were told of. A mail that could not be handed over is tried again at the next look."""
    sent = 0
    while sent < _MOST_AT_ONCE and _send_next():
        sent += 1
    return sent


def _send_next() -> bool:
    with transaction.atomic():
        webhook = (
            Webhook.objects.select_related("tenant")
            .select_for_update(skip_locked=True, of=("self",))
            .filter(is_notice_due=True)
            .first()
        )
        if webhook is None:
            return False
        members = Membership.objects.filter(tenant=webhook.tenant, role__in=_TOLD, user__is_active=True)
        try:
            for membership in members.select_related("user"):
                _write_to(membership.user, webhook)
        except (Rejection, smtplib.SMTPException, DatabaseError, OSError) as error:
            log.warning("webhook_notice_waits", webhook=str(webhook.id), error=str(error))
            return False
        Webhook.objects.filter(pk=webhook.pk).update(is_notice_due=False)
    return True


def _write_to(person: User, webhook: Webhook) -> None:
    zone = ZoneInfo(person.time_zone or webhook.tenant.time_zone)
    with translation.override(person.language or webhook.tenant.language), timezone.override(zone):
        subject, body = _worded(webhook)
    send_mail(subject, body, None, [person.email])


def _worded(webhook: Webhook) -> tuple[str, str]:
    values = {
        "url": webhook.url,
        "name": webhook.name or webhook.url,
        "since": _moment(webhook.failing_since or webhook.disabled_at),
        "status": webhook.last_status or webhook.last_outcome,
        "tenant": webhook.tenant.name,
        "days": webhook.tenant.log_retention_days,
        "link": f"{settings.PUBLIC_URL}/t/{webhook.tenant.slug}/webhooks/{webhook.id}/",
        "service": settings.SERVICE_NAME,
    }
    why = (
        _("The endpoint answered 410 Gone, which asks us not to call it any more.")
        if webhook.disabled_reason == DisabledReason.GONE
        else _("No good answer since %(since)s (last: %(status)s).")
    )
    paragraphs = [
        _("The webhook “%(name)s” of %(tenant)s is switched off.") + "\n%(url)s",
        why,
        _("Mail is sent as before. Events are kept for %(days)s days: enable the webhook, and they can be replayed."),
        "%(link)s",
        "— %(service)s",
    ]
    subject = "[%(service)s] " + _("Webhook “%(name)s” is switched off")
    return subject % values, "\n\n".join(paragraphs) % values + "\n"


def _moment(moment: object) -> str:
    assert moment is not None
    return date_format(timezone.localtime(moment), "DATETIME_FORMAT")  # type: ignore[arg-type]
