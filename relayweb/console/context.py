"""What every page's frame needs: language, theme, clock, the tenant's navigation. No queries before a template asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from django.utils.translation import get_language

from accounts.models import Membership, Notice, Role, Tenant
from relayweb.console import acting, logo
from relayweb.console.access import UTC_COOKIE

THEME_COOKIE = "relay_theme"
THEMES = ("light", "dark")
SWITCHER_LENGTH = 7


def console(request: HttpRequest) -> dict[str, Any]:
    theme = request.COOKIES.get(THEME_COOKIE, "")
    return {
        "service": settings.SERVICE_NAME,
        "support_url": settings.SUPPORT_URL,
        "terms_url": settings.TERMS_URL,
        "logo_url": logo.address(),
        "language": get_language() or settings.LANGUAGE_CODE,
        "languages": settings.LANGUAGES,
        "theme": theme if theme in THEMES else "",
        "is_utc": request.COOKIES.get(UTC_COOKIE) == "utc",
        "seat": getattr(request, "seat", None),
        "acting": SimpleLazyObject(lambda: acting.shown(request)),
        "reference": getattr(request, "reference", ""),
        "is_test_profile": settings.TEST_PROFILE,
        "notice_count": SimpleLazyObject(lambda: _open_notices(request)),
        "memberships": SimpleLazyObject(lambda: _places(request)),
    }


def _open_notices(request: HttpRequest) -> int:
    seat = getattr(request, "seat", None)
    return 0 if seat is None else Notice.objects.of(seat.tenant).filter(closed_at=None).count()


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant to switch to, and where one comes: the same page, or the overview where that is no page of every tenant's."""

    membership: Membership
    path: str

    @property
    def tenant(self) -> Tenant:
        return self.membership.tenant


def _places(request: HttpRequest) -> list[Place]:
    if not request.user.is_authenticated:
        return []
    found = Membership.objects.select_related("tenant").filter(user=request.user.pk).exclude(tenant__state="closed")
    return [Place(one, _same_page(request, one)) for one in found.order_by("tenant__name")[: SWITCHER_LENGTH + 1]]


def _same_page(request: HttpRequest, membership: Membership) -> str:
    """A page about one thing of a tenant's is no page of another's, nor is one that the other's role does not open."""
    at, slug = request.resolver_match, membership.tenant.slug
    if at is None or set(at.kwargs) != {"slug"} or not getattr(at.func, "is_tenant_page", False):
        return reverse("overview", args=[slug])
    may_open = Role(membership.role).includes(at.func.role)  # type: ignore[attr-defined]
    return reverse(str(at.url_name) if may_open else "overview", args=[slug])
