"""Credentials: issued with what the asking key has and no more, rotated, revoked. A secret is in one answer and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import credentials
from accounts.credentials import Issued
from accounts.models import Credential, CredentialKind, Tenant
from accounts.refusals import NotFound
from delivery.core.mailbox import MailboxSyntaxError, parse_domain
from delivery.models import Stream
from delivery.pools import pools_of_credentials
from delivery.tenants import find_stream
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.problems import invalid, unknown_value
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, MomentGiven, Query, Shape, in_utc, page, page_of


class CredentialKindName(StrEnum):
    SMTP = "smtp"
    API = "api"
    NETWORK = "network"


class CredentialUseName(StrEnum):
    APPLICATION = "application"
    MAIL_SERVER = "mail-server"


class KeyScope(StrEnum):
    SEND = "send"
    READ = "read"
    MANAGE = "manage"
    MEMBERS = "members"


class CredentialShape(Shape, frozen=True):
    id: UUID
    kind: CredentialKindName
    name: str
    username: str | None
    network: str | None
    use: CredentialUseName
    scopes: Annotated[list[str], msgspec.Meta(description=_("of an API key"))]
    is_test: bool
    stream: Annotated[str | None, msgspec.Meta(description=_("null: the tenant's default"))]
    pool: Annotated[str | None, msgspec.Meta(description=_("chosen for it by the operator; null: as its stream"))]
    only_domain: str | None
    only_networks: list[str]
    daily_limit: int | None
    rate_per_second: float | None
    created_at: Moment
    approved_at: Annotated[datetime, msgspec.Meta(tz=True, description=_("a network works from then on"))] | None
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    last_used_from: str | None
    used_count: int
    former_secret_until: Moment | None


class CredentialWithSecret(CredentialShape, frozen=True):
    secret: Annotated[
        str | None,
        msgspec.Meta(description=_("of an API key the whole key; shown this once. A network has none.")),
    ]


CredentialPage = page_of(CredentialShape)


class CredentialQuery(Query, frozen=True):
    revoked: Annotated[bool, msgspec.Meta(description=_("also those that were revoked"))] = False


DailyLimit = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1, description=_("recipients it may hand over in a day"))]
Rate = Annotated[float, msgspec.Meta(ge=0.001, le=1e6, description=_("recipients sent in a second"))]


class NewCredential(Input, frozen=True):
    kind: CredentialKindName
    name: Annotated[str, msgspec.Meta(max_length=120)] = ""
    use: CredentialUseName = CredentialUseName.APPLICATION
    is_test: Annotated[bool, msgspec.Meta(description=_("its mail is taken and shown, and never leaves"))] = False
    network: Annotated[str, msgspec.Meta(max_length=50, description=_("of a network credential"))] = ""
    stream: Annotated[str, msgspec.Meta(max_length=48)] = ""
    scopes: (
        Annotated[
            list[KeyScope],
            msgspec.Meta(description=_("of an API key; all that the asking key has, if not given"), max_length=4),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    only_domain: Annotated[
        str,
        msgspec.Meta(max_length=255, description=_("the only author domain; an API key then sends and reads its mail")),
    ] = ""
    only_networks: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=50)]],
        msgspec.Meta(max_length=50, description=_("where it is used")),
    ] = []
    daily_limit: DailyLimit | None = None
    rate_per_second: Rate | None = None
    expires_at: MomentGiven | None = None


class Rotation(Input, frozen=True):
    overlap_hours: Annotated[
        float, msgspec.Meta(ge=0, le=720, description=_("how long the former secret works on"))
    ] = 24.0


class Credentials(ResourceView):
    @operation(
        "list_credentials", tag="credentials", says=_("Credentials, newest first"), query=CredentialQuery,
        answer=CredentialPage,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = self.asked(CredentialQuery)
        found = Credential.objects.of(self.tenant).order_by("-id")
        if not asked.revoked:
            found = found.filter(revoked_at=None)
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(shapes_of(self.tenant, rows), cursor_of(rows[-1].id if more else None)))

    @operation(
        "issue_credential",
        tag="credentials",
        says=_("A new SMTP login, API key or network; the secret is in this answer alone"),
        body=NewCredential,
        answer=CredentialWithSecret,
        status=201,
    )
    @sensitive_variables("issued")
    def post(self, request: Request) -> Response:
        given = self.given(NewCredential)
        own = _own_key(self)
        scopes = sorted(own.scopes) if given.scopes is msgspec.UNSET else given.scopes
        issued = issue(self.tenant, given, scopes=scopes, actor=self.caller.actor, within=own)
        return Response(with_secret(issued.credential, issued.secret), status=201)


class CredentialOne(ResourceView):
    @operation(
        "get_credential", tag="credentials", says=_("One credential"), query=NoParameters, answer=CredentialShape
    )
    def get(self, request: Request, credential_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(shape_of(credentials.find_credential(credential_id, tenant=self.tenant)))

    @operation(
        "revoke_credential",
        tag="credentials",
        says=_("Refused from now on; cannot be undone"),
        query=NoParameters,
        answer=CredentialShape,
    )
    def delete(self, request: Request, credential_id: UUID) -> Response:
        self.asked(NoParameters)
        found = credentials.find_credential(credential_id, tenant=self.tenant)
        return Response(shape_of(credentials.revoke_credential(found, actor=self.caller.actor)))


class RotateCredential(ResourceView):
    @operation(
        "rotate_credential",
        tag="credentials",
        says=_("A new secret, in this answer alone; the former one works on for a while"),
        body=Rotation,
        answer=CredentialWithSecret,
    )
    @sensitive_variables("secret")
    def post(self, request: Request, credential_id: UUID) -> Response:
        given = self.given(Rotation)
        found = credentials.find_credential(credential_id, tenant=self.tenant)
        secret = credentials.rotate_credential(
            found, actor=self.caller.actor, overlap=timedelta(hours=given.overlap_hours), within=_own_key(self)
        )
        return Response(with_secret(found, secret))


def issue(tenant: Tenant, given: NewCredential, *, scopes: Any, actor: Any, within: Credential | None) -> Issued:
    """Raises Problem, Refused."""
    return credentials.issue_credential(
        tenant,
        kind=given.kind,
        actor=actor,
        name=given.name,
        use=given.use,
        is_test=given.is_test,
        network=given.network or None,
        stream_id=_stream(tenant, given.stream).pk if given.stream else None,
        only_domain=_domain(given.only_domain),
        only_networks=given.only_networks,
        scopes=[str(scope) for scope in scopes],
        daily_limit=given.daily_limit,
        rate_per_second=given.rate_per_second,
        expires_at=given.expires_at,
        within=within,
    )


def with_secret(credential: Credential, secret: str | None) -> CredentialWithSecret:
    if secret is not None and credential.kind == CredentialKind.API:
        secret = credentials.api_key(credential, secret)
    return CredentialWithSecret(**msgspec.structs.asdict(shape_of(credential)), secret=secret)


def _own_key(view: ResourceView) -> Credential:
    return credentials.find_credential(view.caller.principal.credential_id, tenant=view.tenant)  # type: ignore[arg-type]


def _stream(tenant: Tenant, name: str) -> Stream:
    try:
        return find_stream(tenant, name)
    except NotFound:
        raise unknown_value("stream", "there is no such stream") from None


def _domain(name: str) -> str:
    try:
        return parse_domain(name) if name else ""
    except MailboxSyntaxError as error:
        raise invalid("only_domain", str(error)) from None


def _streams(tenant: Tenant) -> dict[UUID, str]:
    return dict(Stream.objects.of(tenant).values_list("id", "name"))


def shapes_of(tenant: Tenant, rows: Sequence[Credential]) -> list[CredentialShape]:
    """Of credentials of one tenant."""
    streams, pools = _streams(tenant), pools_of_credentials(rows)
    return [CredentialShape(**_fields(row, streams, pools)) for row in rows]


def shape_of(credential: Credential) -> CredentialShape:
    (shape,) = shapes_of(credential.tenant, [credential])
    return shape


def _fields(credential: Credential, streams: dict[UUID, str], pools: dict[UUID, str]) -> dict[str, Any]:
    return {
        "id": credential.id,
        "kind": CredentialKindName(credential.kind),
        "name": credential.name,
        "username": credential.username,
        "network": None if credential.network is None else str(credential.network),
        "use": CredentialUseName(credential.use),
        "scopes": credential.scopes,
        "is_test": credential.is_test,
        "stream": streams.get(credential.stream_id) if credential.stream_id else None,
        "pool": pools.get(credential.pool_id) if credential.pool_id else None,
        "only_domain": credential.only_domain or None,
        "only_networks": [str(network) for network in credential.only_networks],
        "daily_limit": credential.daily_limit,
        "rate_per_second": credential.rate_per_second,
        "created_at": in_utc(credential.created_at),
        "approved_at": in_utc(credential.approved_at),
        "expires_at": in_utc(credential.expires_at),
        "revoked_at": in_utc(credential.revoked_at),
        "last_used_at": in_utc(credential.last_used_at),
        "last_used_from": credential.last_used_from,
        "used_count": credential.used_count,
        "former_secret_until": in_utc(credential.former_secret_until),
    }
