"""A tenant's credentials as operators see them: what kind, when used, and the pool that mail of each leaves from."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts import credentials
from accounts.models import Credential, CredentialKind
from accounts.refusals import NotFound, Refused
from delivery import pools
from delivery.models import Stream
from relayweb.console.access import found_tenant, operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.labels import POOL_KINDS
from relayweb.console.credential_words import CREDENTIAL_KINDS
from relayweb.console.forms import ConsoleForm, tell

SECTION = "operator-tenants"
PAGE_SIZE = 50


class PoolForm(ConsoleForm):
    pool = forms.ChoiceField(
        label=_("Pool"), required=False, help_text=_("Pools dedicated to another tenant are not offered.")
    )

    def __init__(self, *args: Any, credential: Credential, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [(pool.name, f"{pool.name} ({POOL_KINDS[pool.kind]})") for pool in _offered(credential)]
        self.fields["pool"].choices = [("", gettext("as its stream")), *offered]  # type: ignore[attr-defined]


def _offered(credential: Credential) -> list[Any]:
    return pools.pools_open_to(credential.tenant)


@operator_page
@require_safe
def credential_list(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    try:
        before = UUID(request.GET.get("before", ""))
    except ValueError:
        before = None
    found = Credential.objects.of(tenant).filter(revoked_at=None).order_by("-id")
    rows = list((found.filter(pk__lt=before) if before else found)[: PAGE_SIZE + 1])
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    streams = {stream.pk: stream for stream in Stream.objects.of(tenant).select_related("pool")}
    general = next((stream for stream in streams.values() if stream.is_default), None)
    own = pools.pools_of_credentials(rows)
    context = {
        "section": SECTION,
        "tenant": tenant,
        "lines": [
            (
                row,
                CREDENTIAL_KINDS[CredentialKind(row.kind)][0],
                own.get(row.pool_id, "") if row.pool_id else "",
                streams.get(row.stream_id, general) if row.stream_id else general,
            )
            for row in rows
        ],
        "older": rows[-1].pk if more else None,
    }
    return render(request, "console/admin/tenants/credentials.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def pool(request: HttpRequest, slug: str, credential_id: UUID) -> HttpResponse:
    """Which pool new mail of this credential leaves from; an empty choice takes it back."""
    tenant = found_tenant(slug)
    try:
        credential = credentials.find_credential(credential_id, tenant=tenant)
    except NotFound:
        raise Http404 from None
    present = pools.pool_of_credential(credential)
    form = PoolForm(request.POST or None, credential=credential, initial={"pool": present.name if present else ""})
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["pool"]
        try:
            pools.assign_credential(credential, pools.find_pool(name) if name else None, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            said = (
                gettext("New mail of “{credential}” leaves from “{pool}” from now on.")
                if name
                else gettext("New mail of “{credential}” leaves as its stream's again.")
            )
            tell(request, said.format(credential=credential.name, pool=name))
            return redirect("operator-tenant-credentials", slug=tenant.slug)
    question = Question(
        section=SECTION,
        title=gettext("Pool of the credential “{name}”").format(name=credential.name),
        button=gettext("Save"),
        up=reverse("operator-tenant-credentials", kwargs={"slug": tenant.slug}),
        above=gettext("Credentials of {name}").format(name=tenant.name),
        here=credential.name,
        effects=[
            gettext("It counts within seconds, whatever pool the stream or the mail itself names."),
            gettext("What already waits stays where it is. The tenant sees the pool on the credential's page."),
        ],
    )
    return ask(request, question, form)
