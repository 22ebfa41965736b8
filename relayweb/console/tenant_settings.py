"""The settings of a tenant, each card saved by itself; its limits and what raises them; and closing it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import acting, quotas, tenants, trust
from accounts.models import Membership, QuietStreams, Role, Tenant, TenantState
from accounts.refusals import Refused
from delivery import closing, partitions, quiet_hours, retention, suppressions, track_record
from delivery.queue import control
from relayweb.console import entering
from relayweb.console.access import Seat, person_page, tenant_page
from relayweb.console.entering import proved_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.jobs import shown_last_archive


class ProfileForm(ConsoleForm):
    name = forms.CharField(label=_("Name"), max_length=120)
    language = forms.ChoiceField(label=_("Language of notices"), choices=settings.LANGUAGES)
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        choices=lambda: [(zone, zone) for zone in sorted(available_timezones()) if "/" in zone or zone == "UTC"],
        help_text=_("For members who have chosen none."),
    )


class SuppressedForm(ConsoleForm):
    refuses = forms.ChoiceField(
        label=_("Mail to a suppressed recipient is"),
        choices=[
            ("", _("taken, and shown as suppressed")),
            ("on", _("refused at once (550), so that your program learns of it")),
        ],
        widget=forms.RadioSelect,
        required=False,
    )


class RetentionForm(ConsoleForm):
    days = forms.TypedChoiceField(
        label=_("Content is kept for"),
        coerce=int,
        choices=lambda: [
            (days, ngettext("{n} day", "{n} days", days).format(n=days)) for days in partitions.RETENTION_DAYS
        ],
        help_text=_("Of mail accepted from now on. Mail that still waits keeps its content until it has a result."),
    )


class PrivacyForm(ConsoleForm):
    keeps = forms.ChoiceField(
        label=_("After the last recipient has a result, content is"),
        choices=[("on", _("kept for as long as stated above")), ("", _("deleted within a minute"))],
        widget=forms.RadioSelect,
        required=False,
    )


class OperatorsForm(ConsoleForm):
    lets = forms.ChoiceField(
        label=_("An operator who acts for one of you, for support, sees subjects and contents of mail"),
        choices=[("", _("no")), ("on", _("yes"))],
        widget=forms.RadioSelect,
        required=False,
    )


class QuietForm(ConsoleForm):
    quiet_from = forms.TimeField(label=_("Begin"), required=False, widget=forms.TimeInput(attrs={"type": "time"}))
    quiet_until = forms.TimeField(
        label=_("End"),
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}),
        help_text=_("In the tenant's time zone. Both empty: no quiet hours."),
    )
    quiet_streams = forms.ChoiceField(
        label=_("For"),
        choices=[(QuietStreams.BULK.value, _("bulk streams")), (QuietStreams.ALL.value, _("all streams"))],
    )


class CloseForm(ConsoleForm):
    open_mail = forms.ChoiceField(
        label=_("Mail that still waits"),
        choices=[("deliver", _("is still delivered")), ("cancel", _("is cancelled"))],
        widget=forms.RadioSelect,
        initial="deliver",
    )
    slug = forms.CharField(
        label=_("Short name of the tenant, to be sure"),
        max_length=48,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )


@dataclass(frozen=True, slots=True)
class Limit:
    period: str
    used: int
    limit: int | None


@tenant_page(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, seat: Seat) -> HttpResponse:
    tenant, card = seat.tenant, request.POST.get("card", "")
    cards = _cards(tenant, card, request.POST)
    form = cards.get(card)
    if form is not None and form.is_valid():
        try:
            _save(card, form.cleaned_data, seat)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Saved."))
            return redirect("settings", slug=tenant.slug)
    context = {
        "section": "settings",
        **cards,
        "failed": form if form is not None and form.errors else None,
        "limits": _limits(tenant),
        "is_owner": seat.role == Role.OWNER,
        "erased_after": closing.ERASED_AFTER.days,
        **_ladder(tenant),
    }
    return render(request, "console/settings/settings.html", context)


def _cards(tenant: Tenant, posted_card: str, post: QueryDict) -> dict[str, ConsoleForm]:
    """The form of each card: as posted where it is the one that was, otherwise as things stand."""
    standing: dict[str, tuple[type[ConsoleForm], dict[str, object]]] = {
        "profile": (
            ProfileForm,
            {"name": tenant.name, "language": tenant.language, "time_zone": tenant.time_zone},
        ),
        "suppressed": (SuppressedForm, {"refuses": "on" if tenant.refuses_suppressed else ""}),
        "retention": (RetentionForm, {"days": tenant.content_retention_days}),
        "privacy": (PrivacyForm, {"keeps": "on" if tenant.keeps_content_after_delivery else ""}),
        "operators": (OperatorsForm, {"lets": "on" if tenant.lets_operators_read else ""}),
        "quiet": (
            QuietForm,
            {
                "quiet_from": tenant.quiet_from and f"{tenant.quiet_from:%H:%M}",
                "quiet_until": tenant.quiet_until and f"{tenant.quiet_until:%H:%M}",
                "quiet_streams": tenant.quiet_streams,
            },
        ),
    }
    return {card: form(post if card == posted_card else None, initial=now) for card, (form, now) in standing.items()}


def _save(card: str, chosen: dict[str, Any], seat: Seat) -> None:
    """Raises Refused."""
    tenant, actor = seat.tenant, seat.actor
    match card:
        case "profile":
            tenants.update_profile(tenant, actor=actor, **chosen)
        case "retention":
            retention.choose_retention(tenant, chosen["days"], actor=actor)
        case "privacy":
            retention.choose_privacy(tenant, keeps_content=chosen["keeps"] == "on", actor=actor)
        case "operators":
            acting.let_operators_read(tenant, chosen["lets"] == "on", actor=actor)
        case "quiet":
            quiet_hours.set_quiet_hours(
                tenant,
                begins=chosen["quiet_from"],
                ends=chosen["quiet_until"],
                streams=chosen["quiet_streams"],
                actor=actor,
            )
        case "suppressed":
            suppressions.set_refusing(tenant, chosen["refuses"] == "on", actor=actor)


@tenant_page()
@require_safe
def usage_by_month(request: HttpRequest, seat: Seat) -> HttpResponse:
    """For the books: one line a month, as CSV."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-{seat.tenant.slug}.csv"'
    writer = csv.writer(response)
    writer.writerow(("month", "recipients_accepted"))
    writer.writerows((f"{month.astimezone(UTC):%Y-%m}", used) for month, used in quotas.months_of(seat.tenant))
    return response


