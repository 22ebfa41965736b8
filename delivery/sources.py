"""Where mail leaves from, as operators see it: source addresses on nodes, and the pools that group them.

Engines learn of a change through a notification in the transaction that makes it; one that gets lost costs the few
seconds until they look again. An address is never deleted, only retired: attempts and paths refer to it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Max, Q, Window
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Credential, Tenant
from accounts.refusals import NotFound, Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.models import Lane, Node, PoolKind, SourceAddress, SourcePool, SourceState, Stream
from delivery.models.source import DEFAULT_POOL, Families
from delivery.queue import wake

_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
MOST_IN_A_RANGE = 256
HEAVIEST = 1000
EHLO_PLACE = "{ip}"
_POOL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


# ---------------------------------------------------------------- addresses


def add_source(
    address: str,
    *,
    actor: Actor,
    ehlo_name: str = "",
    pool: str = DEFAULT_POOL,
    node: str = "",
    weight: int = 1,
    note: str = "",
) -> SourceAddress:
    """An address of this or another node to send from. A retired one comes back with its history.

    The node's nameless source (the system's choice) retires when it shares a pool with a named one: whoever names an
    address wants the mail to leave from there.
    """
    checked = _checked_address(address)
    found_pool = find_pool(pool)
    node_name = _checked_node(node or settings.NODE)
    fields = {
        "ehlo_name": _checked_ehlo(ehlo_name or settings.HOSTNAME),
        "pool": found_pool,
        "weight": _checked_weight(weight),
        "note": note[:500],
        "state": SourceState.ACTIVE,
        "state_reason": "",
        "state_since": timezone.now(),
    }
    with transaction.atomic():
        found_node, _is_new = Node.objects.get_or_create(name=node_name)
        known = SourceAddress.objects.select_for_update().filter(address=checked).first()
        if known is not None and known.state != SourceState.RETIRED:
            raise Refused(
                _("%(address)s is a source already.") % {"address": checked}, reason="source_known", field="address"
            )
        try:
            with transaction.atomic():
                if known is None:
                    source = SourceAddress.objects.create(address=checked, node=found_node, **fields)
                else:
                    SourceAddress.objects.filter(pk=known.pk).update(node=found_node, **fields)
                    source = SourceAddress.objects.get(pk=known.pk)
        except IntegrityError:
            raise Refused(
                _("%(address)s is a source already.") % {"address": checked}, reason="source_known", field="address"
            ) from None
        for nameless in SourceAddress.objects.filter(node=found_node, pool=found_pool, address=None).exclude(
            state=SourceState.RETIRED
        ):
            _set_state(
                nameless, SourceState.RETIRED, reason="a named address took its place", actor=actor, verb="remove"
            )
        audit.record(
            actor,
            "source.add",
            object_id=source.id,
            object_name=checked,
            after={"address": checked, "pool": found_pool.name, "node": node_name, "ehlo_name": source.ehlo_name},
        )
        _tell_engines()
    return source


def addresses_in(text: str) -> list[str]:
    """One address, a network (192.0.2.8/29: its hosts) or a range (192.0.2.10-192.0.2.19). Raises Refused."""
    found: Iterable[object]
    try:
        first, hyphen, last = (part.strip() for part in text.partition("-"))
        if hyphen:
            lowest, highest = ipaddress.ip_address(first), ipaddress.ip_address(last)
            number = int(highest) - int(lowest) + 1
            if lowest.version != highest.version or number < 1:
                raise ValueError
            found = (lowest + place for place in range(min(number, MOST_IN_A_RANGE)))
        elif "/" in text:
            network = ipaddress.ip_network(first)
            number, found = network.num_addresses, network.hosts()
        else:
            return [_checked_address(text.strip())]
    except ValueError:
        raise Refused(
            _("%(text)s is no address, network or range.") % {"text": text}, reason="address_malformed", field="address"
        ) from None
    if number > MOST_IN_A_RANGE:
        raise Refused(
            _("That is more than %(most)s addresses at once.") % {"most": MOST_IN_A_RANGE},
            reason="range_too_long",
            field="address",
        )
    return [_checked_address(str(address)) for address in found]


def add_sources(
    text: str, *, actor: Actor, ehlo_name: str = "", pool: str = DEFAULT_POOL, node: str = "", note: str = ""
) -> list[SourceAddress]:
    """All of ``addresses_in(text)`` or, when one is refused, none. ``{ip}`` in the EHLO name reads 192-0-2-10."""
    addresses = addresses_in(text)
    if len(addresses) > 1 and ehlo_name and EHLO_PLACE not in ehlo_name:
        raise Refused(
            _(
                "Several addresses need names of their own: write {ip} where the address stands, as in mx-{ip}.example.net."
            ),
            reason="ehlo_shared",
            field="ehlo",
        )
    with transaction.atomic():
        return [
            add_source(
                address,
                actor=actor,
                ehlo_name=ehlo_name.replace(EHLO_PLACE, address.replace(".", "-").replace(":", "-")),
                pool=pool,
                node=node,
                note=note,
            )
            for address in addresses
        ]


def update_source(
    source: SourceAddress, *, actor: Actor, ehlo_name: str, pool: str, weight: int, note: str
) -> SourceAddress:
    """Its name, its pool, its weight and the note.

    Moved, it serves the other pool's mail within seconds, and the old one's no more.
    """
    target = find_pool(pool)
    changes: dict[str, object] = {
        "ehlo_name": _checked_ehlo(ehlo_name),
        "pool_id": target.pk,
        "weight": _checked_weight(weight),
        "note": note[:500],
    }
    with transaction.atomic():
        current = SourceAddress.objects.select_for_update().get(pk=source.pk)
        changed = {name for name, value in changes.items() if getattr(current, name) != value}
        before: dict[str, object] = {
            "ehlo_name": current.ehlo_name,
            "pool": source.pool.name,
            "weight": current.weight,
            "note": current.note,
        }
        after: dict[str, object] = {**changes, "pool": target.name}
        if not changed:
            return source
        SourceAddress.objects.filter(pk=source.pk).update(**changes)
        if changed - {"pool_id"}:
            _record_part(actor, "source.update", source, before, after, ("ehlo_name", "weight", "note"))
        if "pool_id" in changed:
            _record_part(actor, "source.move", source, before, after, ("pool",))
        _tell_engines()
    source.refresh_from_db()
    return source


def _record_part(
    actor: Actor,
    action: str,
    source: SourceAddress,
    before: dict[str, object],
    after: dict[str, object],
    names: tuple[str, ...],
) -> None:
    differing = [name for name in names if before[name] != after[name]]
    audit.record(
        actor,
        action,
        object_id=source.id,
        object_name=str(source),
        before={name: before[name] for name in differing},
        after={name: after[name] for name in differing},
    )


def retire_source(source: SourceAddress, *, actor: Actor, reason: str = "", queue_to: str = "") -> SourceAddress:
    """The address is retired, and what waits in its pool leaves from ``queue_to`` once no address of the pool is left.

    ``queue_to`` names the pool that becomes the stand-by; empty changes nothing. ``add_source`` brings the address back.
    """
    with transaction.atomic():
        if queue_to:
            set_standby(find_pool(source.pool.name), find_pool(queue_to), actor=actor)
        return remove_source(source, actor=actor, reason=reason)


def ensure_default_source(*, actor: Actor, node: str = "") -> SourceAddress | None:
    """The system's choice of address for a node without a source: nothing need be added before the first mail.

    Returns the source that was made, None where there was one.
    """
    name = _checked_node(node or settings.NODE)
    with transaction.atomic():
        found_node, _is_new = Node.objects.get_or_create(name=name)
        if SourceAddress.objects.filter(node=found_node).exclude(state=SourceState.RETIRED).exists():
            return None
        nameless = SourceAddress.objects.filter(node=found_node, address=None).first()
        if nameless is not None:
            return _set_state(nameless, SourceState.ACTIVE, reason="", actor=actor, verb="add")
        source = SourceAddress.objects.create(
            address=None, ehlo_name=_checked_ehlo(settings.HOSTNAME), pool=find_pool(DEFAULT_POOL), node=found_node
        )
        audit.record(actor, "source.add", object_id=source.id, object_name=str(source), after={"node": name})
        _tell_engines()
    return source


def pause_source(source: SourceAddress, *, actor: Actor, reason: str = "") -> SourceAddress:
    """Attempts that are under way end; no new one begins, and what waits leaves from the pool's other addresses."""
    return _set_state(source, SourceState.PAUSED, reason=reason, actor=actor, verb="pause")


