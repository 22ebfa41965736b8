"""The operator's side, for keys with the scope ``operate``: tenants and their limits, sources, pools, routes, the queue.

Not a word of anybody's mail: an operator's key reads numbers and settings.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from django.db import transaction
from django.utils.translation import gettext_noop as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import credentials, quotas, tenants
from accounts.credentials import API_SCOPES, OPERATE
from accounts.models import Credential, Tenant
from accounts.refusals import NotFound, Refused
from delivery import sources
from delivery.models import Route, SourceAddress, SourcePool, Stream
from delivery.queue.figures import recent_queue_stats
from delivery.routing import own_routes
from delivery.tenants import find_stream, open_tenant
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import not_found, unknown_value
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, Query, Shape, given_of, in_utc, page, page_of
from relayweb.api.v1.credentials import (
    CredentialPage,
    CredentialQuery,
    CredentialShape,
    CredentialWithSecret,
    NewCredential,
    issue,
    shape_of,
    shapes_of,
    with_secret,
)
from relayweb.api.v1.routes import RouteInput, RouteShape, put_route, route_shape
from relayweb.api.v1.tenant import LimitsShape, UsageShape, limits_shape, usage_shape


class OperatorView(ResourceView):
    scope = OPERATE
    scopes: ClassVar[dict[str, str]] = {}


# ---------------------------------------------------------------- tenants


class Language(StrEnum):
    JA = "ja"
    EN = "en"


class ManagedTenant(Shape, frozen=True):
    id: UUID
    slug: str
    name: str
    state: Annotated[str, msgspec.Meta(description=_("active, suspended or closed"))]
    state_reason: str | None
    is_system: Annotated[bool, msgspec.Meta(description=_("carries the service's own mail"))]
    language: str
    time_zone: str
    created_at: Moment
    closed_at: Moment | None


class ManagedTenantDetail(ManagedTenant, frozen=True):
    owners: Annotated[list[str], msgspec.Meta(description=_("e-mail addresses"))]
    limits: LimitsShape
    usage: UsageShape


ManagedTenantPage = page_of(ManagedTenant)


class NewTenant(Input, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    owner_email: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
    slug: Annotated[str, msgspec.Meta(max_length=40, description=_("its name in addresses; made if not given"))] = ""
    language: Language = Language.JA
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "Asia/Tokyo"


class Why(Input, frozen=True):
    reason: Annotated[str, msgspec.Meta(max_length=500, description=_("shown to the tenant"))] = ""


Volume = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None | msgspec.UnsetType


class LimitsChange(Input, frozen=True):
    """null gives the installation's default back; what is not given stays."""

    hourly_limit: Volume = msgspec.UNSET
    daily_limit: Volume = msgspec.UNSET
    monthly_limit: Volume = msgspec.UNSET
    rate_per_second: Annotated[float, msgspec.Meta(ge=0.001, le=1000000.0)] | msgspec.UnsetType | None = msgspec.UNSET
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | msgspec.UnsetType | None = msgspec.UNSET
    max_recipients: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | msgspec.UnsetType | None = msgspec.UNSET


class Tenants(OperatorView):
    @operation(
        "list_tenants", tag="operator", says=_("Every tenant, newest first"), query=Query, answer=ManagedTenantPage
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(Query)
        found = Tenant.objects.order_by("-id")
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page((ManagedTenant(**_tenant(row)) for row in rows), cursor_of(rows[-1].id if more else None)))

    @operation(
        "create_tenant",
        tag="operator",
        says=_("A tenant with its owner, ready to send"),
        body=NewTenant,
        answer=ManagedTenantDetail,
        status=201,
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewTenant)
        tenant, _owner = open_tenant(
            given.name,
            owner_email=given.owner_email,
            actor=self.caller.actor,
            slug=given.slug,
            language=given.language,
            time_zone=given.time_zone,
        )
        return Response(_tenant_detail(tenant), status=201)


class TenantOne(OperatorView):
    @operation(
        "get_managed_tenant", tag="operator", says=_("One tenant, by slug or id"), query=NoParameters,
        answer=ManagedTenantDetail,
    )  # fmt: skip
    def get(self, request: Request, tenant: str) -> Response:
        self.asked(NoParameters)
        return Response(_tenant_detail(tenants.find_tenant(tenant)))


class SuspendTenant(OperatorView):
    @operation(
        "suspend_tenant",
        tag="operator",
        says=_("Put new mail off with 450 and keep what was taken"),
        body=Why,
        answer=ManagedTenantDetail,
    )
    def post(self, request: Request, tenant: str) -> Response:
        given = self.given(Why)
        found = tenants.find_tenant(tenant)
        return Response(_tenant_detail(tenants.suspend_tenant(found, reason=given.reason, actor=self.caller.actor)))


