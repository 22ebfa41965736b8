"""Routes that tenants set for their own mail, and operators for anybody's, with an entry in the audit log.

A tenant's smarthost must be public: the engine holds it to the rules for strangers when it connects, and here the port is
one at which mail servers listen, so that nobody makes us knock at other doors.
"""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.models import Route
from delivery.routing import routes
from delivery.transport.guard import DestinationGuard
from delivery.transport.tls_policy import TlsMode

PORTS = (25, 587, 2525)


def set_route(
    tenant: Tenant | None,
    *,
    domain: str,
    host: str,
    port: int,
    actor: Actor,
    tls: str = TlsMode.OPPORTUNISTIC,
    connections: int | None = None,
    username: str = "",
    password: str = "",
) -> Route:
    """Raises Refused. What only an operator may do is decided by the actor."""
    if not actor.is_operator:
        _check_host(host)
        _check_port(port)
        _check_login(username, tls)
    try:
        with transaction.atomic():
            route = routes.set_route(
                domain=domain,
                host=host,
                port=port,
                tls=tls,
                tenant=tenant,
                connections=connections,
                username=username,
                password=password,
            )
            audit.record(
                actor,
                "route.set",
                tenant=tenant,
                object_id=route.id,
                object_name=route.domain,
                after={"host": host, "port": port, "tls": str(tls), "connections": connections, "username": username},
            )
    except ValueError as error:
        raise Refused(
            _("This makes no route: %(why)s.") % {"why": error}, reason="route_malformed", field="domain"
        ) from None
    return route


def remove_route(tenant: Tenant | None, domain: str, *, actor: Actor) -> None:
    """Mail goes to the domain's MX hosts again. Raises NotFound."""
    try:
        with transaction.atomic():
            if not routes.remove_route(domain=domain, tenant=tenant):
                raise NotFound(_("There is no route for %(domain)s.") % {"domain": domain}, field="domain")
            audit.record(actor, "route.remove", tenant=tenant, object_name=domain)
    except MailboxSyntaxError:
        raise NotFound(_("There is no route for %(domain)s.") % {"domain": domain}, field="domain") from None


def _check_port(port: int) -> None:
    allowed = {*PORTS, settings.OUTBOUND_PORT}
    if port not in allowed:
        raise Refused(
            _("A smarthost listens at one of the ports %(ports)s.") % {"ports": ", ".join(map(str, sorted(allowed)))},
            reason="port_not_allowed",
            field="port",
        )


def _check_login(username: str, tls: str) -> None:
    if username and tls not in (TlsMode.REQUIRED, TlsMode.VERIFIED):
        raise Refused(
            _("A password is sent over TLS only: choose required or verified."), reason="tls_needed", field="tls"
        )


def _check_host(host: str) -> None:
    text = host.strip().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            parse_domain(host)
        except MailboxSyntaxError as error:
            raise Refused(
                _("%(host)s is no host: %(why)s.") % {"host": host, "why": error}, reason="host_malformed", field="host"
            ) from None
        return
    if not DestinationGuard(settings.ALLOW_DESTINATIONS).is_allowed(address):
        raise Refused(_("%(host)s is no public address.") % {"host": host}, reason="host_not_public", field="host")
