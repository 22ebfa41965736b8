"""Signing in and out, and the page where a one-time link leads: choosing a password.

Known and unknown addresses get one answer, after the same work. Tries are bounded by peer and account.
"""

from __future__ import annotations

import math

from django import forms
from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import people
from accounts.models import User
from accounts.refusals import NotFound, Refused
from relayweb.console import preferences, tries

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInForm(forms.Form):
    email = forms.CharField(label=_("E-mail address"), max_length=254)
    password = forms.CharField(label=_("Password"), max_length=4096, strip=False)


class PasswordForm(forms.Form):
    password = forms.CharField(label=_("New password"), max_length=4096, strip=False)


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    target = _safe_target(request)
    form = SignInForm(request.POST or None)
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(target)
        return render(request, "accounts/sign_in.html", {"form": form, "next": target})
    if not form.is_valid():
        return _refuse(request, form, target, gettext("Enter e-mail address and password."), status=200)
    email, peer = form.cleaned_data["email"].strip(), request.META.get("REMOTE_ADDR", "")
    if wait := tries.may_try(email, peer):
        sentence = gettext("Too many tries. You can go on in {minutes} minutes.")
        response = _refuse(request, form, target, sentence.format(minutes=math.ceil(wait / 60)), status=429)
        response["Retry-After"] = str(wait)
        return response
    person = authenticate(request, username=email, password=form.cleaned_data["password"])
    if not isinstance(person, User):
        return _refuse(request, form, target, gettext("The e-mail address or the password is not right."), status=200)
    tries.forget(email, peer)
    return _enter(request, person, target)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")


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
            person = people.enter_by_link(token, password=form.cleaned_data["password"])
            return _enter(request, person, settings.LOGIN_REDIRECT_URL)
    except NotFound:
        return render(request, "accounts/link_dead.html", status=404)
    except Refused as error:
        refusal = error.sentence
    return render(request, "accounts/welcome.html", {"form": form, "person": person, "refusal": refusal})


def _enter(request: HttpRequest, person: User, target: str) -> HttpResponse:
    login(request, person, backend=BACKEND)
    return preferences.remember_in_browser(redirect(target), person)


def _refuse(request: HttpRequest, form: SignInForm, target: str, sentence: str, *, status: int) -> HttpResponse:
    context = {"form": form, "next": target, "refusal": sentence}
    return render(request, "accounts/sign_in.html", context, status=status)


def _safe_target(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None):
        return wanted
    return settings.LOGIN_REDIRECT_URL