class ResumeTenant(OperatorView):
    @operation(
        "resume_tenant",
        tag="operator",
        says=_("End a suspension, or take a closing back"),
        answer=ManagedTenantDetail,
    )
    def post(self, request: Request, tenant: str) -> Response:
        self.given(NoParameters)
        return Response(_tenant_detail(tenants.resume_tenant(tenants.find_tenant(tenant), actor=self.caller.actor)))


class CloseTenant(OperatorView):
    @operation(
        "close_tenant",
        tag="operator",
        says=_("Refuse new mail and every credential; what was taken is still delivered"),
        body=Why,
        answer=ManagedTenantDetail,
    )
    def post(self, request: Request, tenant: str) -> Response:
        given = self.given(Why)
        found = tenants.find_tenant(tenant)
        return Response(_tenant_detail(tenants.close_tenant(found, reason=given.reason, actor=self.caller.actor)))


class TenantLimits(OperatorView):
    @operation(
        "set_limits", tag="operator", says=_("What a tenant may send"), body=LimitsChange, answer=ManagedTenantDetail
    )
    def patch(self, request: Request, tenant: str) -> Response:
        given = self.given(LimitsChange)
        found = tenants.find_tenant(tenant)
        changes = given_of(given)
        if changes:
            quotas.set_limits(found, changes, actor=self.caller.actor)
        return Response(_tenant_detail(found))


class TenantCredentials(OperatorView):
    @operation(
        "list_tenant_credentials", tag="operator", says=_("A tenant's credentials, newest first"),
        query=CredentialQuery, answer=CredentialPage,
    )  # fmt: skip
    def get(self, request: Request, tenant: str) -> Response:
        asked = self.asked(CredentialQuery)
        owner = tenants.find_tenant(tenant)
        found = Credential.objects.of(owner).order_by("-id")
        if not asked.revoked:
            found = found.filter(revoked_at=None)
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(shapes_of(owner, rows), cursor_of(rows[-1].id if more else None)))

    @operation(
        "issue_tenant_credential",
        tag="operator",
        says=_("A credential for a tenant; the secret is in this answer alone"),
        body=NewCredential,
        answer=CredentialWithSecret,
        status=201,
    )
    @sensitive_variables("issued")
    def post(self, request: Request, tenant: str) -> Response:
        given = self.given(NewCredential)
        found = tenants.find_tenant(tenant)
        if found.is_system:
            raise Refused("Keys of the service itself are issued on the command line.", reason="system_tenant")
        scopes = API_SCOPES if given.scopes is msgspec.UNSET else given.scopes
        issued = issue(found, given, scopes=scopes, actor=self.caller.actor, within=None)
        return Response(with_secret(issued.credential, issued.secret), status=201)


class PoolChoice(Input, frozen=True):
    pool: Annotated[str, msgspec.Meta(max_length=48, description=_("name of a pool; null takes it back"))] | None


class TenantCredentialOne(OperatorView):
    @operation(
        "assign_credential", tag="operator", says=_("The pool that new mail of a credential leaves from"),
        body=PoolChoice, answer=CredentialShape,
    )  # fmt: skip
    def patch(self, request: Request, tenant: str, credential_id: UUID) -> Response:
        given = self.given(PoolChoice)
        found = credentials.find_credential(credential_id, tenant=tenants.find_tenant(tenant))
        changed = sources.assign_credential(found, _chosen(given), actor=self.caller.actor)
        return Response(shape_of(changed))


class PooledStreamShape(Shape, frozen=True):
    name: str
    kind: str
    is_default: bool
    pool: Annotated[str | None, msgspec.Meta(description=_("null: the default pool"))]


class StreamList(Shape, frozen=True):
    data: list[PooledStreamShape]


class TenantStreams(OperatorView):
    @operation(
        "list_tenant_streams", tag="operator", says=_("A tenant's streams with their pools"), query=NoParameters,
        answer=StreamList,
    )  # fmt: skip
    def get(self, request: Request, tenant: str) -> Response:
        self.asked(NoParameters)
        found = Stream.objects.of(tenants.find_tenant(tenant)).select_related("pool").order_by("name")
        return Response(StreamList(data=[_stream(stream) for stream in found]))


class TenantStreamOne(OperatorView):
    @operation(
        "assign_stream", tag="operator", says=_("The pool that new mail of a stream leaves from"), body=PoolChoice,
        answer=PooledStreamShape,
    )  # fmt: skip
    def patch(self, request: Request, tenant: str, name: str) -> Response:
        given = self.given(PoolChoice)
        found = find_stream(tenants.find_tenant(tenant), name)
        return Response(_stream(sources.assign_pool(found, _chosen(given), actor=self.caller.actor)))


def _chosen(given: PoolChoice) -> SourcePool | None:
    try:
        return sources.find_pool(given.pool) if given.pool else None
    except NotFound:
        raise unknown_value("pool", "there is no such pool") from None


