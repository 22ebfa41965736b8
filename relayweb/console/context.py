"""What every page's frame needs: language, theme, clock, the tenant's navigation. No queries before a template asks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.translation import get_language

from accounts.models import Membership, Notice
from relayweb.console import logo
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
        "reference": getattr(request, "reference", ""),
        "is_test_profile": settings.TEST_PROFILE,
        "notice_count": SimpleLazyObject(lambda: _open_notices(request)),
        "memberships": SimpleLazyObject(lambda: _memberships(request)),
    }


def _open_notices(request: HttpRequest) -> int:
    seat = getattr(request, "seat", None)
    return 0 if seat is None else Notice.objects.of(seat.tenant).filter(closed_at=None).count()


def _memberships(request: HttpRequest) -> list[Membership]:
    if not request.user.is_authenticated:
        return []
    found = Membership.objects.select_related("tenant").filter(user=request.user.pk).exclude(tenant__state="closed")
    return list(found.order_by("tenant__name")[: SWITCHER_LENGTH + 1])
