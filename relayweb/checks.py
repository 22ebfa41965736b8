"""Django's system checks for what would be dangerous or useless in production: said at start, before anything listens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import Error, Tags, register


@register(Tags.security)
def production_has_what_it_needs(app_configs: Any, **options: Any) -> list[Error]:
    if settings.DEVELOPMENT:
        return []
    found = []
    if not settings.PUBLIC_URL.startswith("https://"):
        found.append(Error("RELAY_PUBLIC_URL must begin with https:// in production.", id="relayweb.E001"))
    if not settings.ENCRYPTION_KEYS:
        found.append(
            Error(
                "RELAY_ENCRYPTION_KEYS is not set: DKIM keys could not be sealed.",
                hint="Make one: python3 -c \"import base64, os; print('1:' + base64.b64encode(os.urandom(32)).decode())\"",
                id="relayweb.E002",
            )
        )
    for name in ("TLS_CERT", "TLS_KEY"):
        path = getattr(settings, name)
        if not path:
            found.append(Error(f"RELAY_{name} is not set: gates cannot offer TLS.", id="relayweb.E003"))
        elif not os.access(Path(path), os.R_OK):
            found.append(Error(f"RELAY_{name} names {path}, which cannot be read.", id="relayweb.E004"))
    return found


@register()
def logo_is_a_picture(app_configs: Any, **options: Any) -> list[Error]:
    from relayweb.console import logo

    if not settings.LOGO_FILE:
        return []
    try:
        logo.read(Path(settings.LOGO_FILE))
    except ValueError as fault:
        return [Error(f"RELAY_LOGO_FILE {fault}.", id="relayweb.E012")]
    return []


@register()
def blocklists_are_known(app_configs: Any, **options: Any) -> list[Error]:
    from delivery.domain_blocklists.asking import domain_lists
    from delivery.source_checks.blocklists import blocklists

    found = []
    for name, known in (("BLOCKLISTS", blocklists()), ("DOMAIN_BLOCKLISTS", domain_lists())):
        if unknown := sorted(set(getattr(settings, name)) - set(known)):
            said = f"RELAY_{name} names {', '.join(unknown)}; there are {', '.join(known)}."
            found.append(Error(said, id="relayweb.E005"))
    return found


@register()
def alerts_can_be_told(app_configs: Any, **options: Any) -> list[Error]:
    from delivery.alerts import rules
    from delivery.core import webhooks
    from relayweb import alerting

    found = []
    try:
        rules.rules()
    except ValueError as error:
        found.append(Error(f"RELAY_ALERT_THRESHOLDS cannot be read: {error}.", id="relayweb.E006"))
    try:
        alerting.smtp_server()
    except ValueError as error:
        found.append(Error(f"{error}.", id="relayweb.E007"))
    try:
        if settings.ALERT_WEBHOOK_URL:
            webhooks.read_url(settings.ALERT_WEBHOOK_URL, any_port=bool(settings.WEBHOOK_DESTINATIONS))
            webhooks.key_of(settings.ALERT_WEBHOOK_SECRET)
    except ValueError as error:
        found.append(Error(f"RELAY_ALERT_WEBHOOK_URL or its secret cannot be used: {error}.", id="relayweb.E008"))
    return found