def _stream(stream: Stream) -> PooledStreamShape:
    return PooledStreamShape(
        name=stream.name,
        kind=stream.kind,
        is_default=stream.is_default,
        pool=stream.pool.name if stream.pool else None,
    )


def _tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "slug": tenant.slug,
        "name": tenant.name,
        "state": tenant.state,
        "state_reason": tenant.state_reason or None,
        "is_system": tenant.is_system,
        "language": tenant.language,
        "time_zone": tenant.time_zone,
        "created_at": in_utc(tenant.created_at),
        "closed_at": in_utc(tenant.closed_at),
    }


def _tenant_detail(tenant: Tenant) -> ManagedTenantDetail:
    return ManagedTenantDetail(
        **_tenant(tenant),
        owners=[owner.email for owner in tenants.owners_of(tenant)],
        limits=limits_shape(tenant),
        usage=usage_shape(tenant),
    )


# ---------------------------------------------------------------- sources and pools


class SourceShape(Shape, frozen=True):
    id: UUID
    address: Annotated[str | None, msgspec.Meta(description=_("null: the system's choice"))]
    ehlo_name: str
    pool: str
    node: str
    weight: int
    state: Annotated[str, msgspec.Meta(description=_("active, draining, paused, unusable or retired"))]
    state_reason: str | None
    state_since: Moment
    note: str | None


class SourceList(Shape, frozen=True):
    data: list[SourceShape]


class SourceQuery(Input, frozen=True):
    retired: Annotated[bool, msgspec.Meta(description=_("also those that were removed"))] = False


class NewSource(Input, frozen=True):
    address: Annotated[str, msgspec.Meta(min_length=2, max_length=45)]
    ehlo_name: Annotated[str, msgspec.Meta(max_length=255, description=_("the installation's if not given"))] = ""
    pool: Annotated[str, msgspec.Meta(max_length=48)] = "default"
    node: Annotated[str, msgspec.Meta(max_length=63, description=_("this one if not given"))] = ""
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class SourceChange(Input, frozen=True):
    """What is not given stays."""

    ehlo_name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | msgspec.UnsetType = msgspec.UNSET
    pool: Annotated[str, msgspec.Meta(max_length=48, description=_("moves it within seconds"))] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] | msgspec.UnsetType = msgspec.UNSET
    note: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType = msgspec.UNSET


class Sources(OperatorView):
    @operation(
        "list_sources", tag="operator", says=_("Addresses that mail leaves from"), query=SourceQuery, answer=SourceList
    )
    def get(self, request: Request) -> Response:
        asked = self.asked(SourceQuery)
        found = sources.list_sources(with_retired=asked.retired)
        return Response(SourceList(data=[_source(source) for source in found]))

    @operation(
        "add_source", tag="operator", says=_("A further address"), body=NewSource, answer=SourceShape, status=201
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewSource)
        try:
            source = sources.add_source(
                given.address,
                actor=self.caller.actor,
                ehlo_name=given.ehlo_name,
                pool=given.pool,
                node=given.node,
                weight=given.weight,
                note=given.note,
            )
        except NotFound:
            raise unknown_value("pool", "there is no such pool") from None
        return Response(_source(source), status=201)


class SourceOne(OperatorView):
    @operation("get_source", tag="operator", says=_("One address"), query=NoParameters, answer=SourceShape)
    def get(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_source(sources.find_source(source_id)))

    @operation(
        "change_source",
        tag="operator",
        says=_("Its name, pool, weight and note"),
        body=SourceChange,
        answer=SourceShape,
    )
    def patch(self, request: Request, source_id: UUID) -> Response:
        given = given_of(self.given(SourceChange))
        found = sources.find_source(source_id)
        now = {"ehlo_name": found.ehlo_name, "pool": found.pool.name, "weight": found.weight, "note": found.note}
        try:
            changed = sources.update_source(found, actor=self.caller.actor, **{**now, **given})
        except NotFound:
            raise unknown_value("pool", "there is no such pool") from None
        return Response(_source(sources.find_source(changed.pk)))

    @operation(
        "remove_source", tag="operator", says=_("Retire an address; adding it again brings it back"), query=NoParameters,
        answer=SourceShape,
    )  # fmt: skip
    def delete(self, request: Request, source_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_source(sources.remove_source(sources.find_source(source_id), actor=self.caller.actor)))


class PauseSource(OperatorView):
    @operation("pause_source", tag="operator", says=_("No new attempt from there"), body=Why, answer=SourceShape)
    def post(self, request: Request, source_id: UUID) -> Response:
        given = self.given(Why)
        found = sources.find_source(source_id)
        return Response(_source(sources.pause_source(found, actor=self.caller.actor, reason=given.reason)))