@tenant_page(Role.OWNER)
@proved_page
@require_http_methods(["GET", "HEAD", "POST"])
def close(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = CloseForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            if form.cleaned_data["slug"].strip() != seat.tenant.slug:
                raise Refused(gettext("This is not the short name of the tenant."), reason="other_name", field="slug")
            closing.close(seat.tenant, is_cancelled=form.cleaned_data["open_mail"] == "cancel", actor=seat.actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("“{name}” is closed. Until it is erased you can open it again here.").format(
                name=seat.tenant.name
            ))  # fmt: skip
            return redirect("tenants")
    context = {
        "section": "settings",
        "form": form,
        "waiting": control.waiting(control.Which(tenant_id=seat.tenant.id)),
        "erased_on": timezone.now() + closing.ERASED_AFTER,
        "last": shown_last_archive(seat.tenant),
    }
    return render(request, "console/settings/close.html", context)


@require_POST
@person_page
def reopen(request: HttpRequest, slug: str) -> HttpResponse:
    """For its owners, until it is erased."""
    own = Membership.objects.select_related("tenant").filter(
        tenant__slug=slug, user=request.user.pk, role=Role.OWNER, tenant__state=TenantState.CLOSED
    )
    membership = own.first()
    if membership is None or membership.tenant.erased_at is not None:
        raise Http404
    try:
        tenants.resume_tenant(membership.tenant, actor=entering.actor_of(request))
    except Refused as refusal:
        tell_refusal(request, refusal)
        return redirect("tenants")
    tell(request, gettext("“{name}” is open again.").format(name=membership.tenant.name))
    return redirect("messages", slug=slug)


def _limits(tenant: Tenant) -> list[Limit]:
    limits, used = quotas.limits_of(tenant), quotas.usage_of(tenant)
    return [
        Limit(gettext("This hour"), used["hour"], limits.hourly_limit),
        Limit(gettext("Today (UTC)"), used["day"], limits.daily_limit),
        Limit(gettext("This month (UTC)"), used["month"], limits.monthly_limit),
    ]


def _ladder(tenant: Tenant) -> dict[str, object]:
    """What raises the daily limit, in figures; empty for a tenant that is not on the ladder."""
    step = trust.step_of(tenant)
    if step is None or tenant.trust_since is None or tenant.trust_level is None:
        return {"step": None}
    following = trust.STEPS[tenant.trust_level + 1].daily if tenant.trust_level + 1 < len(trust.STEPS) else None
    return {
        "step": step,
        "next_daily": following,
        "earliest": tenant.trust_since + timedelta(days=step.days),
        "record": track_record.record_of(tenant, since=tenant.trust_since),
    }
