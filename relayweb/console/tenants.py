"""Where a person goes first: the tenant they belong to, or the list to choose from."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts.models import Membership, TenantState
from relayweb.console.access import person_page


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
    return render(request, "console/tenants.html", {"section": "tenants", "places": list(_memberships(request))})


def _memberships(request: HttpRequest) -> QuerySet[Membership]:
    return (
        Membership.objects.select_related("tenant")
        .filter(user=request.user.pk)
        .exclude(tenant__state=TenantState.CLOSED)
        .order_by("tenant__name")
    )