class DrainSource(OperatorView):
    @operation(
        "drain_source", tag="operator", says=_("Finish what is greylisted there; new mail leaves from others"),
        body=Why, answer=SourceShape,
    )  # fmt: skip
    def post(self, request: Request, source_id: UUID) -> Response:
        given = self.given(Why)
        found = sources.find_source(source_id)
        return Response(_source(sources.drain_source(found, actor=self.caller.actor, reason=given.reason)))


class ResumeSource(OperatorView):
    @operation("resume_source", tag="operator", says=_("Use it again"), answer=SourceShape)
    def post(self, request: Request, source_id: UUID) -> Response:
        self.given(NoParameters)
        return Response(_source(sources.resume_source(sources.find_source(source_id), actor=self.caller.actor)))


def _source(source: SourceAddress) -> SourceShape:
    return SourceShape(
        id=source.id,
        address=source.address,
        ehlo_name=source.ehlo_name,
        pool=source.pool.name,
        node=source.node_id,
        weight=source.weight,
        state=source.state,
        state_reason=source.state_reason or None,
        state_since=source.state_since,
        note=source.note or None,
    )


class PoolShape(Shape, frozen=True):
    id: UUID
    name: str
    kind: Annotated[str, msgspec.Meta(description=_("shared, dedicated or quarantine"))]
    tenant: Annotated[str | None, msgspec.Meta(description=_("of a dedicated pool"))]
    standby: Annotated[str | None, msgspec.Meta(description=_("takes over while none of its addresses can be used"))]
    sources: list[str | None]
    note: str | None
    created_at: Moment


class PoolList(Shape, frozen=True):
    data: list[PoolShape]


class PoolKindName(StrEnum):
    SHARED = "shared"
    DEDICATED = "dedicated"
    QUARANTINE = "quarantine"


class NewPool(Input, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=48)]
    kind: PoolKindName = PoolKindName.SHARED
    tenant: Annotated[str, msgspec.Meta(max_length=48, description=_("of a dedicated pool: slug or id"))] = ""
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Pools(OperatorView):
    @operation("list_pools", tag="operator", says=_("Pools of addresses"), query=NoParameters, answer=PoolList)
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        return Response(PoolList(data=[_pool(pool) for pool in sources.list_pools()]))

    @operation("add_pool", tag="operator", says=_("A further pool"), body=NewPool, answer=PoolShape, status=201)
    def post(self, request: Request) -> Response:
        given = self.given(NewPool)
        try:
            owner = tenants.find_tenant(given.tenant) if given.tenant else None
        except NotFound:
            raise unknown_value("tenant", "there is no such tenant") from None
        pool = sources.add_pool(given.name, actor=self.caller.actor, kind=given.kind, tenant=owner, note=given.note)
        return Response(_pool(pool), status=201)


class PoolChange(Input, frozen=True):
    """What is not given stays; null takes the stand-by away."""

    standby: Annotated[str, msgspec.Meta(max_length=48, description=_("name of a pool"))] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    note: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType = msgspec.UNSET


class PoolOne(OperatorView):
    @operation("get_pool", tag="operator", says=_("One pool"), query=NoParameters, answer=PoolShape)
    def get(self, request: Request, name: str) -> Response:
        self.asked(NoParameters)
        return Response(_pool(sources.find_pool(name)))

    @operation("change_pool", tag="operator", says=_("Its stand-by and note"), body=PoolChange, answer=PoolShape)
    def patch(self, request: Request, name: str) -> Response:
        given = self.given(PoolChange)
        found = sources.find_pool(name)
        with transaction.atomic():
            if given.standby is not msgspec.UNSET:
                try:
                    standby = sources.find_pool(given.standby) if given.standby else None
                except NotFound:
                    raise unknown_value("standby", "there is no such pool") from None
                found = sources.set_standby(found, standby, actor=self.caller.actor)
            if given.note is not msgspec.UNSET:
                found = sources.update_pool(found, actor=self.caller.actor, note=given.note)
        return Response(_pool(found))

    @operation("remove_pool", tag="operator", says=_("Remove an empty pool"), query=NoParameters, answer=PoolShape)
    def delete(self, request: Request, name: str) -> Response:
        self.asked(NoParameters)
        found = sources.find_pool(name)
        shape = _pool(found)
        sources.remove_pool(found, actor=self.caller.actor)
        return Response(shape)


def _pool(pool: SourcePool) -> PoolShape:
    return PoolShape(
        id=pool.id,
        name=pool.name,
        kind=pool.kind,
        tenant=pool.tenant.slug if pool.tenant else None,
        standby=pool.standby.name if pool.standby else None,
        sources=[source.address for source in pool.sources.all() if source.state != "retired"],
        note=pool.note or None,
        created_at=pool.created_at,
    )


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
