"""Acting for a member: asked for with a reason and a fresh proof of who one is; ended with a button on every page."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts import acting
from accounts.models import Tenant
from accounts.refusals import Refused
from relayweb.console import acting as session
from relayweb.console import entering
from relayweb.console.access import found_tenant, operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.forms import ConsoleForm, tell
from relayweb.console.words import ROLES, fill

SECTION = "operator-tenants"
PROVED_WITHIN_SECONDS = 5 * 60


class ActForm(ConsoleForm):
    member = forms.ChoiceField(label=_("Member"))
    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("The tenant reads it."))

    def __init__(self, tenant: Tenant, data: object = None) -> None:
        super().__init__(data)
        self.fields["member"].choices = [  # type: ignore[attr-defined]
            (str(one.pk), fill(gettext("{who} ({role})"), who=one.user.email, role=ROLES[one.role]))  # type: ignore[index]
            for one in acting.members_of(tenant)
        ]


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def begin(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    if not entering.is_proved(request, within_seconds=PROVED_WITHIN_SECONDS):
        return redirect(f"{reverse('prove')}?{urlencode({'next': request.path})}")
    form = ActForm(tenant, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            member, until = acting.begin(
                tenant, UUID(form.cleaned_data["member"]), reason=form.cleaned_data["reason"], actor=actor_of(request)
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            session.begin(request, member, until=until)
            return redirect("overview", slug=tenant.slug)
    question = Question(
        section=SECTION,
        title=gettext("Act for a member of “{name}”?").format(name=tenant.name),
        button=gettext("Act for the member"),
        up=reverse("operator-tenant", kwargs={"slug": tenant.slug}),
        above=tenant.name,
        here=gettext("Act for a member"),
        effects=[
            gettext("For 30 minutes you see the tenant's pages as the member does; a banner says so on every page."),
            gettext(
                "The tenant's audit log has your name, the member's name and your reason, for this and for each change."
            ),
            gettext("Credentials, secrets, members and settings are closed to you."),
            gettext("The tenant permits it: you see subjects and contents of mail.")
            if tenant.lets_operators_read
            else gettext("Subjects and contents of mail are hidden: the tenant does not permit it."),
            gettext("You can end it at any time."),
        ],
    )
    return ask(request, question, form)


@operator_page
@require_POST
def end(request: HttpRequest) -> HttpResponse:
    found = session.of(request)
    if found is None:
        return redirect("operator-tenants")
    tenant = Tenant.objects.filter(pk=UUID(found.tenant_id)).first()
    member = acting.find_member(tenant, UUID(found.member_id)) if tenant else None
    session.end(request)
    if tenant is None:
        return redirect("operator-tenants")
    if member is not None:
        acting.end(tenant, member, actor=actor_of(request))
    tell(request, gettext("You act for nobody any more."))
    return redirect("operator-tenant", slug=tenant.slug)
