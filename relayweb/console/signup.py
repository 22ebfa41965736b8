"""Signing up: the form, the page that waits for the address to be confirmed, and the page of the link in the mail.

Nothing here tells whether an address is known: text, status and work are the same, and only the mailbox learns more.
"""

from __future__ import annotations

import math
from uuid import UUID
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import signups
from accounts.models import SignUp
from accounts.refusals import NotFound, Refused
from relayweb import letters
from relayweb.console import entering, tries
from relayweb.console.forms import ConsoleForm, tell, tell_refusal

_WAITING_KEY = "sign_up"


class SignUpForm(ConsoleForm):
    email = forms.CharField(
        label=_("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    password = forms.CharField(label=_("Password"), max_length=4096, strip=False)
    time_zone = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput(attrs={"data-zone": ""}))

    @property
    def zone(self) -> str:
        zone = self.cleaned_data["time_zone"]
        return zone if zone in available_timezones() else ""


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("home")
    if settings.SIGNUP == "invitation":
        return render(request, "accounts/sign_up_closed.html", status=403 if request.method == "POST" else 200)
    form, wait = SignUpForm(request.POST or None), 0
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        wait = tries.may_try(given["email"].strip(), request.META.get("REMOTE_ADDR", ""), bounds=tries.MAIL)
        if wait:
            form.add_error(None, _too_many(wait))
        else:
            try:
                found = signups.begin(
                    given["email"], given["password"], language=get_language() or "", time_zone=form.zone
                )
            except Refused as refusal:
                form.refuse(refusal)
            else:
                _send(found)
                request.session.flush()
                request.session[_WAITING_KEY] = found.id.hex
                return redirect("verify")
    context = {"form": form, "is_by_approval": settings.SIGNUP == "approval"}
    response = render(request, "accounts/sign_up.html", context, status=429 if wait else 200)
    if wait:
        response["Retry-After"] = str(wait)
    return response


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def verify(request: HttpRequest) -> HttpResponse:
    """Waits for the confirmation, from whichever browser it comes; POST sends the mail again."""
    waiting = _waiting(request)
    if waiting is None:
        return redirect("sign-in")
    if waiting.confirmed_at is not None and waiting.user is not None:
        # This session knows the password that the account was made with.
        request.session.pop(_WAITING_KEY)
        return entering.enter(request, waiting.user, settings.LOGIN_REDIRECT_URL, method="password")
    if request.method == "POST":
        wait = tries.may_try(waiting.email, request.META.get("REMOTE_ADDR", ""), bounds=tries.MAIL)
        try:
            if wait:
                raise Refused(_too_many(wait), reason="too_many")
            _send(signups.renew(waiting))
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("The mail was sent again."))
        return redirect("verify")
    context = {
        "waiting": waiting,
        "subject": f"[{settings.SERVICE_NAME}] {gettext('Confirm your e-mail address')}",
        "hours": int(signups.LIFETIME.total_seconds() // 3600),
    }
    return render(request, "accounts/verify.html", context)


@never_cache
@require_safe
def verify_live(request: HttpRequest) -> HttpResponse:
    """204 while the address waits to be confirmed, 200 when the page has something else to show."""
    waiting = _waiting(request)
    return HttpResponse(status=204 if waiting is not None and waiting.confirmed_at is None else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Where the link in the mail leads. It has a button: a scanner's GET confirms nothing."""
    try:
        if request.method != "POST":
            found = signups.of_link(token)
            if found.confirmed_at is None:
                return render(request, "accounts/confirm.html", {"email": found.email})
        else:
            found = signups.confirm(token, peer_address=entering.peer_of(request))
    except NotFound:
        return render(request, "accounts/sign_up_link_dead.html", status=404)
    if request.session.get(_WAITING_KEY) == found.id.hex:
        return redirect("verify")
    # Another browser, which has not shown that it knows the password.
    return render(request, "accounts/confirmed.html", {"email": found.email})


def _waiting(request: HttpRequest) -> SignUp | None:
    key = request.session.get(_WAITING_KEY)
    if not key:
        return None
    try:
        return signups.find(UUID(hex=key))
    except NotFound:
        return None


def _send(found: SignUp) -> None:
    """To a known address, what a person with an account needs; to another one, the link."""
    link = signups.link_of(found)
    sign_in, reset = (settings.PUBLIC_URL + reverse(name) for name in ("sign-in", "reset"))
    if signups.is_known(found):
        letters.send(found.email, lambda: letters.already_known(sign_in=sign_in, reset=reset), language=found.language)
    else:
        letters.send(found.email, lambda: letters.confirm_sign_up(found, link=link), language=found.language)


def _too_many(wait: int) -> str:
    return gettext("Too many tries. You can go on in {minutes} minutes.").format(minutes=math.ceil(wait / 60))
