"""Sealing content with a key of the tenant's own, where that is asked for.

The key is made once and kept when sealing ends, for what was sealed before. It goes with the tenant, and with it everything
it sealed, wherever copies of that lie.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg_pool import AsyncConnectionPool

from accounts import audit, sealing
from accounts.audit import Actor
from accounts.models import Tenant
from delivery import content_store
from delivery.models import ContentKey

_KEY_OCTETS = 32


def is_sealing(tenant: Tenant) -> bool:
    return ContentKey.objects.of(tenant).filter(is_current=True).exists()


def set_sealing(tenant: Tenant, is_on: bool, *, actor: Actor) -> None:
    """For mail accepted from now on, within seconds. Raises SealingError without an operator's key."""
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        was_on = is_sealing(tenant)
        if was_on == is_on:
            return
        if is_on:
            _make_current(tenant)
        else:
            ContentKey.objects.of(tenant).filter(is_current=True).update(is_current=False)
        audit.record(
            actor, "tenant.seal_content", tenant=tenant, object_id=tenant.id, object_name=tenant.slug,
            before={"seals_content": was_on}, after={"seals_content": is_on},
        )  # fmt: skip


def _make_current(tenant: Tenant) -> None:
    """The former key again, where there is one."""
    former = ContentKey.objects.of(tenant).order_by("-created_at").first()
    if former is not None:
        ContentKey.objects.filter(pk=former.pk).update(is_current=True)
        return
    key = ContentKey(tenant=tenant)
    key.sealed_key = sealing.seal(os.urandom(_KEY_OCTETS), context=ContentKey.sealing_context(key.id))
    key.save()


@lru_cache(maxsize=10_000)
def opened(key_id: UUID, sealed: bytes) -> content_store.ContentKey:
    """Raises SealingError."""
    secret = sealing.unseal(sealed, context=ContentKey.sealing_context(key_id))
    return content_store.ContentKey(key_id, secret)


def by_id(key_ids: Collection[UUID]) -> dict[UUID, content_store.ContentKey]:
    """Those that are still there. Raises SealingError."""
    if not key_ids:
        return {}
    rows = ContentKey.objects.filter(id__in=key_ids).values_list("id", "sealed_key")
    return {key_id: opened(key_id, bytes(sealed)) for key_id, sealed in rows}


async def find(pool: AsyncConnectionPool[Any], key_ids: Collection[UUID]) -> dict[UUID, content_store.ContentKey]:
    """The same, beside Django."""
    if not key_ids:
        return {}
    sql = "SELECT id, sealed_key FROM delivery_contentkey WHERE id = ANY(%s)"
    async with pool.connection() as connection:
        rows = await (await connection.execute(sql, [list(key_ids)])).fetchall()
    return {key_id: opened(key_id, bytes(sealed)) for key_id, sealed in rows}
