"""What a key may be used for: its scopes, and whether it is limited to one author domain."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.authentication import Principal

SEND, READ, MANAGE, MEMBERS = "send", "read", "manage", "members"


class HasScope(BasePermission):
    """The view names its scope, or one for each method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not getattr(request.user, "is_authenticated", False):
            return False
        principal = cast(Principal, request.auth)
        wanted = view.scope_of(request.method)
        if wanted not in principal.scopes:
            raise PermissionDenied(f"The key lacks the scope {wanted}.", code="scope_missing")
        # What was sent from other domains is none of its business: it reads where the view leaves that out.
        if principal.only_domain and wanted != SEND and not (wanted == READ and view.heeds_domain):
            raise PermissionDenied(
                "A key that is limited to a domain sends, and reads that domain's mail.", code="key_limited_to_domain"
            )
        return True
