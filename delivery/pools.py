"""Pools of source addresses, as operators see them: which streams send through them, and which pool stands by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Credential, Tenant
from accounts.refusals import NotFound, Refused
from delivery.models import Lane, PoolKind, SourceAddress, SourcePool, Stream
from delivery.models.source import DEFAULT_POOL
from delivery.nodes import tell_engines

_POOL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


def add_pool(
    name: str, *, actor: Actor, kind: str = PoolKind.SHARED, tenant: Tenant | None = None, note: str = ""
) -> SourcePool:
    """A dedicated pool serves one tenant, the other kinds anybody they are given to."""
    if not _POOL_NAME.fullmatch(name):
        raise Refused(
            _("A pool's name has up to 48 letters a to z, digits and hyphens."), reason="pool_malformed", field="name"
        )
    if kind not in PoolKind.values:
        raise Refused(
            _("%(value)s is none of: %(known)s.") % {"value": kind, "known": ", ".join(PoolKind.values)},
            reason="value_unknown",
            field="kind",
        )
    if (kind == PoolKind.DEDICATED) != (tenant is not None):
        raise Refused(_("A dedicated pool, and no other, belongs to a tenant."), reason="pool_tenant", field="tenant")
    with transaction.atomic():
        pool, is_new = SourcePool.objects.get_or_create(
            name=name, defaults={"kind": kind, "tenant": tenant, "note": note}
        )
        if not is_new:
            raise Refused(_("There is a pool %(name)s already.") % {"name": name}, reason="pool_known", field="name")
        audit.record(
            actor,
            "pool.add",
            tenant=tenant,
            object_id=pool.id,
            object_name=name,
            after={"kind": kind, "tenant": tenant.slug if tenant else None},
        )
    return pool


def remove_pool(pool: SourcePool, *, actor: Actor) -> None:
    """Only an empty pool that nothing was ever routed through; others are emptied by moving their sources."""
    if pool.name == DEFAULT_POOL:
        raise Refused(_("The default pool stays: it serves whoever has no other."), reason="pool_in_use")
    with transaction.atomic():
        # Whoever assigns it to a credential takes this lock, too: credentials name pools without a foreign key.
        SourcePool.objects.select_for_update().filter(pk=pool.pk).first()
        is_used = (
            SourceAddress.objects.filter(pool=pool).exists()
            or Stream.objects.filter(pool=pool).exists()
            or Credential.objects.filter(pool_id=pool.pk, revoked_at=None).exists()
            or Lane.objects.filter(pool=pool).exists()
        )
        if is_used:
            raise Refused(_("The pool %(name)s is in use.") % {"name": pool.name}, reason="pool_in_use")
        audit.record(actor, "pool.remove", object_id=pool.id, object_name=pool.name, before={"kind": pool.kind})
        SourcePool.objects.filter(pk=pool.pk).delete()


def assign_pool(stream: Stream, pool: SourcePool | None, *, actor: Actor) -> Stream:
    """From now on the stream's new mail leaves from ``pool``; None means the default. What already waits stays put."""
    ensure_serves(pool, stream.tenant_id)
    with transaction.atomic():
        before = stream.pool
        Stream.objects.filter(pk=stream.pk).update(pool=pool)
        audit.record(
            actor,
            "pool.assign",
            tenant=stream.tenant,
            object_id=stream.id,
            object_name=stream.name,
            before={"pool": before.name if before else None},
            after={"pool": pool.name if pool else None},
        )
    stream.refresh_from_db()
    return stream


def assign_credential(credential: Credential, pool: SourcePool | None, *, actor: Actor) -> Credential:
    """New mail handed over with it leaves from ``pool``, whatever its stream says; None: as its stream says again.

    It counts within seconds; what already waits stays put. Raises Refused.
    """
    ensure_serves(pool, credential.tenant_id)
    with transaction.atomic():
        if pool is not None and not SourcePool.objects.select_for_update().filter(pk=pool.pk).exists():
            raise NotFound(_("There is no pool %(name)s.") % {"name": pool.name}, field="pool")
        held = Credential.objects.select_for_update().filter(pk=credential.pk, revoked_at=None).first()
        if held is None:
            raise Refused(
                _("The credential %(name)s is revoked already.") % {"name": credential.name}, reason="revoked"
            )
        before = SourcePool.objects.filter(pk=held.pool_id).first() if held.pool_id else None
        if held.pool_id != (pool.pk if pool else None):
            Credential.objects.filter(pk=held.pk).update(pool_id=pool.pk if pool else None)
            audit.record(
                actor,
                "credential.pool",
                tenant=credential.tenant,
                object_id=credential.id,
                object_name=credential.name,
                before={"pool": before.name if before else None},
                after={"pool": pool.name if pool else None},
            )
    credential.refresh_from_db()
    return credential


