"""Language, theme and clock: kept in cookies, so that no page asks the database for them, and with the person."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.models import User
from relayweb.console.access import UTC_COOKIE
from relayweb.console.context import THEME_COOKIE, THEMES
from relayweb.console.targets import is_own_path

LANGUAGES = tuple(code for code, _ in settings.LANGUAGES)


@require_POST
def choose_language(request: HttpRequest) -> HttpResponse:
    response, language = _back(request), request.POST.get("language", "")
    if language in LANGUAGES:
        _remember(response, settings.LANGUAGE_COOKIE_NAME, language)
        _keep_with_person(request, language=language)
    return response


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Anything but light and dark means as the device does."""
    response, theme = _back(request), request.POST.get("theme", "")
    theme = theme if theme in THEMES else ""
    _remember(response, THEME_COOKIE, theme)
    _keep_with_person(request, theme=theme)
    return response


@require_POST
def choose_clock(request: HttpRequest) -> HttpResponse:
    response = _back(request)
    _remember(response, UTC_COOKIE, "utc" if request.POST.get("clock") == "utc" else "")
    return response


def remember_in_browser(response: HttpResponse, person: User) -> HttpResponse:
    """At sign-in: the browser takes on what the person has chosen elsewhere."""
    if person.language in LANGUAGES:
        _remember(response, settings.LANGUAGE_COOKIE_NAME, person.language)
    if person.theme in THEMES:
        _remember(response, THEME_COOKIE, person.theme)
    return response


def _keep_with_person(request: HttpRequest, **chosen: str) -> None:
    if request.user.is_authenticated:
        User.objects.filter(pk=request.user.pk).update(**chosen)


def _remember(response: HttpResponse, name: str, value: str) -> None:
    if value:
        response.set_cookie(
            name,
            value,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    else:
        response.delete_cookie(name, samesite="Lax")


def _back(request: HttpRequest) -> HttpResponse:
    """To the page it was chosen on."""
    target = request.POST.get("next", "")
    return redirect(target if is_own_path(target) else "home")
