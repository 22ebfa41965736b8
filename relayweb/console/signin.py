"""Signing in and out: password, second factor, passkey; the page of a one-time link; and asking for one.

Known and unknown addresses get one answer, after the same work. Tries are bounded by peer and account.
"""

from __future__ import annotations

import json
import math
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import browsers, factors, people
from accounts.audit import Actor
from accounts.models import User
from accounts.refusals import NotFound, Refused
from relayweb import letters
from relayweb.console import entering, known, tries
from relayweb.console.access import person_page

PASSWORD_CHANGED = _("The password was changed.")
_PASSKEY_KEY = "passkey_state"
_LARGEST_ANSWER = 20_000


class SignInForm(forms.Form):
    email = forms.CharField(label=_("E-mail address"), max_length=254)
    password = forms.CharField(label=_("Password"), max_length=4096, strip=False)


class PasswordForm(forms.Form):
    password = forms.CharField(label=_("New password"), max_length=4096, strip=False)


class ProveForm(forms.Form):
    password = forms.CharField(label=_("Password"), max_length=4096, strip=False)


class ResetForm(forms.Form):
    email = forms.CharField(label=_("E-mail address"), max_length=254)


# ---------------------------------------------------------------- in and out


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    target = entering.safe_target(request)
    form = SignInForm(request.POST or None)
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(target)
        return _sign_in_page(request, form, target)
    if not form.is_valid():
        return _refuse(request, form, target, gettext("Enter e-mail address and password."), status=200)
    email, peer = form.cleaned_data["email"].strip(), request.META.get("REMOTE_ADDR", "")
    browser = known.number_of(request, email)
    if wait := tries.may_try(email, peer, browser=browser):
        response = _refuse(request, form, target, _too_many(wait), status=429)
        response["Retry-After"] = str(wait)
        return response
    person = authenticate(request, username=email, password=form.cleaned_data["password"])
    if not isinstance(person, User):
        return _refuse(request, form, target, gettext("The e-mail address or the password is not right."), status=200)
    tries.forget(email, peer, browser=browser)
    return entering.enter(request, person, target, method="password")


@never_cache
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """A code from the app, a recovery code or a passkey. Who waits too long begins again."""
    half = entering.half_entered(request)
    if half is None:
        return redirect("sign-in")
    person, target = half
    refusal, status, wait = "", 200, 0
    if request.method == "POST":
        browser = known.number_of(request, person.email)
        wait = tries.may_try(person.id.hex, request.META.get("REMOTE_ADDR", ""), bounds=tries.CODE, browser=browser)
        if wait:
            refusal, status = _too_many(wait), 429
        elif factors.check_code(person, request.POST.get("code", "")[:64]):
            return entering.complete(request, person, target, method="code")
        else:
            refusal = gettext("This code does not fit, or was used already. Type the newest one.")
    context = {"refusal": refusal, "kinds": factors.second_factors_of(person), "next": target}
    response = render(request, "accounts/second_factor.html", context, status=status)
    if wait:
        response["Retry-After"] = str(wait)
    return response


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    browsers.forget(request.session.session_key or "")
    logout(request)
    return redirect("sign-in")


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@person_page
def prove(request: HttpRequest) -> HttpResponse:
    """The password once more, before something that a browser left open must not do."""
    assert isinstance(request.user, User)
    target, form, refusal, status = entering.safe_target(request), ProveForm(request.POST or None), "", 200
    if request.method == "POST" and form.is_valid():
        browser = known.number_of(request, request.user.email)
        wait = tries.may_try(request.user.email, request.META.get("REMOTE_ADDR", ""), browser=browser)
        if wait:
            refusal, status = _too_many(wait), 429
        elif request.user.check_password(form.cleaned_data["password"]):
            tries.forget(request.user.email, request.META.get("REMOTE_ADDR", ""), browser=browser)
            entering.prove(request)
            return redirect(target)
        else:
            refusal = gettext("The password is not right.")
    context = {
        "form": form,
        "next": target,
        "refusal": refusal,
        "person": request.user,
        "has_passkeys": "passkey" in factors.second_factors_of(request.user),
    }
    return render(request, "accounts/prove.html", context, status=status)


# ---------------------------------------------------------------- passkeys


@never_cache
@require_POST
def passkey_options(request: HttpRequest) -> HttpResponse:
    """For a browser that is about to ask its owner; the same for everybody."""
    site, peer = entering.site_of(request), request.META.get("REMOTE_ADDR", "")
    if tries.may_try("anybody", peer, bounds=tries.PASSKEY) or not site.may_have_passkeys:
        return JsonResponse({"sentence": _no_passkey()}, status=429)
    options, state = factors.begin_passkey_check(site=site)
    request.session[_PASSKEY_KEY] = state
    return JsonResponse(options)