def pool_of_credential(credential: Credential) -> SourcePool | None:
    """The pool it was assigned by itself; None: its mail leaves as its stream's."""
    return SourcePool.objects.filter(pk=credential.pool_id).first() if credential.pool_id else None


def pools_of_credentials(credentials: Iterable[Credential]) -> dict[UUID, str]:
    """Names of the pools that these were assigned by themselves, by the pool's id."""
    keys = {one.pool_id for one in credentials if one.pool_id is not None}
    return dict(SourcePool.objects.filter(pk__in=keys).values_list("pk", "name")) if keys else {}


def pools_open_to(tenant: Tenant) -> list[SourcePool]:
    """Those that a tenant's mail may be given: everybody's, and its own dedicated ones."""
    return list(SourcePool.objects.filter(Q(tenant=None) | Q(tenant=tenant)).order_by("name"))


def ensure_serves(pool: SourcePool | None, tenant_id: UUID) -> None:
    """Raises Refused for a pool that is dedicated to another tenant."""
    if pool is not None and pool.tenant_id not in (None, tenant_id):
        raise Refused(
            _("The pool %(name)s belongs to another tenant.") % {"name": pool.name}, reason="pool_tenant", field="pool"
        )


def assign_streams(streams: list[Stream], pool: SourcePool, *, actor: Actor) -> list[Stream]:
    """All of them or, when one is refused, none."""
    with transaction.atomic():
        return [assign_pool(stream, pool, actor=actor) for stream in streams]


def set_standby(pool: SourcePool, standby: SourcePool | None, *, actor: Actor) -> SourcePool:
    """Where the pool's mail leaves from while none of its own addresses can be used; None: it waits for them.

    Never a pool that belongs to another tenant, and one stand-by has none itself, so that there is no chain to follow.
    """
    if standby is not None:
        if standby.tenant_id not in (None, pool.tenant_id):
            raise Refused(
                _("The pool %(name)s belongs to another tenant.") % {"name": standby.name},
                reason="pool_tenant",
                field="standby",
            )
        if standby.pk == pool.pk or standby.standby_id is not None or SourcePool.objects.filter(standby=pool).exists():
            raise Refused(
                _("A stand-by is another pool, and neither of the two takes part in a further one."),
                reason="standby_chain",
                field="standby",
            )
    with transaction.atomic():
        before = pool.standby
        SourcePool.objects.filter(pk=pool.pk).update(standby=standby)
        audit.record(
            actor,
            "pool.standby",
            tenant=pool.tenant,
            object_id=pool.id,
            object_name=pool.name,
            before={"standby": before.name if before else None},
            after={"standby": standby.name if standby else None},
        )
        tell_engines()
    pool.refresh_from_db()
    return pool


def update_pool(pool: SourcePool, *, actor: Actor, note: str) -> SourcePool:
    """Its note; name and kind stay, since streams and addresses rely on them."""
    note = note[:500]
    with transaction.atomic():
        changed = SourcePool.objects.filter(pk=pool.pk).exclude(note=note).update(note=note)
        if changed:
            audit.record(
                actor, "pool.update", tenant=pool.tenant, object_id=pool.id, object_name=pool.name,
                before={"note": pool.note}, after={"note": note},
            )  # fmt: skip
    pool.refresh_from_db()
    return pool


def find_pool(name: str) -> SourcePool:
    """Raises NotFound."""
    pool = SourcePool.objects.select_related("tenant", "standby").filter(name=name).first()
    if pool is None:
        raise NotFound(_("There is no pool %(name)s.") % {"name": name}, field="pool")
    return pool


def list_pools() -> list[SourcePool]:
    return list(SourcePool.objects.select_related("tenant", "standby").prefetch_related("sources").order_by("name"))
