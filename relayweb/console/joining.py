"""Where the link of an invitation leads: a new person chooses a password, a known one signs in and agrees."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language, gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import browsers, invitations
from accounts.models import Invitation, Role, User
from accounts.refusals import NotFound, Refused
from relayweb.console import entering, words
from relayweb.console.forms import tell
from relayweb.console.signin import PasswordForm


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Looking at it accepts nothing. Whoever has the link reads the mailbox, so it may tell whether there is an account."""
    try:
        invitation = invitations.of_link(token)
        if request.user.is_authenticated:
            return _as_somebody(request, token, invitation)
        if User.objects.filter(email__iexact=invitation.email).exists():
            return _render(request, invitation, needs="sign-in")
        return _as_somebody_new(request, token, invitation)
    except NotFound:
        return render(request, "accounts/invitation_dead.html", status=404)


def _as_somebody(request: HttpRequest, token: str, invitation: Invitation) -> HttpResponse:
    assert isinstance(request.user, User)
    if request.user.email.lower() != invitation.email.lower():
        if request.method == "POST" and "sign_out" in request.POST:
            browsers.forget(request.session.session_key or "")
            logout(request)
            return redirect(request.path)
        return _render(request, invitation, needs="other-person")
    if request.method != "POST":
        return _render(request, invitation, needs="agreement")
    invitations.accept(token, user=request.user, peer_address=entering.peer_of(request))
    return _joined(request, invitation)


def _as_somebody_new(request: HttpRequest, token: str, invitation: Invitation) -> HttpResponse:
    form, refusal = PasswordForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        try:
            person = invitations.accept(
                token,
                user=None,
                password=form.cleaned_data["password"],
                language=get_language() or "",
                peer_address=entering.peer_of(request),
            )
        except NotFound:
            raise
        except Refused as error:
            refusal = error.sentence
        else:
            response = entering.enter(request, person, _place(invitation), method="link")
            _tell(request, invitation)
            return response
    return _render(request, invitation, needs="password", form=form, refusal=refusal)


def _joined(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    _tell(request, invitation)
    return redirect(_place(invitation))


def _tell(request: HttpRequest, invitation: Invitation) -> None:
    tell(request, gettext("You are now a member of “{tenant}”.").format(tenant=invitation.tenant.name))


def _place(invitation: Invitation) -> str:
    return reverse("start", kwargs={"slug": invitation.tenant.slug})


def _render(request: HttpRequest, invitation: Invitation, *, needs: str, **more: object) -> HttpResponse:
    role = Role(invitation.role)
    context = {
        "invitation": invitation,
        "inviter": invitation.invited_by.get_full_name() if invitation.invited_by else "",
        "role": words.ROLES[role],
        "rights": words.RIGHTS[role],
        "needs": needs,
        "sign_in": f"{reverse('sign-in')}?{urlencode({'next': request.path})}",
        **more,
    }
    return render(request, "accounts/join.html", context)
