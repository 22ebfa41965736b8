"""Tenants as operators see them: volume, rates and limits; approving, pausing and resuming. Nothing of their mail."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, quotas, tenants, trust
from accounts.models import Credential, Tenant, TenantState
from accounts.refusals import Refused
from delivery import operations, pools
from delivery.models import Brake, DomainState, ProviderDataKind, SendingDomain, Stream
from delivery.models.source import DEFAULT_POOL
from delivery.provider_data import imports
from delivery.reputation import senders
from relayweb.console import domain_lists, score_words
from relayweb.console.access import found_tenant, operator_page
from relayweb.console.admin import provider_data
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.admin.audit import masked
from relayweb.console.admin.brakes import LevelForm
from relayweb.console.admin.labels import TENANT_STATES, Change
from relayweb.console.forms import ConsoleForm, tell, tell_refusal

SECTION = "operator-tenants"
CHANGES_SHOWN = 20
DOMAINS_SHOWN = 100
CREDENTIALS_SHOWN = 10
PROVED = (DomainState.VERIFIED, DomainState.LAPSED)


class LimitsForm(ConsoleForm):
    hourly_limit = forms.IntegerField(label=_("Recipients an hour"), required=False, min_value=0)
    daily_limit = forms.IntegerField(label=_("Recipients a day"), required=False, min_value=0)
    monthly_limit = forms.IntegerField(label=_("Recipients a month"), required=False, min_value=0)
    rate_per_second = forms.FloatField(label=_("Recipients a second"), required=False, min_value=0.001)
    max_recipients = forms.IntegerField(label=_("Recipients of one message"), required=False, min_value=1)
    max_message_bytes = forms.IntegerField(label=_("Octets of one message"), required=False, min_value=1)


class StepForm(ConsoleForm):
    step = forms.ChoiceField(label=_("Step of the trust ladder"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        steps = [
            (str(place), gettext("{n}: {daily} a day").format(n=place + 1, daily=f"{step.daily:,}"))
            for place, step in enumerate(trust.STEPS)
        ]
        self.fields["step"].choices = [  # type: ignore[attr-defined]
            ("", gettext("off the ladder: the daily limit stays as it is")),
            *steps,
            (str(len(trust.STEPS)), gettext("at its end: no daily limit")),
        ]


class SuspendForm(ConsoleForm):
    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("The tenant reads it."))


@operator_page
@require_safe
def tenant_list(request: HttpRequest) -> HttpResponse:
    query = request.GET.get("q", "").replace("\0", "").strip()[:120]
    state = request.GET.get("state", "")
    state = state if state in {*TenantState.values, "approval"} else ""
    after = request.GET.get("after", "").replace("\0", "")[:48]
    lines, following = operations.tenants_page(query=query, state=state, after=after)
    scores = senders.latest_of_tenants(line.tenant.pk for line in lines)
    asked = {"q": query, "state": state}
    context = {
        "section": SECTION,
        "lines": [
            (line, TENANT_STATES[line.tenant.state], _level(line.tenant), scores.get(line.tenant.pk)) for line in lines
        ],
        "waiting": Tenant.objects.filter(awaits_approval=True).exclude(state=TenantState.CLOSED).count(),
        "number": Tenant.objects.exclude(state=TenantState.CLOSED).count(),
        "query": query,
        "state": state,
        "states": TENANT_STATES,
        "is_narrowed": bool(query or state),
        "encoded": urlencode({name: value for name, value in asked.items() if value}),
        "after": following,
        "days": operations.RATES_OF.days,
    }
    return render(request, "console/admin/tenants/list.html", context)


@operator_page
@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    return _page(request, found_tenant(slug))


def _page(
    request: HttpRequest, tenant: Tenant, *, limits: LimitsForm | None = None, step: StepForm | None = None
) -> HttpResponse:
    (line,) = operations.tenant_lines([tenant])
    own = {name: getattr(tenant, name) for name in quotas.LIMITS}
    changes = audit.page_of(tenant, audit.Search(), size=CHANGES_SHOWN)
    context = {
        "section": SECTION,
        "tenant": tenant,
        "mark": TENANT_STATES[tenant.state],
        "line": line,
        "level": _level(tenant),
        "owners": tenants.owners_of(tenant),
        "streams": list(Stream.objects.of(tenant).select_related("pool").order_by("name")),
        "own_pools": _credentials_with_pools(tenant),
        "default_pool": DEFAULT_POOL,
        "days": operations.RATES_OF.days,
        "limits": limits or LimitsForm(initial=own),
        "step": step or StepForm(initial={"step": "" if tenant.trust_level is None else str(tenant.trust_level)}),
        "failed": next((form for form in (limits, step) if form is not None and form.errors), None),
        "score": senders.latest(tenant),
        "brakes": Brake.objects.of(tenant).filter(ended_at=None).count(),
        "brake_level": LevelForm(initial={"level": tenant.brake_level}),
        "changes": [Change(masked(entry)) for entry in changes.rows],
    }
    return render(request, "console/admin/tenants/page.html", context)


def _credentials_with_pools(tenant: Tenant) -> list[tuple[Credential, str]]:
    """The newest of those whose mail does not leave as their streams'."""
    found = Credential.objects.of(tenant).filter(revoked_at=None, pool_id__isnull=False).order_by("-id")
    rows = list(found[:CREDENTIALS_SHOWN])
    names = pools.pools_of_credentials(rows)
    return [(row, names[row.pool_id]) for row in rows if row.pool_id in names]