def drain_source(source: SourceAddress, *, actor: Actor, reason: str = "") -> SourceAddress:
    """New mail leaves from the pool's other addresses; what is under way, and greylisted mail bound to it, is finished.

    It stays so until ``resume_source``, ``pause_source`` or ``remove_source``. Raises Refused unless it is in use.
    """
    if source.state not in {SourceState.ACTIVE, SourceState.DRAINING}:
        raise Refused(
            _("Only a source in use can be drained; %(source)s is %(state)s.")
            % {"source": source, "state": source.state},
            reason="state_unfit",
        )
    return _set_state(source, SourceState.DRAINING, reason=reason, actor=actor, verb="drain")


def resume_source(source: SourceAddress, *, actor: Actor) -> SourceAddress:
    return _set_state(source, SourceState.ACTIVE, reason="", actor=actor, verb="resume")


def remove_source(source: SourceAddress, *, actor: Actor, reason: str = "") -> SourceAddress:
    """The address is retired. ``add_source`` brings it back."""
    return _set_state(source, SourceState.RETIRED, reason=reason, actor=actor, verb="remove")


def find_source(key: str | UUID) -> SourceAddress:
    """By address or id. Raises NotFound."""
    wanted = Q(pk=_as_uuid(key)) if _as_uuid(key) else Q(address=_as_address(str(key)))
    source = SourceAddress.objects.select_related("pool", "node").filter(wanted).first()
    if source is None or (_as_uuid(key) is None and source.address is None):
        raise NotFound(_("There is no source %(key)s.") % {"key": key}, field="source")
    return source


