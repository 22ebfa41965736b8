"""The operator's side: tenants, their limits and credentials."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import credentials, quotas, tenants
from accounts.credentials import API_SCOPES
from accounts.models import Credential, Tenant
from accounts.refusals import NotFound, Refused
from delivery import pools
from delivery.models import SourcePool, Stream
from delivery.tenants import find_stream, open_tenant
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import unknown_value
from relayweb.api.resources import NoParameters, operation
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
from relayweb.api.v1.operator import OperatorView, Why
from relayweb.api.v1.tenant import LimitsShape, UsageShape, limits_shape, usage_shape


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
        changed = pools.assign_credential(found, _chosen(given), actor=self.caller.actor)
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
        return Response(_stream(pools.assign_pool(found, _chosen(given), actor=self.caller.actor)))


def _chosen(given: PoolChoice) -> SourcePool | None:
    try:
        return pools.find_pool(given.pool) if given.pool else None
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