@operator_page
@require_safe
def score(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    found = score_words.shown(tenant)
    after = request.GET.get("after", "").replace("\0", "")[:255]
    domains = SendingDomain.objects.of(tenant).filter(state__in=PROVED, name__gt=after).order_by("name")
    rows, scores = list(domains[: DOMAINS_SHOWN + 1]), senders.latest_of_domains(tenant)
    context = {
        "section": SECTION,
        "tenant": tenant,
        "title": gettext("Score of {name}").format(name=tenant.name),
        "answer": _answer_of_score(found),
        "score": found,
        "domains": [(one, scores.get(one.pk)) for one in rows[:DOMAINS_SHOWN]],
        "further": rows[DOMAINS_SHOWN - 1].name if len(rows) > DOMAINS_SHOWN else "",
    }
    return render(request, "console/admin/tenants/score.html", context)


@operator_page
@require_safe
def domain_page(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    tenant = found_tenant(slug)
    domain = SendingDomain.objects.of(tenant).filter(name=name.replace("\0", ""), state__in=PROVED).first()
    if domain is None:
        raise Http404
    found = score_words.shown(tenant, domain)
    context = {
        "section": SECTION,
        "tenant": tenant,
        "domain": domain,
        "title": domain.name,
        "answer": _answer_of_score(found),
        "score": found,
        "listings": domain_lists.listings_of(domain),
        "provider": provider_data.KINDS[ProviderDataKind.GOOGLE],
        "heads": provider_data.GOOGLE_HEADS,
        "own_heads": provider_data.GOOGLE_OWN,
        "days": provider_data.google_lines(imports.of_domain(domain)),
    }
    return render(request, "console/admin/tenants/domain.html", context)


def _answer_of_score(found: score_words.Shown) -> str:
    if found.row is None:
        return gettext("Too little was sent for a score.")
    said = gettext("{score} of 100.").format(score=found.row.score)
    return f"{said} {found.raises[0]}" if found.raises else said


@operator_page
@require_POST
def limits(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    form = LimitsForm(request.POST)
    if form.is_valid():
        changes = {name: value for name, value in form.cleaned_data.items() if getattr(tenant, name) != value}
        try:
            if changes:
                quotas.set_limits(tenant, changes, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The limits count from now on."))
            return redirect("operator-tenant", slug=tenant.slug)
    return _page(request, tenant, limits=form)


@operator_page
@require_POST
def step(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    form = StepForm(request.POST)
    if form.is_valid():
        chosen = form.cleaned_data["step"]
        try:
            trust.set_step(tenant, int(chosen) if chosen else None, actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The step is set, and the daily limit with it."))
            return redirect("operator-tenant", slug=tenant.slug)
    return _page(request, tenant, step=form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def suspend(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    form = SuspendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            tenants.suspend_tenant(tenant, reason=form.cleaned_data["reason"], actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("“{name}” is paused; its people are told.").format(name=tenant.name))
            return redirect("operator-tenant", slug=tenant.slug)
    (line,) = operations.tenant_lines([tenant])
    question = Question(
        section=SECTION,
        title=gettext("Pause “{name}”?").format(name=tenant.name),
        button=gettext("Pause"),
        up=reverse("operator-tenant", kwargs={"slug": tenant.slug}),
        above=tenant.name,
        here=gettext("Pause"),
        effects=[
            gettext("New mail is put off with 450, within seconds; senders try again, and nothing is lost."),
            ngettext(
                "{n} recipient that was taken is kept, and not sent before you resume.",
                "{n} recipients that were taken are kept, and not sent before you resume.",
                line.open,
            ).format(n=f"{line.open:,}"),
            gettext("You can resume it at any time."),
        ],
        is_dangerous=True,
    )
    return ask(request, question, form)


@operator_page
@require_POST
def resume(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    try:
        tenants.resume_tenant(tenant, actor=actor_of(request))
        tell(request, gettext("“{name}” sends again.").format(name=tenant.name))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-tenant", slug=tenant.slug)


def _level(tenant: Tenant) -> str:
    if tenant.trust_level is None:
        return ""
    found = trust.step_of(tenant)
    if found is None:
        return gettext("at its end")
    return gettext("{n} of {all}").format(n=tenant.trust_level + 1, all=len(trust.STEPS))