def list_sources(*, with_retired: bool = False) -> list[SourceAddress]:
    sources = SourceAddress.objects.select_related("pool", "node").order_by("node_id", "pool__name", "address")
    return list(sources if with_retired else sources.exclude(state=SourceState.RETIRED))


def _set_state(source: SourceAddress, state: SourceState, *, reason: str, actor: Actor, verb: str) -> SourceAddress:
    before = source.state
    with transaction.atomic():
        changed = (
            SourceAddress.objects.filter(pk=source.pk)
            .exclude(state=state)
            .update(state=state, state_reason=reason[:500], state_since=timezone.now())
        )
        if not changed:
            raise Refused(
                _("The source %(source)s is %(state)s already.") % {"source": source, "state": state},
                reason="state_unchanged",
            )
        audit.record(
            actor,
            f"source.{verb}",
            object_id=source.id,
            object_name=str(source),
            before={"state": before},
            after={"state": state},
            reason=reason,
        )
        _tell_engines()
    source.refresh_from_db()
    return source


# ---------------------------------------------------------------- pools


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
        _tell_engines()
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


def set_families(source: SourceAddress, families: str, *, actor: Actor) -> SourceAddress:
    """Which IP version is tried first, or alone. An address of its own speaks only its own version."""
    if families not in Families.values:
        raise Refused(
            _("%(value)s is none of: %(known)s.") % {"value": families, "known": ", ".join(Families.values)},
            reason="value_unknown",
            field="families",
        )
    if source.address is not None:
        raise Refused(
            _("%(source)s speaks the IP version it is of, and no other.") % {"source": source},
            reason="families_fixed",
            field="families",
        )
    with transaction.atomic():
        before = source.families
        SourceAddress.objects.filter(pk=source.pk).update(families=families)
        audit.record(
            actor,
            "source.families",
            object_id=source.id,
            object_name=str(source),
            before={"families": before},
            after={"families": families},
        )
        _tell_engines()
    source.refresh_from_db()
    return source


