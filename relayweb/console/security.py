"""What protects a person's sign-in: passkeys, an authenticator app, recovery codes; and where they are signed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

import qrcode
from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import browsers, factors
from accounts.models import Membership, OneTimePassword, Passkey, SignedInBrowser, User
from accounts.refusals import NotFound, Refused
from relayweb.console import entering, once, signin
from relayweb.console.access import person_page
from relayweb.console.entering import proved_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal

_NEW_PASSKEY_KEY = "new_passkey_state"

APP_ADDED, APP_REMOVED = _("An authenticator app was set up."), _("The authenticator app was removed.")
PASSKEY_ADDED, PASSKEY_REMOVED = _("The passkey “{name}” was added."), _("The passkey “{name}” was removed.")
CODES_MADE = _("New recovery codes were made; the former ones no longer work.")

METHODS = {
    "password": _("with the password"),
    "code": _("with password and code"),
    "passkey": _("with a passkey"),
    "link": _("by a link from a mail"),
}


class CodeForm(ConsoleForm):
    code = forms.CharField(
        label=_("Code from the app"),
        max_length=12,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
        help_text=_("Six digits: they show that the app has taken the key."),
    )


@dataclass(frozen=True, slots=True)
class Browser:
    row: SignedInBrowser
    name: str
    method: object
    is_this: bool


@require_safe
@person_page
def page(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    passkeys = list(Passkey.objects.filter(user=person).order_by("created_at"))
    app = OneTimePassword.objects.filter(user=person).first()
    context = {
        "section": "security",
        "person": person,
        "passkeys": passkeys,
        "app": app,
        "codes_left": factors.recovery_codes_left(person),
        "codes_total": factors.RECOVERY_CODES,
        "may_have_passkeys": entering.site_of(request).may_have_passkeys,
        "demanding": _demanding(person),
        "browsers": [_browser(one, request) for one in browsers.browsers_of(person)],
        "is_last": len(passkeys) + (app is not None) == 1,
    }
    return render(request, "me/security.html", context)


# ---------------------------------------------------------------- authenticator app


@sensitive_post_parameters("code")
@sensitive_variables("secret")
@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def app(request: HttpRequest) -> HttpResponse:
    """Shows a new key as picture and text; it counts once a code made from it has come back."""
    person, form = _person(request), CodeForm(request.POST or None)
    secret = once.peek(request, person.id) or factors.new_secret()
    once.put(request, person.id, secret)
    if request.method == "POST" and form.is_valid():
        try:
            had_codes = factors.recovery_codes_left(person) > 0
            factors.set_one_time_password(person, secret, form.cleaned_data["code"], actor=entering.actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            once.take(request, person.id)
            signin.tell_of_change(request, person, APP_ADDED)
            tell(request, APP_ADDED)
            return redirect("security") if had_codes else _show_codes(request, person)
    uri = factors.provisioning_uri(secret, account=person.email, issuer=settings.SERVICE_NAME)
    path, size = _qr(uri)
    context = {
        "section": "security",
        "form": form,
        "secret": " ".join(re.findall(".{1,4}", secret)),
        "uri": uri,
        "qr": path,
        "qr_size": size,
    }
    return render(request, "me/app.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def app_remove(request: HttpRequest) -> HttpResponse:
    person = _person(request)
    if not OneTimePassword.objects.filter(user=person).exists():
        raise Http404
    if request.method == "POST":
        factors.remove_one_time_password(person, actor=entering.actor_of(request))
        signin.tell_of_change(request, person, APP_REMOVED)
        tell(request, APP_REMOVED)
        return redirect("security")
    return _ask_removal(request, person, gettext("Remove the authenticator app?"), Passkey.objects.filter(user=person))


# ---------------------------------------------------------------- recovery codes


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def codes(request: HttpRequest) -> HttpResponse:
    """GET asks, or shows new codes once; POST makes them."""
    person = _person(request)
    if not person.has_second_factor:
        raise Http404
    if request.method == "POST":
        response = _show_codes(request, person)
        signin.tell_of_change(request, person, CODES_MADE)
        return response
    shown = once.take(request, _codes_key(person)) if request.method == "GET" else None
    context = {
        "section": "security",
        "codes": shown.split() if shown else [],
        "left": factors.recovery_codes_left(person),
        "person": person,
    }
    return render(request, "me/codes.html", context)


def _show_codes(request: HttpRequest, person: User) -> HttpResponse:
    made = factors.new_recovery_codes(person, actor=entering.actor_of(request))
    once.put(request, _codes_key(person), " ".join(made))
    return redirect("codes")


def _codes_key(person: User) -> UUID:
    """Beside the key of the app, which is kept under the person's own."""
    return UUID(int=person.id.int ^ 1)


# ---------------------------------------------------------------- passkeys


