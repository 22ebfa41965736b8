"""Sealed secrets, carried over to the current key.

``RELAY_ENCRYPTION_KEYS`` names the current key first and former ones behind it; once everything has been sealed anew,
the former ones can be taken out. Each row is a change of its own: whoever is interrupted goes on where they stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accounts import audit, sealing
from accounts.audit import Actor
from delivery.models import DkimKey, Route, Webhook


@dataclass(frozen=True, slots=True)
class Resealed:
    current_key: str
    dkim_keys: int
    route_passwords: int
    webhook_secrets: int


def reseal_all(*, actor: Actor) -> Resealed:
    """Raises SealingError at the first secret whose key is not configured; what was done before stays done."""
    resealed = Resealed(
        current_key=sealing.current_key_id(),
        dkim_keys=_reseal(DkimKey.objects.order_by("id"), "sealed_private_key"),
        route_passwords=_reseal(Route.objects.exclude(sealed_password=None).order_by("id"), "sealed_password"),
        webhook_secrets=_reseal(Webhook.objects.order_by("id"), "sealed_secret")
        + _reseal(Webhook.objects.exclude(sealed_former_secret=None).order_by("id"), "sealed_former_secret"),
    )
    audit.record(
        actor,
        "key.rotate",
        object_name=resealed.current_key,
        after={
            "dkim_keys": resealed.dkim_keys,
            "route_passwords": resealed.route_passwords,
            "webhook_secrets": resealed.webhook_secrets,
        },
    )
    return resealed


def _reseal(rows: Iterable[DkimKey | Route | Webhook], field: str) -> int:
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