def find_pool(name: str) -> SourcePool:
    """Raises NotFound."""
    pool = SourcePool.objects.select_related("tenant", "standby").filter(name=name).first()
    if pool is None:
        raise NotFound(_("There is no pool %(name)s.") % {"name": name}, field="pool")
    return pool


def list_pools() -> list[SourcePool]:
    return list(SourcePool.objects.select_related("tenant", "standby").prefetch_related("sources").order_by("name"))


# ---------------------------------------------------------------- nodes


def find_node(name: str) -> Node:
    """Raises NotFound."""
    node = Node.objects.filter(name=name).first()
    if node is None:
        raise NotFound(_("There is no node %(name)s.") % {"name": name}, field="node")
    return node


def drain_node(node: Node, *, actor: Actor, reason: str = "") -> Node:
    """Attempts that are under way end; no new one begins there, and greylisted mail may leave from other nodes."""
    return _set_draining(node, True, actor=actor, reason=reason)


def resume_node(node: Node, *, actor: Actor) -> Node:
    return _set_draining(node, False, actor=actor)


def _set_draining(node: Node, is_draining: bool, *, actor: Actor, reason: str = "") -> Node:
    with transaction.atomic():
        if not Node.objects.filter(pk=node.pk, is_draining=not is_draining).update(is_draining=is_draining):
            sentence = _("%(name)s is drained already.") if is_draining else _("%(name)s is in use already.")
            raise Refused(sentence % {"name": node.name}, reason="state_unchanged")
        audit.record(
            actor,
            "node.drain" if is_draining else "node.resume",
            object_id=node.name,
            object_name=node.name,
            before={"drained": not is_draining},
            after={"drained": is_draining},
            reason=reason,
        )
        _tell_engines()
    node.refresh_from_db()
    return node


# ---------------------------------------------------------------- small parts


def _tell_engines() -> None:
    with connection.cursor() as cursor:
        cursor.execute(wake.RING, [wake.PATHS])


def _checked_address(text: str) -> str:
    address = _as_address(text)
    if address is None:
        raise Refused(_("%(text)s is no IP address.") % {"text": text}, reason="address_malformed", field="address")
    parsed = ipaddress.ip_address(address)
    if parsed.is_multicast or parsed.is_unspecified or parsed.is_link_local:
        raise Refused(
            _("Mail cannot leave from %(text)s.") % {"text": text}, reason="address_unusable", field="address"
        )
    return address


def _as_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None


def shares_of_limits() -> dict[UUID, float]:
    """Of each address that is in use: its weight over that of the heaviest of its pool, as engines ask for it."""
    heaviest = Window(Max("weight"), partition_by="pool")
    in_use = SourceAddress.objects.filter(state=SourceState.ACTIVE, node__is_draining=False).annotate(heaviest=heaviest)
    return {key: weight / most for key, weight, most in in_use.values_list("pk", "weight", "heaviest")}


def _checked_weight(weight: int) -> int:
    if not 1 <= weight <= HEAVIEST:
        raise Refused(
            _("A weight is a whole number from 1 to %(most)d.") % {"most": HEAVIEST},
            reason="bad_weight",
            field="weight",
        )
    return weight


def _checked_ehlo(name: str) -> str:
    try:
        return parse_domain(name)
    except MailboxSyntaxError as error:
        raise Refused(
            _("%(name)s is no host name to introduce oneself with: %(why)s.") % {"name": name, "why": error},
            reason="ehlo_malformed",
            field="ehlo",
        ) from None


def _checked_node(name: str) -> str:
    if not _NODE_NAME.fullmatch(name):
        raise Refused(_("%(name)s is no name for a node.") % {"name": name}, reason="node_malformed", field="node")
    return name


def _as_uuid(key: str | UUID) -> UUID | None:
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except ValueError:
        return None
