"""Who belongs to a tenant, and who is invited: roles, removal, hand-over, and the second factor that a tenant asks for."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations, memberships
from accounts.models import Invitation, Membership, Role
from accounts.refusals import NotFound, Refused
from relayweb.console import words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.entering import proved_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.invitation_letters import send_invitation


class InviteForm(ConsoleForm):
    email = forms.CharField(
        label=_("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(label=_("Role"), widget=forms.RadioSelect, initial=Role.DEVELOPER.value)

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = _role_choices(seat)  # type: ignore[attr-defined]


class RoleForm(ConsoleForm):
    role = forms.ChoiceField(label=_("Role"), widget=forms.RadioSelect)

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = _role_choices(seat)  # type: ignore[attr-defined]


class TransferForm(ConsoleForm):
    member = forms.ChoiceField(label=_("New owner"))

    def __init__(self, others: list[Membership], *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["member"].choices = [  # type: ignore[attr-defined]
            (str(one.id), f"{one.user.get_full_name()} ({words.ROLES[Role(one.role)]})") for one in others
        ]


@dataclass(frozen=True, slots=True)
class Line:
    member: Membership
    role: words.Text
    is_you: bool
    may_change: bool


@dataclass(frozen=True, slots=True)
class Open:
    invitation: Invitation
    role: words.Text
    is_over: bool


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat) -> HttpResponse:
    found = memberships.members_of(seat.tenant)
    now = timezone.now()
    lines = [
        Line(
            one,
            words.ROLES[Role(one.role)],
            one.user_id == seat.person.pk,
            seat.may_manage and seat.role.includes(Role(one.role)) and one.user_id != seat.person.pk,
        )
        for one in found
    ]
    context = {
        "section": "team",
        "lines": lines,
        "without_factor": [one.user for one in found if not one.user.has_second_factor],
        "invited": [
            Open(one, words.ROLES[Role(one.role)], one.expires_at <= now)
            for one in invitations.open_invitations(seat.tenant)
        ],
        "is_owner": seat.role == Role.OWNER,
        "is_only_owner": seat.role == Role.OWNER and sum(one.role == Role.OWNER for one in found) == 1,
        "me": next(one for one in found if one.user_id == seat.person.pk),
        "roles": [(words.ROLES[role], words.RIGHTS[role]) for role in Role],
    }
    return render(request, "console/team/team.html", context)


# ---------------------------------------------------------------- invitations


@tenant_page(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def invite(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = InviteForm(seat, request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            made = invitations.invite(
                seat.tenant, email=given["email"], role=given["role"], by=_own(seat), actor=seat.actor
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            send_invitation(made)
            tell(request, gettext("An invitation was sent to {email}.").format(email=made.email))
            return redirect("team", slug=seat.tenant.slug)
    context = {"section": "team", "form": form, "rights": _rights()}
    return render(request, "console/team/invite.html", context)


@tenant_page(Role.ADMIN)
@require_POST
def send_again(request: HttpRequest, seat: Seat, invitation_id: UUID) -> HttpResponse:
    found = _invitation(seat, invitation_id)
    try:
        memberships.ensure_may_give(_own(seat), memberships.checked_role(found.role))
        made = invitations.send_again(found, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        send_invitation(made)
        tell(request, gettext("An invitation was sent to {email}.").format(email=made.email))
    return redirect("team", slug=seat.tenant.slug)


@tenant_page(Role.ADMIN)
@require_POST
def withdraw(request: HttpRequest, seat: Seat, invitation_id: UUID) -> HttpResponse:
    found = _invitation(seat, invitation_id)
    try:
        invitations.withdraw(found, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        sentence = gettext("The invitation for {email} is withdrawn; its link no longer works.")
        tell(request, sentence.format(email=found.email))
    return redirect("team", slug=seat.tenant.slug)


def _invitation(seat: Seat, key: UUID) -> Invitation:
    try:
        return invitations.find(seat.tenant, key)
    except NotFound:
        raise Http404 from None


# ---------------------------------------------------------------- members


@tenant_page(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def role(request: HttpRequest, seat: Seat, member_id: UUID) -> HttpResponse:
    member = _member(seat, member_id)
    form = RoleForm(seat, request.POST or None, initial={"role": member.role})
    if request.method == "POST" and form.is_valid():
        try:
            changed = memberships.change_role(member, form.cleaned_data["role"], by=_own(seat), actor=seat.actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            sentence = gettext("{person} is now: {role}.")
            tell(request, sentence.format(person=member.user.get_full_name(), role=words.ROLES[Role(changed.role)]))
            return redirect("team", slug=seat.tenant.slug)
    context = {"section": "team", "form": form, "member": member, "rights": _rights()}
    return render(request, "console/team/role.html", context)


@tenant_page()
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, seat: Seat, member_id: UUID) -> HttpResponse:
    """Oneself, which every role may, or somebody else."""
    member = _member(seat, member_id)
    is_you = member.user_id == seat.person.pk
    if not is_you and not seat.may_manage:
        raise Http404
    if request.method == "POST":
        try:
            memberships.remove(member, by=_own(seat), actor=seat.actor)
        except Refused as refusal:
            tell_refusal(request, refusal)
            return redirect("team", slug=seat.tenant.slug)
        if is_you:
            tell(request, gettext("You have left “{tenant}”.").format(tenant=seat.tenant.name))
            return redirect("tenants")
        tell(request, gettext("{person} is no member any more.").format(person=member.user.get_full_name()))
        return redirect("team", slug=seat.tenant.slug)
    return render(request, "console/team/remove.html", {"section": "team", "member": member, "is_you": is_you})


@tenant_page(Role.OWNER)
@proved_page
@require_http_methods(["GET", "HEAD", "POST"])
def transfer(request: HttpRequest, seat: Seat) -> HttpResponse:
    others = [
        one for one in memberships.members_of(seat.tenant) if one.user_id != seat.person.pk and one.user.is_active
    ]
    form = TransferForm(others, request.POST or None)
    if request.method == "POST" and form.is_valid():
        heir = next(one for one in others if str(one.id) == form.cleaned_data["member"])
        try:
            memberships.transfer(seat.tenant, to=heir, by=_own(seat), actor=seat.actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("{person} owns the tenant now.").format(person=heir.user.get_full_name()))
            return redirect("team", slug=seat.tenant.slug)
    return render(request, "console/team/transfer.html", {"section": "team", "form": form, "others": others})


@tenant_page(Role.ADMIN)
@require_POST
def two_factors(request: HttpRequest, seat: Seat) -> HttpResponse:
    required = request.POST.get("required") == "on"
    try:
        memberships.require_two_factors(seat.tenant, required, by=seat.person, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(
            request,
            gettext("Every member now needs a second factor.")
            if required
            else gettext("A second factor is up to each member again."),
        )
    return redirect("team", slug=seat.tenant.slug)


# ---------------------------------------------------------------- small parts


def _member(seat: Seat, key: UUID) -> Membership:
    try:
        return memberships.find(seat.tenant, key)
    except NotFound:
        raise Http404 from None


def _own(seat: Seat) -> Membership:
    assert seat.membership is not None
    return seat.membership


def _role_choices(seat: Seat) -> list[tuple[str, words.Text]]:
    """Nobody gives more than they have."""
    return [(role.value, words.ROLES[role]) for role in Role if seat.role.includes(role)]


def _rights() -> list[tuple[words.Text, words.Text]]:
    return [(words.ROLES[role], words.RIGHTS[role]) for role in Role]
