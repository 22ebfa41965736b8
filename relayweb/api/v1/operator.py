"""The operator's side, for keys with the scope ``operate``: what all its views have in common, routes and the queue.

Not a word of anybody's mail: an operator's key reads numbers and settings.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.credentials import OPERATE
from delivery.models import Route
from delivery.queue.figures import recent_queue_stats
from delivery.routing import own_routes
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, Query, Shape, in_utc, page, page_of
from relayweb.api.v1.routes import RouteInput, RouteShape, put_route, route_shape


class OperatorView(ResourceView):
    scope = OPERATE
    scopes: ClassVar[dict[str, str]] = {}


class Why(Input, frozen=True):
    reason: Annotated[str, msgspec.Meta(max_length=500, description=_("shown to the tenant"))] = ""


# ---------------------------------------------------------------- routes


class OperatorRoute(RouteShape, frozen=True):
    tenant: Annotated[str | None, msgspec.Meta(description=_("null: for everybody's mail"))]


OperatorRoutePage = page_of(OperatorRoute)


class OperatorRoutes(OperatorView):
    @operation(
        "list_all_routes", tag="operator", says=_("Smarthosts, everybody's and tenants'"), query=Query,
        answer=OperatorRoutePage,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = self.asked(Query)
        found = Route.objects.select_related("tenant").order_by("-id")
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        shapes = [
            OperatorRoute(**msgspec.structs.asdict(route_shape(row)), tenant=row.tenant.slug if row.tenant else None)
            for row in rows
        ]
        return Response(page(shapes, cursor_of(rows[-1].id if more else None)))


class OperatorRouteOne(OperatorView):
    @operation(
        "set_operator_route",
        tag="operator",
        says=_("Send everybody's mail for a domain to a smarthost, which may be private"),
        body=RouteInput,
        answer=RouteShape,
    )
    def put(self, request: Request, domain: str) -> Response:
        given = self.given(RouteInput)
        return Response(put_route(None, domain, given, actor=self.caller.actor))

    @operation(
        "remove_operator_route",
        tag="operator",
        says=_("Let everybody's mail for a domain go to its MX hosts again"),
        query=NoParameters,
        answer=RouteShape,
    )
    def delete(self, request: Request, domain: str) -> Response:
        self.asked(NoParameters)
        found = Route.objects.filter(tenant=None, domain=domain.lower()).first()
        if found is None:
            raise not_found()
        own_routes.remove_route(None, found.domain, actor=self.caller.actor)
        return Response(route_shape(found))


# ---------------------------------------------------------------- the queue


class ProviderQueue(Shape, rename={"opened": "open"}, frozen=True):
    provider: str
    title: str
    opened: int
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    suspended_until: Moment | None
    reason: str | None


class QueueShape(Shape, rename={"opened": "open"}, frozen=True):
    opened: Annotated[int, msgspec.Meta(description=_("recipients in no final state: due, claimed, deferred and held"))]
    due: int
    claimed: int
    deferred: int
    held: int
    oldest_age_s: float
    by_provider: list[ProviderQueue]


class Queue(OperatorView):
    @operation("get_queue", tag="operator", says=_("What waits, by provider"), query=NoParameters, answer=QueueShape)
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        stats = recent_queue_stats()
        return Response(
            QueueShape(
                opened=stats.open,
                due=stats.due,
                claimed=stats.claimed,
                deferred=stats.deferred,
                held=stats.held,
                oldest_age_s=stats.oldest_age_s,
                by_provider=[
                    ProviderQueue(
                        provider=row.provider,
                        title=row.title,
                        opened=row.open,
                        due=row.due,
                        claimed=row.claimed,
                        deferred=row.deferred,
                        held=row.held,
                        oldest_age_s=row.oldest_age_s,
                        suspended_until=in_utc(row.suspended_until),
                        reason=row.reason or None,
                    )
                    for row in stats.by_provider
                ],
            )
        )
