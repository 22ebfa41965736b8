"""The rows every installation starts with: the system tenant, the default pool, the built-in provider groups.

Made after each migration and safe to make again; nothing an operator changed is overwritten.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.models import Tenant
from accounts.models.tenant import SYSTEM_SLUG
from delivery import partitions
from delivery.models import GroupKind, ProviderGroup, SourcePool, Stream, StreamKind
from delivery.models.source import DEFAULT_POOL

UNROUTED = "unrouted"
UNREACHABLE = "unreachable"


def lay(**_signal: Any) -> None:
    """Receiver of post_migrate."""
    partitions.ensure_ahead()
    with transaction.atomic():
        for key, kind, title in (
            (UNROUTED, GroupKind.UNROUTED, "Not looked up yet"),
            (UNREACHABLE, GroupKind.UNREACHABLE, "No host found"),
        ):
            ProviderGroup.objects.get_or_create(key=key, defaults={"kind": kind, "title": title})
        SourcePool.objects.get_or_create(name=DEFAULT_POOL)
        system, _ = Tenant.objects.get_or_create(is_system=True, defaults={"slug": SYSTEM_SLUG, "name": "System"})
        give_streams(system)


def give_streams(tenant: Tenant) -> None:
    """The two streams every tenant has: notices, which do not wait, and bulk."""
    for name, kind in (("transactional", StreamKind.TRANSACTIONAL), ("bulk", StreamKind.BULK)):
        Stream.objects.get_or_create(
            tenant=tenant, name=name, defaults={"kind": kind, "is_default": kind == StreamKind.TRANSACTIONAL}
        )