@require_safe
@person_page
@proved_page
def passkey_add(request: HttpRequest) -> HttpResponse:
    site = entering.site_of(request)
    return render(
        request, "me/passkey.html", {"section": "security", "may_have_passkeys": site.may_have_passkeys, "site": site}
    )


@require_POST
@person_page
@proved_page
def passkey_new_options(request: HttpRequest) -> HttpResponse:
    person, site = _person(request), entering.site_of(request)
    try:
        options, state = factors.begin_passkey(person, site=site)
    except Refused as refusal:
        return JsonResponse({"sentence": refusal.sentence}, status=400)
    request.session[_NEW_PASSKEY_KEY] = state
    return JsonResponse(options)


@require_POST
@person_page
@proved_page
def passkey_new(request: HttpRequest) -> HttpResponse:
    person, state = _person(request), request.session.pop(_NEW_PASSKEY_KEY, None)
    answer = signin.json_of(request)
    try:
        if state is None or answer is None:
            raise Refused(gettext("This passkey was not accepted. Try again."), reason="passkey_refused")
        had_codes = factors.recovery_codes_left(person) > 0
        made = factors.add_passkey(
            person,
            name=request.GET.get("name", ""),
            answer=answer,
            state=state,
            site=entering.site_of(request),
            actor=entering.actor_of(request),
        )
    except Refused as refusal:
        return JsonResponse({"sentence": refusal.sentence}, status=400)
    sentence = str(PASSKEY_ADDED).format(name=made.name)
    signin.tell_of_change(request, person, sentence)
    tell(request, sentence)
    if not had_codes:
        _show_codes(request, person)
    return JsonResponse({"go": reverse("security" if had_codes else "codes")})


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
@proved_page
def passkey_remove(request: HttpRequest, passkey_id: UUID) -> HttpResponse:
    person = _person(request)
    found = Passkey.objects.filter(user=person, pk=passkey_id).first()
    if found is None:
        raise Http404
    if request.method == "POST":
        factors.remove_passkey(person, passkey_id, actor=entering.actor_of(request))
        sentence = str(PASSKEY_REMOVED).format(name=found.name)
        signin.tell_of_change(request, person, sentence)
        tell(request, sentence)
        return redirect("security")
    others = Passkey.objects.filter(user=person).exclude(pk=passkey_id)
    has_app = OneTimePassword.objects.filter(user=person).exists()
    question = gettext("Remove the passkey “{name}”?").format(name=found.name)
    return _ask_removal(request, person, question, others, has_app=has_app)


def _ask_removal(
    request: HttpRequest, person: User, question: str, passkeys_left: object, *, has_app: bool = False
) -> HttpResponse:
    is_last = not has_app and not passkeys_left.exists()  # type: ignore[attr-defined]
    context = {
        "section": "security",
        "question": question,
        "is_last": is_last,
        "demanding": _demanding(person) if is_last else [],
    }
    return render(request, "me/remove_factor.html", context)


# ---------------------------------------------------------------- signed-in browsers


@require_POST
@person_page
def end_session(request: HttpRequest, browser_id: UUID) -> HttpResponse:
    try:
        browsers.end(_person(request), browser_id, actor=entering.actor_of(request))
    except NotFound as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("That browser is signed out."))
    return redirect("security")


@require_POST
@person_page
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    browsers.end_others(_person(request), but=request.session.session_key, actor=entering.actor_of(request))
    tell(request, gettext("All other browsers are signed out."))
    return redirect("security")


# ---------------------------------------------------------------- small parts


def _demanding(person: User) -> list[str]:
    """Names of the person's tenants that demand a second factor."""
    found = Membership.objects.filter(user=person, tenant__requires_two_factors=True).exclude(tenant__state="closed")
    return list(found.order_by("tenant__name").values_list("tenant__name", flat=True))


def _browser(row: SignedInBrowser, request: HttpRequest) -> Browser:
    return Browser(
        row,
        browser_name(row.browser),
        METHODS.get(row.method, ""),
        browsers.is_of(row, request.session.session_key),
    )


_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def browser_name(user_agent: str) -> str:
    """As people call it, from a field in which every browser claims to be several others; else the field itself."""
    browser = next((name for sign, name in _BROWSERS if f"{sign}/" in user_agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    return " · ".join(filter(None, (browser, system))) or user_agent[:60] or "?"


def _qr(text: str) -> tuple[str, int]:
    """The path of an SVG image, one unit a module, and its size with the quiet zone of four modules (ISO/IEC 18004)."""
    code = qrcode.QRCode(border=4, error_correction=qrcode.constants.ERROR_CORRECT_M)
    code.add_data(text)
    matrix = code.get_matrix()
    path = "".join(f"M{x} {y}h1v1h-1z" for y, line in enumerate(matrix) for x, is_dark in enumerate(line) if is_dark)
    return path, len(matrix)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
