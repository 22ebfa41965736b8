"""Where a person goes first: the tenant they belong to, the list to choose from, or the form that makes one."""

from __future__ import annotations

from datetime import datetime

from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Invitation, Membership, Role, Tenant, TenantState, User
from accounts.refusals import Refused
from delivery import closing
from delivery.tenants import open_tenant
from relayweb.console import entering
from relayweb.console.access import person_page
from relayweb.console.forms import ConsoleForm, tell

# One person has a few tenants at most; more are made by an operator.
MOST_OWNED = 5


class TenantForm(ConsoleForm):
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Of your company, team or project."))
    slug = forms.CharField(
        label=_("Short name"),
        max_length=40,
        required=False,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("Part of addresses and user names, such as “acme”; it stays. Empty: made from the name."),
    )


@require_safe
@person_page
def home(request: HttpRequest) -> HttpResponse:
    slugs = list(_memberships(request).values_list("tenant__slug", flat=True)[:2])
    if len(slugs) == 1:
        return redirect("overview", slug=slugs[0])
    if not slugs and getattr(request.user, "is_operator", False):
        return redirect("operator-health")
    return redirect("tenants")


@require_safe
@person_page
def choose(request: HttpRequest) -> HttpResponse:
    context = {
        "section": "tenants",
        "closed": _closed(request),
        "places": list(_memberships(request)),
        "may_open": _may_open(request),
        "has_invitation": _has_invitation(request),
    }
    return render(request, "console/tenants.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@person_page
def new(request: HttpRequest) -> HttpResponse:
    """A person's own tenant; by approval it writes to its members only until an operator has agreed."""
    if not _may_open(request):
        raise Http404
    assert isinstance(request.user, User)
    person, form = request.user, TenantForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            if _owned(person) >= MOST_OWNED:
                raise Refused(
                    gettext("You own {n} tenants already; ask the operator for more.").format(n=MOST_OWNED),
                    reason="too_many",
                )
            tenant, _owner = open_tenant(
                given["name"],
                owner_email=person.email,
                actor=entering.actor_of(request),
                slug=given["slug"].strip().lower(),
                language=get_language() or "en",
                time_zone=person.time_zone or settings.TIME_ZONE,
                by_themselves=True,
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("“{name}” is ready.").format(name=tenant.name))
            return redirect("start", slug=tenant.slug)
    context = {"section": "tenants", "form": form, "is_by_approval": settings.SIGNUP == "approval"}
    return render(request, "console/new_tenant.html", context)


def _closed(request: HttpRequest) -> list[tuple[Tenant, datetime]]:
    """Tenants of an owner that are closed and not erased, each with the day on which it will be."""
    found = Membership.objects.select_related("tenant").filter(
        user=request.user.pk, role=Role.OWNER, tenant__state=TenantState.CLOSED, tenant__erased_at=None
    )
    return [
        (one.tenant, one.tenant.closed_at + closing.ERASED_AFTER)
        for one in found.order_by("tenant__name")
        if one.tenant.closed_at is not None
    ]


def _may_open(request: HttpRequest) -> bool:
    return settings.SIGNUP != "invitation"


def _owned(person: User) -> int:
    return Membership.objects.filter(user=person, role=Role.OWNER).exclude(tenant__state=TenantState.CLOSED).count()


def _has_invitation(request: HttpRequest) -> bool:
    assert isinstance(request.user, User)
    return Invitation.objects.filter(email__iexact=request.user.email, accepted_at=None, withdrawn_at=None).exists()


def _memberships(request: HttpRequest) -> QuerySet[Membership]:
    return (
        Membership.objects.select_related("tenant")
        .filter(user=request.user.pk)
        .exclude(tenant__state=TenantState.CLOSED)
        .order_by("tenant__name")
    )