@never_cache
@require_POST
def passkey(request: HttpRequest) -> HttpResponse:
    """The browser's answer. Signs in, or proves who is signed in already; a passkey is both factors at once."""
    state, answer = request.session.pop(_PASSKEY_KEY, None), json_of(request)
    try:
        if state is None or answer is None:
            raise Refused(_no_passkey(), reason="passkey_refused")
        person = factors.check_passkey(answer, state=state, site=entering.site_of(request))
        if request.user.is_authenticated and request.user != person:
            raise Refused(gettext("This passkey belongs to somebody else."), reason="passkey_refused")
    except Refused as refusal:
        return JsonResponse({"sentence": refusal.sentence}, status=400)
    target = entering.safe_target(request)
    if request.user.is_authenticated:
        entering.prove(request)
        return JsonResponse({"go": target})
    response = entering.complete(request, person, target, method="passkey")
    going_on = JsonResponse({"go": response["Location"]})
    going_on.cookies = response.cookies
    return going_on


def json_of(request: HttpRequest) -> dict[str, Any] | None:
    """A small JSON object, else None."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > _LARGEST_ANSWER:
        return None
    try:
        found = json.loads(request.body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _no_passkey() -> str:
    return gettext("This passkey was not accepted. Try again, or sign in another way.")


# ---------------------------------------------------------------- by link


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def welcome(request: HttpRequest, token: str) -> HttpResponse:
    """Where a one-time link leads. Looking at it changes nothing: a mail scanner's GET uses nothing up.

    Its token is signed, so there is nothing to guess and no limit on looking.
    """
    form, refusal = PasswordForm(request.POST or None), ""
    try:
        person = people.user_of_link(token)
        if request.method == "POST" and form.is_valid():
            had_password = person.has_usable_password()
            person = people.enter_by_link(
                token,
                password=form.cleaned_data["password"],
                actor=Actor(person.email, user=person, peer_address=entering.peer_of(request)),
            )
            browsers.end_others(person, but=None, actor=Actor.person(person, peer_address=entering.peer_of(request)))
            if had_password:
                tell_of_change(request, person, PASSWORD_CHANGED)
            return entering.enter(request, person, settings.LOGIN_REDIRECT_URL, method="link")
    except NotFound:
        return render(request, "accounts/link_dead.html", status=404)
    except Refused as error:
        refusal = error.sentence
    return render(request, "accounts/welcome.html", {"form": form, "person": person, "refusal": refusal})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def reset(request: HttpRequest) -> HttpResponse:
    """Asks for a link by mail. One answer for every address, and no difference in the work before it."""
    form, refusal, status, wait = ResetForm(request.POST or None), "", 200, 0
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"].strip()
        wait = tries.may_try(email, request.META.get("REMOTE_ADDR", ""), bounds=tries.MAIL)
        if not wait:
            _send_reset(request, email)
            return render(request, "accounts/reset_sent.html", {"email": email})
        refusal, status = _too_many(wait), 429
    elif request.method == "POST":
        refusal = gettext("Enter your e-mail address.")
    response = render(request, "accounts/reset.html", {"form": form, "refusal": refusal}, status=status)
    if wait:
        response["Retry-After"] = str(wait)
    return response


def _send_reset(request: HttpRequest, email: str) -> None:
    person = User.objects.filter(email__iexact=email, is_active=True).first()
    # Somebody is made up where there is nobody, so that as much is worded and signed; that letter is not sent.
    addressee = person or User(email=email)
    link = people.one_time_link(addressee, lifetime=people.RESET_LIFETIME)
    letters.to_person(
        addressee,
        lambda: letters.reset_password(
            link=link,
            minutes=int(people.RESET_LIFETIME.total_seconds() // 60),
            now=timezone.now(),
            zone=addressee.time_zone,
            where=entering.where(request),
        ),
        is_to_go=person is not None,
    )


# ---------------------------------------------------------------- small parts


def tell_of_change(request: HttpRequest, person: User, change: Any) -> None:
    """A letter to the person: what changed about signing in, when and from where."""
    link = settings.PUBLIC_URL + reverse("security")
    letters.to_person(
        person,
        lambda: letters.sign_in_changed(
            str(change), link=link, now=timezone.now(), zone=person.time_zone, where=entering.where(request)
        ),
    )


def _too_many(wait: int) -> str:
    return gettext("Too many tries. You can go on in {minutes} minutes.").format(minutes=math.ceil(wait / 60))


def _sign_in_page(
    request: HttpRequest, form: SignInForm, target: str, *, refusal: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "form": form,
        "next": target,
        "refusal": refusal,
        "is_open": settings.SIGNUP != "invitation",
        "may_have_passkeys": entering.site_of(request).may_have_passkeys,
    }
    return render(request, "accounts/sign_in.html", context, status=status)


def _refuse(request: HttpRequest, form: SignInForm, target: str, sentence: str, *, status: int) -> HttpResponse:
    return _sign_in_page(request, form, target, refusal=sentence, status=status)
