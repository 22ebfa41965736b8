"""Setting and removing routes: what waits for the domain goes the new way at once."""

from __future__ import annotations

from django.db import connection, transaction

from accounts import sealing
from accounts.models import Tenant
from delivery.core.mailbox import parse_domain
from delivery.models import GroupKind, ProviderGroup, Route
from delivery.models.route import ANY_DOMAIN
from delivery.queue import wake
from delivery.transport.tls_policy import TlsMode

_LARGEST_PORT = 65_535


def set_route(
    *,
    domain: str,
    host: str,
    port: int,
    tls: str = TlsMode.OPPORTUNISTIC,
    tenant: Tenant | None = None,
    connections: int | None = None,
    username: str = "",
    password: str = "",
) -> Route:
    """Send mail for ``domain`` (or ``*``) to a smarthost; an earlier route for it is replaced.

    Raises ValueError with a sentence for input that makes no route. ``MailboxSyntaxError`` is one.
    """
    name = ANY_DOMAIN if domain == ANY_DOMAIN else parse_domain(domain)
    if not 1 <= port <= _LARGEST_PORT:
        raise ValueError(f"a port lies between 1 and {_LARGEST_PORT}, not at {port}")
    if not host or any(character.isspace() for character in host):
        raise ValueError("a route needs a host name or an IP address")
    if connections is not None and connections < 1:
        raise ValueError("a route needs at least one connection")
    values = {"host": host, "port": port, "tls": TlsMode(tls), "connections": connections, "username": username}
    with transaction.atomic():
        # Two that set the same route at the same moment wait for each other: before it is there, no row could be locked.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"route {tenant and tenant.pk} {name}"]
            )
        route = Route.objects.select_for_update().filter(domain=name, tenant=tenant).first()
        if route is None:
            route = Route(domain=name, tenant=tenant)
            route.group = _group_for(route)
        for field, value in values.items():
            setattr(route, field, value)
        route.sealed_password = (
            sealing.seal(password.encode(), context=Route.sealing_context(route.id)) if password else None
        )
        route.group.title = f"{host}:{port}"[:255]
        route.group.save(update_fields=["title"])
        route.save()
        _reroute(name, tenant)
    return route


def list_routes(tenant: Tenant | None = None) -> list[Route]:
    routes = Route.objects.select_related("tenant").order_by("domain", "tenant__slug")
    return list(routes if tenant is None else routes.filter(tenant=tenant))


def remove_route(*, domain: str, tenant: Tenant | None = None) -> bool:
    """False when there was none. The provider group stays: attempts were made in its name."""
    name = ANY_DOMAIN if domain == ANY_DOMAIN else parse_domain(domain)
    with transaction.atomic():
        removed, _ = Route.objects.filter(domain=name, tenant=tenant).delete()
        if removed:
            _reroute(name, tenant)
    return bool(removed)


def _group_for(route: Route) -> ProviderGroup:
    return ProviderGroup.objects.create(key=f"route:{route.id}", kind=GroupKind.SMARTHOST, title=route.host)


_WAITING = """
    SELECT entry.recipient_id, lane.pool_id, lane.tenant_id, lane.stream_id
    FROM delivery_queue_entry AS entry
    JOIN delivery_lane AS lane ON lane.id = entry.lane_id
    JOIN delivery_domainroute AS route ON route.id = entry.domain_route_id
    WHERE entry.path_id IS NULL AND (%(domain)s = '*' OR route.domain = %(domain)s)
      AND (%(tenant)s::uuid IS NULL OR lane.tenant_id = %(tenant)s::uuid)
"""
_MAKE_UNROUTED_LANES = f"""
INSERT INTO delivery_lane (pool_id, group_id, tenant_id, stream_id, suspended_reason)
SELECT DISTINCT pool_id, (SELECT id FROM delivery_providergroup WHERE kind = 'unrouted'), tenant_id, stream_id, ''
FROM ({_WAITING}) AS waiting
ON CONFLICT (pool_id, group_id, tenant_id, stream_id) WHERE pinned_source_id IS NULL DO NOTHING
"""
_BACK_TO_UNROUTED = f"""
UPDATE delivery_queue_entry AS entry SET lane_id = lane.id
FROM ({_WAITING}) AS waiting
JOIN delivery_lane AS lane USING (pool_id, tenant_id, stream_id)
JOIN delivery_providergroup AS grp ON grp.id = lane.group_id AND grp.kind = 'unrouted'
WHERE entry.recipient_id = waiting.recipient_id AND entry.path_id IS NULL AND lane.pinned_source_id IS NULL
RETURNING entry.lane_id
"""
# Entries first, then lanes, these in order: so nobody waits for us in a circle.
_DUE_NOW = """
UPDATE delivery_lane AS lane SET next_due_at = least(lane.next_due_at, now())
FROM (SELECT id FROM delivery_lane WHERE id = ANY(%s) ORDER BY id FOR UPDATE) AS mine WHERE lane.id = mine.id
"""


def _reroute(domain: str, tenant: Tenant | None) -> None:
    """What waits is looked up again; what is in flight finishes on its old way."""
    parameters = {"domain": domain, "tenant": tenant.pk if tenant else None}
    with connection.cursor() as cursor:
        cursor.execute(_MAKE_UNROUTED_LANES, parameters)
        cursor.execute(_BACK_TO_UNROUTED, parameters)
        cursor.execute(_DUE_NOW, [sorted({lane_id for (lane_id,) in cursor.fetchall()})])
        for channel in (wake.ROUTES, wake.LANES):
            cursor.execute(wake.RING, [channel])
