"""Tells operators of alerts: letters over a server of their own where one is configured, and signed calls of a URL."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext

from accounts.models import User
from delivery.alerts import episodes, outbox, rules
from delivery.core import webhooks
from delivery.models import Alert, AlertTelling
from delivery.webhooks.caller import http_caller
from delivery.webhooks.calling import Answer
from delivery.webhooks.formats import moment_of
from relayweb import letters
from relayweb.console import alert_words
from relayweb.letters import Letter

_SMTP_TIMEOUT_S = 20


class NotTold(Exception):
    """What the receiver of a call answered instead of 2xx."""


def look_and_tell() -> dict[str, int]:
    """Bring alerts up to date and tell what is to be told."""
    now = timezone.now()
    watched = episodes.watch(rules.look(now=now), now=now)
    return {"opened": watched.opened, "closed": watched.closed, "reminded": watched.reminded, "sent": tell_due()}


def tell_due() -> int:
    return outbox.send_due(send)


def send(telling: AlertTelling) -> None:
    """Raises what goes wrong."""
    if telling.channel == "webhook":
        _call(telling)
    else:
        _write(telling)


# ---------------------------------------------------------------- letters


def _write(telling: AlertTelling) -> None:
    reader = User.objects.filter(email=telling.target).first()
    language = reader.language if reader else ""
    letters.deliver(telling.target, lambda: letter_of(telling), language=language, over=smtp_server())


def letter_of(telling: AlertTelling) -> Letter:
    alert = telling.alert
    subject = str(alert_words.OCCASIONS[telling.occasion]).format(what=alert_words.title(alert))
    body = [alert_words.sentence(alert)]
    if telling.occasion != "closed":
        body.append(alert_words.to_do(alert))
        if runbook := alert_words.runbook(alert):
            body.append(gettext("Step by step: {where}").format(where=runbook))
    after = () if telling.occasion == "closed" else (gettext("You can take it or mute it there."),)
    return Letter(subject, tuple(body), link_of(alert), after)


def link_of(alert: Alert) -> str:
    return settings.PUBLIC_URL.rstrip("/") + reverse("operator-alert", kwargs={"alert_id": alert.pk})


def smtp_server() -> BaseEmailBackend | None:
    """The server of RELAY_ALERT_SMTP_URL; None: the letters leave like all others. Raises ValueError for another URL."""
    if not settings.ALERT_SMTP_URL:
        return None
    url = urlsplit(settings.ALERT_SMTP_URL)
    if url.scheme not in {"smtp", "smtp+tls", "smtps"} or not url.hostname:
        raise ValueError("RELAY_ALERT_SMTP_URL must read smtp://, smtp+tls:// or smtps://[user:password@]host[:port]")
    usual = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    return get_connection(
        "django.core.mail.backends.smtp.EmailBackend",
        host=url.hostname,
        port=url.port or usual[url.scheme],
        username=unquote(url.username or ""),
        password=unquote(url.password or ""),
        use_tls=url.scheme == "smtp+tls",
        use_ssl=url.scheme == "smtps",
        timeout=_SMTP_TIMEOUT_S,
    )


# ---------------------------------------------------------------- calls


def _call(telling: AlertTelling) -> None:
    body = json.dumps(document_of(telling)).encode()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {"Content-Type": "application/json", "webhook-id": str(telling.pk), "webhook-timestamp": str(timestamp)}
    if settings.ALERT_WEBHOOK_SECRET:
        headers["webhook-signature"] = webhooks.signatures(
            [settings.ALERT_WEBHOOK_SECRET], webhook_id=str(telling.pk), timestamp=timestamp, body=body
        )
    answer = asyncio.run(_post(telling.target, body, headers))
    if not answer.is_good:
        raise NotTold(str(answer.status or answer.error))


async def _post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    caller = http_caller()
    try:
        return await caller.post(url, body, headers)
    finally:
        await caller.close()


def document_of(telling: AlertTelling) -> dict[str, Any]:
    """What docs/monitoring.md promises; the same at every call of a telling but for what became of the alert since."""
    alert = telling.alert
    return {
        "id": str(telling.pk),
        "type": f"alert.{telling.occasion}",
        "occurred_at": moment_of(telling.created_at),
        "alert": {
            "id": str(alert.pk),
            "kind": alert.kind,
            "subject": alert.subject,
            "severity": alert.severity,
            "opened_at": moment_of(alert.opened_at) if alert.opened_at else None,
            "closed_at": moment_of(alert.closed_at) if alert.closed_at else None,
            "evidence": alert.evidence,
            "url": link_of(alert),
            "runbook": alert_words.runbook(alert),
        },
    }
