"""A person's own pages: name, time zone, address, password. Language and theme are chosen in the frame (preferences)."""

from __future__ import annotations

import math
from zoneinfo import available_timezones

from django import forms
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import browsers, people
from accounts.models import User
from accounts.refusals import NotFound, Refused
from relayweb import letters
from relayweb.console import entering, signin, tries
from relayweb.console.access import person_page
from relayweb.console.entering import proved_page
from relayweb.console.forms import ConsoleForm, tell

ADDRESS_CHANGED = _("The e-mail address was changed to {email}.")


def zones() -> list[tuple[str, str]]:
    return [("", gettext("the tenant's")), *((zone, zone) for zone in sorted(available_timezones()) if "/" in zone)]


class ProfileForm(ConsoleForm):
    name = forms.CharField(label=_("Name"), max_length=120, required=False, help_text=_("What your colleagues see."))
    time_zone = forms.ChoiceField(label=_("Time zone"), required=False, choices=zones)


class AddressForm(ConsoleForm):
    email = forms.CharField(
        label=_("New e-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autocapitalize": "none", "spellcheck": "false"}),
    )


class PasswordForm(ConsoleForm):
    password = forms.CharField(
        label=_("New password"),
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least 10 characters; common passwords are refused. A few words in a row are good."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
def page(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    form = ProfileForm(request.POST or None, initial={"name": person.name, "time_zone": person.time_zone})
    if request.method == "POST" and form.is_valid():
        try:
            people.update_profile(person, actor=entering.actor_of(request), **form.cleaned_data)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Saved."))
            return redirect("me")
    return render(request, "me/page.html", {"section": "me", "form": form, "person": person})


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def address(request: HttpRequest) -> HttpResponse:
    """Asks for another address: nothing changes before its mailbox has answered."""
    person, form = _person(request), AddressForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"].strip()
        wait = tries.may_try(person.id.hex, request.META.get("REMOTE_ADDR", ""), bounds=tries.MAIL)
        try:
            if wait:
                sentence = gettext("Too many tries. You can go on in {minutes} minutes.")
                raise Refused(sentence.format(minutes=math.ceil(wait / 60)), reason="too_many")
            link = people.new_address_link(person, email)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            # The same answer when somebody else has the address: that mailbox then gets no letter.
            letters.send(
                email,
                lambda: letters.confirm_new_address(link=link, minutes=int(people.LINK_LIFETIME.total_seconds() // 60)),
                language=person.language,
                is_to_go=not User.objects.filter(email__iexact=email).exists(),
            )
            tell(request, gettext("We have sent a mail to {email}. Open the link in it.").format(email=email))
            return redirect("me")
    return render(request, "me/address.html", {"section": "me", "form": form, "person": person})


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
def confirm_address(request: HttpRequest, token: str) -> HttpResponse:
    """Where the link in that mail leads. It has a button: a scanner's GET changes nothing."""
    person = _person(request)
    try:
        email = people.address_of_link(token, user=person)
        if request.method == "POST":
            former = people.change_address(token, user=person, actor=entering.actor_of(request))
            _tell_former_address(request, person, former)
            tell(request, gettext("From now on you sign in with {email}.").format(email=person.email))
            return redirect("me")
    except NotFound:
        return render(request, "accounts/link_dead.html", status=404)
    return render(request, "me/confirm_address.html", {"email": email, "person": person})


def _tell_former_address(request: HttpRequest, person: User, former: str) -> None:
    from django.conf import settings
    from django.urls import reverse

    link, change = settings.PUBLIC_URL + reverse("reset"), str(ADDRESS_CHANGED).format(email=person.email)
    letters.send(
        former,
        lambda: letters.sign_in_changed(
            change, link=link, now=timezone.now(), zone=person.time_zone, where=entering.where(request)
        ),
        language=person.language,
    )


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def password(request: HttpRequest) -> HttpResponse:
    """Ends the person's other sessions; this one goes on under a new key."""
    person, form = _person(request), PasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        actor, before = entering.actor_of(request), request.session.session_key
        try:
            people.change_password(person, form.cleaned_data["password"], actor=actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            browsers.end_others(person, but=before, actor=actor)
            update_session_auth_hash(request, person)
            browsers.rekey(before or "", request.session.session_key or "")
            signin.tell_of_change(request, person, signin.PASSWORD_CHANGED)
            tell(request, gettext("The password was changed. Other browsers are signed out."))
            return redirect("security")
    return render(request, "me/password.html", {"section": "me", "form": form, "person": person})


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
