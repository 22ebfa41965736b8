"""How a session begins, whichever way a person came: password, code, passkey or link.

A password or a link is only half of it for somebody with a second factor: the session then waits, under a new key and
signed in as nobody, for the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare

from accounts import browsers
from accounts.audit import Actor
from accounts.factors import Site
from accounts.models import User
from relayweb.console import known, preferences, visits
from relayweb.console.targets import is_own_path
from relayweb.letters import Where

BACKEND = "django.contrib.auth.backends.ModelBackend"
_HALF_KEY = "second_factor"
_HALF_SECONDS = 10 * 60
_PROVED_KEY = "proved_at"
_PROVED_SECONDS = 15 * 60

View = Callable[..., HttpResponseBase]


def enter(request: HttpRequest, person: User, target: str, *, method: str) -> HttpResponse:
    """After a good password or link: signed in, or led to the second factor."""
    if not person.has_second_factor:
        return complete(request, person, target, method=method)
    # A new key: whoever may have planted the old one must not come by with half of a sign-in.
    request.session.flush()
    request.session[_HALF_KEY] = {
        "user": person.id.hex,
        "hash": person.get_session_auth_hash(),
        "target": target,
        "at": int(time.time()),
    }
    return redirect("second-factor")


def half_entered(request: HttpRequest) -> tuple[User, str] | None:
    """Who is to answer with the second factor, and where they wanted to go; None when it took too long."""
    half = request.session.get(_HALF_KEY)
    if not half or time.time() - half["at"] > _HALF_SECONDS:
        return None
    person = User.objects.filter(pk=half["user"], is_active=True).first()
    # A password that was changed meanwhile ends this too.
    if person is None or not constant_time_compare(half["hash"], person.get_session_auth_hash()):
        return None
    return person, half["target"]


def complete(request: HttpRequest, person: User, target: str, *, method: str) -> HttpResponse:
    """Everything is proved. The session gets a new key."""
    request.session.pop(_HALF_KEY, None)
    login(request, person, backend=BACKEND)
    prove(request)
    request.session[visits.NOTED_KEY] = True
    browsers.note(
        person,
        session_key=str(request.session.session_key),
        method=method,
        browser=request.META.get("HTTP_USER_AGENT", ""),
        peer_address=peer_of(request),
    )
    response = preferences.remember_in_browser(redirect(target), person)
    known.remember(request, response, person.email)
    return response


# ---------------------------------------------------------------- proved a moment ago


def prove(request: HttpRequest) -> None:
    request.session[_PROVED_KEY] = int(time.time())


def is_proved(request: HttpRequest, *, within_seconds: float = _PROVED_SECONDS) -> bool:
    return time.time() - request.session.get(_PROVED_KEY, 0) < within_seconds


def proved_page(view: View) -> View:
    """For what a browser left open must not do: asks for the password or a passkey unless that was a moment ago."""

    @wraps(view)
    def within(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_proved(request):
            return to_proof(request, back=request.get_full_path() if request.method in {"GET", "HEAD"} else "")
        return view(request, *args, **kwargs)

    return within


def to_proof(request: HttpRequest, *, back: str) -> HttpResponse:
    """And then to this page of ours."""
    return redirect(f"{reverse('prove')}?{urlencode({'next': back or reverse('security')})}")


# ---------------------------------------------------------------- small parts


def peer_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def where(request: HttpRequest) -> Where:
    return Where(peer_of(request) or "", request.META.get("HTTP_USER_AGENT", "")[:150])


def actor_of(request: HttpRequest) -> Actor:
    assert isinstance(request.user, User)
    return Actor(request.user.email, user=request.user, peer_address=peer_of(request))


def safe_target(request: HttpRequest) -> str:
    """A page of ours that was asked for, else the start page."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    if is_own_path(wanted):
        return wanted
    return settings.LOGIN_REDIRECT_URL


def site_of(request: HttpRequest) -> Site:
    """Passkeys belong to the public address; in development to whichever of its names the browser came by."""
    origin = f"{request.scheme}://{request.get_host()}" if settings.DEVELOPMENT else settings.PUBLIC_URL
    return Site(origin, settings.SERVICE_NAME)
