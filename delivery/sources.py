"""Source addresses, as operators see them: where mail leaves from, on which node, and how much of it.

Engines learn of a change through a notification in the transaction that makes it; one that gets lost costs the few
seconds until they look again. An address is never deleted, only retired: attempts and paths refer to it. Pools are in
``delivery.pools``, nodes in ``delivery.nodes``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, Q, Window
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.refusals import NotFound, Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.models import Node, SourceAddress, SourcePool, SourceState
from delivery.models.source import DEFAULT_POOL, Families
from delivery.nodes import checked_node, tell_engines
from delivery.pools import find_pool, set_standby

MOST_IN_A_RANGE = 256
HEAVIEST = 1000
EHLO_PLACE = "{ip}"


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
    node_name = checked_node(node or settings.NODE)
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
        source = _put_source(checked, node=found_node, **fields)
        _retire_nameless(found_node, found_pool, actor=actor)
        audit.record(
            actor,
            "source.add",
            object_id=source.id,
            object_name=checked,
            after={"address": checked, "pool": found_pool.name, "node": node_name, "ehlo_name": source.ehlo_name},
        )
        tell_engines()
    return source


def _put_source(address: str, **fields: Any) -> SourceAddress:
    """A new row, or the one that was retired, in service again. Raises Refused for an address in use."""
    in_use = Refused(
        _("%(address)s is a source already.") % {"address": address}, reason="source_known", field="address"
    )
    known = SourceAddress.objects.select_for_update().filter(address=address).first()
    if known is None:
        try:
            with transaction.atomic():
                return SourceAddress.objects.create(address=address, **fields)
        except IntegrityError:  # added at the same moment by somebody else
            raise in_use from None
    if known.state != SourceState.RETIRED:
        raise in_use
    SourceAddress.objects.filter(pk=known.pk).update(**fields)
    return SourceAddress.objects.get(pk=known.pk)


def _retire_nameless(node: Node, pool: SourcePool, *, actor: Actor) -> None:
    nameless = SourceAddress.objects.filter(node=node, pool=pool, address=None).exclude(state=SourceState.RETIRED)
    for source in nameless:
        _set_state(source, SourceState.RETIRED, reason="a named address took its place", actor=actor, verb="remove")


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
        tell_engines()
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
    name = checked_node(node or settings.NODE)
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
        tell_engines()
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
        tell_engines()
    source.refresh_from_db()
    return source


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
        tell_engines()
    source.refresh_from_db()
    return source


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


def _as_uuid(key: str | UUID) -> UUID | None:
    try:
        return key if isinstance(key, UUID) else UUID(key)
    except ValueError:
        return None
