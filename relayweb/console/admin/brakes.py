"""All brakes: what is pulled and why, what tenants write about it, and letting go or keeping it, with an answer they read."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Credential, Tenant
from accounts.refusals import NotFound, Refused
from delivery.brakes import evidence, pulling
from delivery.brakes.levels import Level
from delivery.models import Brake
from relayweb.console.access import found_tenant, operator_page
from relayweb.console.admin.asking import Question, actor_of, ask
from relayweb.console.brakes import PAGE_SIZE, STEPS, Shown, shown, with_appeals
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.keysets import key_of

SECTION = "operator-brakes"
LEVELS = {
    "": _("as the installation has it"),
    Level.NONE.value: _("none: no brakes at all"),
    Level.STANDARD.value: _("standard"),
    Level.STRICT.value: _("strict: at half the shares"),
}


class AnswerForm(ConsoleForm):
    answer = forms.CharField(
        label=_("Answer"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("The tenant reads it."),
    )


class PullForm(ConsoleForm):
    step = forms.ChoiceField(label=_("What it does"), choices=[(key, mark.label) for key, mark in STEPS.items()])
    credential = forms.ChoiceField(label=_("Whose mail"), required=False)
    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("The tenant reads it."))

    def __init__(self, tenant: Tenant, data: object = None) -> None:
        super().__init__(data)
        known = Credential.objects.of(tenant).filter(revoked_at=None).order_by("-created_at")[:200]
        self.fields["credential"].choices = [  # type: ignore[attr-defined]
            ("", gettext("all of the tenant's")),
            *((str(one.pk), one.name) for one in known),
        ]


class LevelForm(ConsoleForm):
    level = forms.ChoiceField(label=_("How strictly brakes watch it"), required=False, choices=list(LEVELS.items()))


@operator_page
@require_safe
def brake_list(request: HttpRequest) -> HttpResponse:
    is_past = request.GET.get("state") == "ended"
    found = with_appeals(Brake.objects.filter(ended_at__isnull=not is_past)).order_by("-id")
    slug = request.GET.get("tenant", "").replace("\0", "")[:48]
    if slug:
        found = found.filter(tenant__slug=slug)
    if (before := key_of(request)) is not None:
        found = found.filter(pk__lt=before)
    rows = list(found[: PAGE_SIZE + 1])
    lines = shown(rows[:PAGE_SIZE])
    context = {
        "section": SECTION,
        "lines": lines,
        "is_past": is_past,
        "slug": slug,
        "number": Brake.objects.filter(ended_at=None).count(),
        "waiting": Brake.objects.filter(appeals__answered_at=None, appeals__isnull=False, ended_at=None).count(),
        "older": rows[PAGE_SIZE - 1].pk if len(rows) > PAGE_SIZE else None,
    }
    return render(request, "console/admin/brakes/list.html", context)


@operator_page
@require_safe
def page(request: HttpRequest, brake_id: UUID) -> HttpResponse:
    brake = _found(brake_id)
    appeals = list(brake.appeals.order_by("-id")[:20])
    one = Shown(brake, next((appeal for appeal in appeals if appeal.answered_at is None), None))
    samples = evidence.without_addresses(brake.evidence).get("samples", [])
    context = {"section": SECTION, "one": one, "appeals": appeals, "samples": samples}
    return render(request, "console/admin/brakes/page.html", context)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def release(request: HttpRequest, brake_id: UUID) -> HttpResponse:
    brake = _found(brake_id)
    form = AnswerForm(request.POST or None)
    form.fields["answer"].required = False
    if request.method == "POST" and form.is_valid():
        try:
            pulling.release(brake, answer=form.cleaned_data["answer"], actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The brake is let go; what was held is sent in turn."))
            return redirect("operator-brake", brake_id=brake.pk)
    question = Question(
        section=SECTION,
        title=gettext("Let the brake of “{name}” go?").format(name=brake.credential_name or brake.tenant.name),
        button=gettext("Let go"),
        up=reverse("operator-brake", kwargs={"brake_id": brake.pk}),
        above=brake.tenant.name,
        here=gettext("Let go"),
        effects=[
            gettext("What was held is sent in turn, beginning at once."),
            gettext("For a day, the same rule needs three times the share to pull again."),
            gettext("You can pull a brake again from the tenant's page at any time."),
        ],
    )
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def refuse(request: HttpRequest, brake_id: UUID) -> HttpResponse:
    brake = _found(brake_id)
    waiting = brake.appeals.filter(answered_at=None).select_related("tenant", "brake").first()
    if waiting is None:
        raise Http404
    form = AnswerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            pulling.refuse(waiting, answer=form.cleaned_data["answer"], actor=actor_of(request))
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The tenant is told; the brake stays pulled."))
            return redirect("operator-brake", brake_id=brake.pk)
    question = Question(
        section=SECTION,
        title=gettext("Keep the brake of “{name}” pulled?").format(name=brake.credential_name or brake.tenant.name),
        answer=waiting.text,
        button=gettext("Keep it pulled"),
        up=reverse("operator-brake", kwargs={"brake_id": brake.pk}),
        above=brake.tenant.name,
        here=gettext("Answer"),
        effects=[gettext("The tenant reads your answer, and may ask again."), gettext("Mail stays as it is.")],
    )
    return ask(request, question, form)


@operator_page
@require_http_methods(["GET", "HEAD", "POST"])
def pull(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    form = PullForm(tenant, request.POST or None)
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data["credential"]
        credential = Credential.objects.of(tenant).get(pk=chosen) if chosen else None
        try:
            brake = pulling.pull_by_hand(
                tenant, step=form.cleaned_data["step"], reason=form.cleaned_data["reason"], actor=actor_of(request),
                credential=credential,
            )  # fmt: skip
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("The brake is pulled; its people are told."))
            return redirect("operator-brake", brake_id=brake.pk)
    question = Question(
        section=SECTION,
        title=gettext("Pull a brake on “{name}”?").format(name=tenant.name),
        button=gettext("Pull the brake"),
        up=reverse("operator-tenant", kwargs={"slug": tenant.slug}),
        above=tenant.name,
        here=gettext("Pull a brake"),
        effects=[mark.sentence for mark in STEPS.values()] + [gettext("You can let it go at any time.")],
        is_dangerous=True,
    )
    return ask(request, question, form)


@operator_page
@require_POST
def level(request: HttpRequest, slug: str) -> HttpResponse:
    tenant = found_tenant(slug)
    form = LevelForm(request.POST)
    try:
        if form.is_valid():
            pulling.set_level(tenant, form.cleaned_data["level"], actor=actor_of(request))
            tell(request, gettext("The level of brakes is set."))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("operator-tenant", slug=tenant.slug)


def _found(brake_id: UUID) -> Brake:
    try:
        return pulling.find(brake_id)
    except NotFound:
        raise Http404 from None
