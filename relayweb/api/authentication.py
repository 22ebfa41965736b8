"""Who asks: the key in ``Authorization: Bearer``. A database that is away is said as that, never as a wrong key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.audit import Actor
from accounts.authentication import Principal
from accounts.credentials import OPERATE
from accounts.models import Tenant
from delivery.acceptance import door

# Behind a unix socket the peer has no address; no network holds this one.
_NO_ADDRESS = "::"


@dataclass(frozen=True)
class Caller:
    """The program that asks, on behalf of its tenant."""

    principal: Principal
    username: str
    address: str

    is_authenticated = True

    @cached_property
    def tenant(self) -> Tenant:
        return Tenant.objects.get(pk=self.principal.tenant_id)

    @property
    def actor(self) -> Actor:
        return Actor(
            name=f"API key {self.username}",
            is_operator=OPERATE in self.principal.scopes,
            peer_address=self.address or None,
        )


def caller_of_key(key: str, request: Any) -> Caller | None:
    address = request.META.get("REMOTE_ADDR", "")
    principal = door.principal_of_key(key, peer=address or _NO_ADDRESS)
    return None if principal is None else Caller(principal, key.rpartition(".")[0], address)


class BearerKey(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, Principal] | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return None
        caller = caller_of_key(key.strip(), request)
        if caller is None:
            raise AuthenticationFailed
        return caller, caller.principal

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="relayweb"'


class BearerKeySchema(OpenApiAuthenticationExtension):
    target_class = "relayweb.api.authentication.BearerKey"
    name = "bearerKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key of a tenant."}
