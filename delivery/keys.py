"""Sealed secrets, carried over to the current key.

``RELAY_ENCRYPTION_KEYS`` names the current key first and former ones behind it; once everything has been sealed anew,
nothing needs the former ones to be opened. What was *signed* with keys made from them (bounce mailboxes, links to
unsubscribe, recovery codes) stays in the world and is known only while they are named: docs/upgrading.md says how long.
Each row is a change of its own: whoever is interrupted goes on where they stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection

from accounts import audit, factors, sealing
from accounts.audit import Actor
from delivery.models import ContentKey, DkimKey, Route, Webhook


@dataclass(frozen=True, slots=True)
class Resealed:
    current_key: str
    dkim_keys: int
    route_passwords: int
    webhook_secrets: int
    one_time_passwords: int
    content_keys: int


_SEALED = (
    ("accounts_onetimepassword", "secret_sealed"),
    ("delivery_contentkey", "sealed_key"),
    ("delivery_dkimkey", "sealed_private_key"),
    ("delivery_route", "sealed_password"),
    ("delivery_webhook", "sealed_secret"),
    ("delivery_webhook", "sealed_former_secret"),
)


def used_key_ids() -> set[str]:
    """Ids of the keys that something is sealed with at present."""
    found = set()
    with connection.cursor() as cursor:
        for table, column in _SEALED:
            cursor.execute(
                f"SELECT DISTINCT substring({column} for position('\\x00'::bytea in {column}) - 1)"
                f" FROM {table} WHERE {column} IS NOT NULL"
            )
            found |= {bytes(row[0]).decode(errors="replace") for row in cursor.fetchall()}
    return found


def reseal_all(*, actor: Actor) -> Resealed:
    """Raises SealingError at the first secret whose key is not configured; what was done before stays done."""
    resealed = Resealed(
        current_key=sealing.current_key_id(),
        dkim_keys=_reseal(DkimKey.objects.order_by("id"), "sealed_private_key"),
        route_passwords=_reseal(Route.objects.exclude(sealed_password=None).order_by("id"), "sealed_password"),
        webhook_secrets=_reseal(Webhook.objects.order_by("id"), "sealed_secret")
        + _reseal(Webhook.objects.exclude(sealed_former_secret=None).order_by("id"), "sealed_former_secret"),
        one_time_passwords=factors.reseal_one_time_passwords(),
        content_keys=_reseal(ContentKey.objects.order_by("id"), "sealed_key"),
    )
    audit.record(
        actor,
        "key.rotate",
        object_name=resealed.current_key,
        after={
            "dkim_keys": resealed.dkim_keys,
            "route_passwords": resealed.route_passwords,
            "webhook_secrets": resealed.webhook_secrets,
            "one_time_passwords": resealed.one_time_passwords,
            "content_keys": resealed.content_keys,
        },
    )
    return resealed


def _reseal(rows: Iterable[ContentKey | DkimKey | Route | Webhook], field: str) -> int:
    current = sealing.current_key_id().encode() + b"\0"
    count = 0
    for row in rows:
        sealed = bytes(getattr(row, field))
        if sealed.startswith(current):
            continue
        context = row.sealing_context(row.pk)
        renewed = sealing.seal(sealing.unseal(sealed, context=context), context=context)
        # Another value by now means that somebody set it meanwhile, with the current key.
        count += type(row)._default_manager.filter(pk=row.pk, **{field: sealed}).update(**{field: renewed})
    return count
