"""route set | list | remove"""

from __future__ import annotations

from typing import Any

import click
from django.db import transaction

from accounts import audit, tenants
from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import NotFound, Refused
from delivery.models import Route
from delivery.routing import routes
from delivery.transport.tls_policy import TlsMode
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, maybe_tenant_option, password_from_stdin

DOMAIN_HELP = "Recipient domain, or * for every domain without a route of its own."


@click.group("route", cls=Noun)
def command() -> None:
    """Smarthosts for recipient domains."""


@command.command("set")
@click.option("--domain", required=True, help=DOMAIN_HELP)
@click.option("--host", required=True, help="Host name or address; may be private.")
@click.option("--port", required=True, type=int)
@click.option("--tls", type=click.Choice([mode.value for mode in TlsMode]), default="opportunistic", show_default=True)
@click.option("--tenant", help="For this tenant's mail only.")
@click.option("--connections", type=int, help="At most so many at once; else 20.")
@click.option("--username", default="", help="Log in at the smarthost; the password is read from stdin.")
def set_(
    domain: str, host: str, port: int, tls: str, tenant: str | None, connections: int | None, username: str
) -> None:
    """Send mail for a domain to a smarthost instead of its MX hosts."""
    password = password_from_stdin() if username else ""
    owner = _tenant(tenant)
    try:
        with transaction.atomic():
            route = routes.set_route(
                domain=domain,
                host=host,
                port=port,
                tls=tls,
                tenant=owner,
                connections=connections,
                username=username,
                password=password,
            )
            shape = _shape(route)
            _record("route.set", route.domain, owner, after={**shape, "username": username})
    except ValueError as error:
        raise Refused(f"This makes no route: {error}.", reason="route_malformed") from None
    output.record(shape)


@command.command("list")
@maybe_tenant_option
def list_(tenant: str | None) -> None:
    """Every route, or those of one tenant."""
    columns = ("domain", "host", "port", "tls", "tenant", "connections")
    output.rows(
        map(_shape, routes.list_routes(_tenant(tenant))), columns, empty="There is no route; mail goes to MX hosts."
    )


@command.command("remove")
@click.option("--domain", required=True, help=DOMAIN_HELP)
@maybe_tenant_option
def remove(domain: str, tenant: str | None) -> None:
    """Let a domain's mail go to its MX hosts again."""
    owner = _tenant(tenant)
    try:
        with transaction.atomic():
            if not routes.remove_route(domain=domain, tenant=owner):
                raise NotFound(f"There is no route for {domain}.", field="domain")
            _record("route.remove", domain, owner, after={})
    except ValueError as error:
        raise Refused(f"{domain} is no domain: {error}.", reason="domain_malformed") from None
    output.record({"domain": domain, "tenant": owner.slug if owner else None, "removed": True})


def _tenant(key: str | None) -> Tenant | None:
    return None if key is None else tenants.find_tenant(key)


def _record(action: str, domain: str, tenant: Tenant | None, *, after: dict[str, Any]) -> None:
    audit.record(Actor.command_line(), action, tenant=tenant, object_name=domain, after=after)


def _shape(route: Route) -> dict[str, Any]:
    return {
        "id": route.id,
        "domain": route.domain,
        "host": route.host,
        "port": route.port,
        "tls": str(route.tls),
        "tenant": route.tenant.slug if route.tenant else None,
        "connections": route.connections,
        "username": route.username,
    }
