"""Smarthosts for the tenant's own mail: which domain goes where. Passwords are taken and never shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.audit import Actor
from accounts.models import Tenant
from delivery.models import Route
from delivery.routing import own_routes
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, Query, Shape, page, page_of


class RouteTls(StrEnum):
    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRED = "required"
    VERIFIED = "verified"


class RouteShape(Shape, frozen=True):
    id: UUID
    domain: Annotated[str, msgspec.Meta(description=_("of recipients; * is every domain without a route of its own"))]
    host: str
    port: int
    tls: RouteTls
    connections: int | None
    username: str | None
    created_at: Moment


RoutePage = page_of(RouteShape)


class RouteInput(Input, frozen=True):
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 25
    tls: RouteTls = RouteTls.OPPORTUNISTIC
    connections: Annotated[int, msgspec.Meta(ge=1, le=1000, description=_("at once; 20 if not given"))] | None = None
    username: Annotated[str, msgspec.Meta(max_length=255)] = ""
    password: Annotated[str, msgspec.Meta(max_length=255, description=_("never shown again"))] = ""


class Routes(ResourceView):
    @operation("list_routes", tag="routes", says=_("The tenant's smarthosts"), query=Query, answer=RoutePage)
    def get(self, request: Request) -> Response:
        asked = self.asked(Query)
        found = Route.objects.filter(tenant=self.tenant).order_by("-id")
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(map(route_shape, rows), cursor_of(rows[-1].id if more else None)))


class RouteOne(ResourceView):
    @operation("get_route", tag="routes", says=_("The route of a domain"), query=NoParameters, answer=RouteShape)
    def get(self, request: Request, domain: str) -> Response:
        self.asked(NoParameters)
        found = Route.objects.filter(tenant=self.tenant, domain=domain.lower()).first()
        if found is None:
            raise not_found()
        return Response(route_shape(found))

    @operation(
        "set_route", tag="routes", says=_("Send a domain's mail to a smarthost"), body=RouteInput, answer=RouteShape
    )
    def put(self, request: Request, domain: str) -> Response:
        given = self.given(RouteInput)
        return Response(put_route(self.tenant, domain, given, actor=self.caller.actor))

    @operation(
        "remove_route",
        tag="routes",
        says=_("Let the domain's mail go to its MX hosts again"),
        query=NoParameters,
        answer=RouteShape,
    )
    def delete(self, request: Request, domain: str) -> Response:
        self.asked(NoParameters)
        found = Route.objects.filter(tenant=self.tenant, domain=domain.lower()).first()
        if found is None:
            raise not_found()
        own_routes.remove_route(self.tenant, found.domain, actor=self.caller.actor)
        return Response(route_shape(found))


@sensitive_variables("given")
def put_route(tenant: Tenant | None, domain: str, given: RouteInput, *, actor: Actor) -> RouteShape:
    """Raises Refused."""
    route = own_routes.set_route(
        tenant,
        domain=domain,
        host=given.host,
        port=given.port,
        tls=given.tls,
        connections=given.connections,
        username=given.username,
        password=given.password,
        actor=actor,
    )
    return route_shape(route)


def route_shape(route: Route) -> RouteShape:
    return RouteShape(
        id=route.id,
        domain=route.domain,
        host=route.host,
        port=route.port,
        tls=RouteTls(route.tls),
        connections=route.connections,
        username=route.username or None,
        created_at=route.created_at,
    )
