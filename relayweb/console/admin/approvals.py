"""Tenants that wait for an operator's word, with what is known of them."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from accounts import tenants
from accounts.audit import Actor
from accounts.models import User
from accounts.refusals import NotFound, Refused
from relayweb.console.access import operator_page
from relayweb.console.entering import peer_of
from relayweb.console.forms import tell, tell_refusal


@require_safe
@operator_page
def page(request: HttpRequest) -> HttpResponse:
    waiting = [(tenant, tenants.owners_of(tenant)) for tenant in tenants.waiting_for_approval()[:50]]
    return render(request, "console/admin/approvals.html", {"section": "approvals", "waiting": waiting})


@require_POST
@operator_page
def decide(request: HttpRequest, slug: str) -> HttpResponse:
    """``approve`` or ``decline``: declining closes the tenant, with the reason, and can be taken back."""
    assert isinstance(request.user, User)
    actor = Actor.person(request.user, peer_address=peer_of(request))
    try:
        tenant = tenants.find_tenant(slug)
        if not tenant.awaits_approval:
            raise Http404
        if request.POST.get("decision") == "approve":
            tenants.approve_tenant(tenant, actor=actor)
            tell(request, gettext("“{name}” is approved; its people are told.").format(name=tenant.name))
        else:
            tenants.close_tenant(tenant, actor=actor, reason=request.POST.get("reason", "")[:500])
            tell(request, gettext("“{name}” is declined and closed.").format(name=tenant.name))
    except NotFound:
        raise Http404 from None
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-approvals")
