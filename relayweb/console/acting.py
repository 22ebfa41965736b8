"""Acting for a member of a tenant, in the operator's session: where it is kept, and what it does not permit.

Everything that changes something is refused but for a few deeds that support is asked for; pages that show or make secrets
are refused, and so is everything that shows the content of mail, unless the tenant lets operators read. A page that is new
and changes something is refused by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import acting
from accounts.models import Membership, Tenant, TenantState

_KEY = "acts_as"
_SAFE = frozenset({"GET", "HEAD"})

# What an operator may do for somebody: repair, and nothing that lets anybody in, sends or removes for good.
CHANGES = frozenset({"message-change", "domain-check", "suppression-add", "suppression-remove", "suppression-restore"})
# Secrets, and where they are made or hidden in addresses.
SECRETS = ("credential-issue", "credential-secret", "credential-rotate", "credential-revoke", "webhook")
# Content, and what carries parts of it.
CONTENT = frozenset({"message-html", "message-eml", "message-again", "job-ask", "job-file", "start-live"})
CONTENT_VIEWS = frozenset({"headers", "preview"})


@dataclass(frozen=True, slots=True)
class Acting:
    """As the session has it; checked anew at every page of the tenant."""

    slug: str
    tenant_name: str
    tenant_id: str
    member_id: str
    email: str
    until: datetime


def begin(request: HttpRequest, member: Membership, *, until: datetime) -> None:
    request.session.cycle_key()
    request.session[_KEY] = {
        "slug": member.tenant.slug,
        "tenant_name": member.tenant.name,
        "tenant_id": member.tenant_id.hex,
        "member_id": member.pk.hex,
        "email": member.user.email,
        "until": int(until.timestamp()),
    }


def end(request: HttpRequest) -> None:
    request.session.pop(_KEY, None)
    request.session.cycle_key()


def of(request: HttpRequest) -> Acting | None:
    """None when its time is over, or the person is no operator any more."""
    kept: dict[str, Any] | None = request.session.get(_KEY)
    if kept is None:
        return None
    if kept["until"] <= time.time() or not getattr(request.user, "is_operator", False):
        del request.session[_KEY]
        return None
    return Acting(**{**kept, "until": datetime.fromtimestamp(kept["until"], tz=UTC)})


def shown(request: HttpRequest) -> Acting | None:
    """For the banner. A browser without a session has none, and is not asked for one."""
    session = getattr(request, "session", None)
    return of(request) if session is not None and settings.SESSION_COOKIE_NAME in request.COOKIES else None


def member_for(request: HttpRequest, slug: str) -> Membership | None:
    """Whose place the operator takes in this tenant; None where nobody acts in it."""
    found = of(request)
    if found is None or found.slug != slug:
        return None
    tenant = Tenant.objects.filter(pk=UUID(found.tenant_id), slug=slug).exclude(state=TenantState.CLOSED).first()
    return None if tenant is None else acting.find_member(tenant, UUID(found.member_id))


def is_refused(request: HttpRequest, tenant: Tenant) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else None
    if name is None or name.startswith(SECRETS):
        return True
    if request.method not in _SAFE and name not in CHANGES:
        return True
    if tenant.lets_operators_read:
        return False
    if name in CONTENT:
        return True
    # A search for words of the subject would tell them.
    return (name in {"message", "message-live"} and request.GET.get("view") in CONTENT_VIEWS) or bool(
        request.GET.get("subject")
    )


def refusal(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return HttpResponse(status=403)  # a part that refreshes keeps what it shows
    return render(request, "console/acting_refused.html", {"tenant": tenant}, status=403)
