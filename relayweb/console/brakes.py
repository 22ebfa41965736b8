"""A tenant's brakes: which are pulled, why, what that does, and the request for release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Role, TenantState
from accounts.refusals import NotFound, Refused
from delivery.brakes import pulling
from delivery.brakes.levels import Step
from delivery.core.classification import ReplyClass
from delivery.models import Appeal, Brake
from relayweb.console import class_words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell
from relayweb.console.keysets import key_of
from relayweb.console.words import Mark, Text

PAGE_SIZE = 50

STEPS: dict[str, Mark] = {
    Step.SLOW: Mark(
        _("Slowed"), _("Mail goes on more slowly, and at full speed again once it is clean. Nothing is lost."), "retry", "clock"
    ),
    Step.HOLD: Mark(
        _("Held"), _("New mail is taken and held with what was waiting, until a person lets go. Nothing is lost."),
        "hold", "player-pause",
    ),
    Step.PAUSE: Mark(
        _("Paused"), _("What was taken is kept; new mail is put off with 450 until a person lets go."), "fail", "player-stop"
    ),
}  # fmt: skip
ENDED = Mark(pgettext_lazy("state of a brake", "Let go"), _("This brake is not pulled any more."), "ok", "circle-check")
RULES: dict[str, Text] = {
    "bounces": _("Many bounces"),
    "credential_bounces": _("Many bounces of a credential"),
    "watched_bounces": _("Many bounces of a new credential"),
    "complaints": _("Many complaints"),
    "carrier_unknown": _("Many unknown users at a carrier"),
    "watched_unknown": _("Many unknown users of a new credential"),
    "sudden_volume": _("Sudden volume"),
    pulling.BY_HAND: _("Pulled by the operator"),
}
REMEDIES: dict[str, Text] = {
    "complaints": _("Write only to those who asked for it, and make unsubscribing easy."),
    "sudden_volume": _(
        "If this was not you, revoke the credential. If it was, tell the operator what you are sending."
    ),
    pulling.BY_HAND: _("Mend what the reason names, then ask for release."),
}
CLEAN_LIST: Text = _(
    "If this was not you, revoke the credential. If it was, take the addresses that do not exist off your list; "
    "the suppression list has them."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A brake in words."""

    brake: Brake
    waiting: Appeal | None

    @property
    def mark(self) -> Mark:
        return STEPS[self.brake.step] if self.brake.ended_at is None else ENDED

    @property
    def step(self) -> Mark:
        return STEPS[self.brake.step]

    @property
    def rule(self) -> Text:
        return RULES.get(self.brake.rule, self.brake.rule)

    @property
    def why(self) -> str:
        return pulling.sentence_of(self.brake)

    @property
    def remedy(self) -> Text:
        return REMEDIES.get(self.brake.rule, CLEAN_LIST)

    @property
    def numbers(self) -> list[tuple[Text, Any]]:
        evidence = self.brake.evidence
        if not evidence:
            return []
        if self.brake.rule == "sudden_volume":
            return [(_("Mails in an hour"), evidence["bad"]), (_("In the busiest hour before"), evidence["total"])]
        found: list[tuple[Text, Any]] = [
            (_("Of so many mails that have an end"), evidence["total"]),
            (_("Bad among them"), evidence["bad"]),
            (_("Share"), f"{evidence['percent']} %"),
            (_("The brake is pulled from"), f"{evidence['threshold_percent']} %"),
        ]
        if "credentials" in evidence:
            found.append((_("Counted over so many new credentials together"), evidence["credentials"]))
        if "attempted" in evidence:
            found.append((_("Attempted before it was pulled"), evidence["attempted"]))
        return found

    @property
    def since(self) -> Any:
        return parse_datetime(self.brake.evidence.get("since", ""))

    @property
    def classes(self) -> list[tuple[Text, int]]:
        return [(_class(name), number) for name, number in self.brake.evidence.get("classes", [])]


def _class(name: str) -> Text:
    found = class_words.CLASSES.get(ReplyClass(name)) if name in set(ReplyClass) else None
    return found.label if found else name


def shown(brakes: Sequence[Brake]) -> list[Shown]:
    return [Shown(brake, next(iter(brake.waiting), None)) for brake in brakes]  # type: ignore[attr-defined]


def with_appeals(found: Any) -> Any:
    """Each with the appeal that waits, in one more question."""
    return found.select_related("tenant").prefetch_related(
        Prefetch("appeals", Appeal.objects.filter(answered_at=None), to_attr="waiting")
    )


class AppealForm(ConsoleForm):
    text = forms.CharField(
        label=_("What happened, and what have you mended?"), max_length=2000, widget=forms.Textarea(attrs={"rows": 5}),
        help_text=_("A person reads it and decides."),
    )  # fmt: skip


@tenant_page()
@require_safe
def brake_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    found = with_appeals(Brake.objects.of(seat.tenant)).order_by("-id")
    past = found.exclude(ended_at=None)
    if (before := key_of(request)) is not None:
        past = past.filter(pk__lt=before)
    rows = list(past[: PAGE_SIZE + 1])
    context = {
        "section": "brakes",
        "open": shown(list(found.filter(ended_at=None)[:200])),
        "past": shown(rows[:PAGE_SIZE]),
        "older": rows[PAGE_SIZE - 1].pk if len(rows) > PAGE_SIZE else None,
        "is_paused": seat.tenant.state == TenantState.SUSPENDED,
    }
    return render(request, "console/brakes/list.html", context)


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, brake_id: UUID) -> HttpResponse:
    return _page(request, seat, _found(seat, brake_id), AppealForm())


@tenant_page(Role.ADMIN)
@require_http_methods(["POST"])
def appeal(request: HttpRequest, seat: Seat, brake_id: UUID) -> HttpResponse:
    brake, form = _found(seat, brake_id), AppealForm(request.POST)
    if form.is_valid():
        try:
            pulling.appeal(brake, form.cleaned_data["text"], actor=seat.actor)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, gettext("Your request is on its way: a person reads it."))
            return redirect("brake", slug=seat.tenant.slug, brake_id=brake.pk)
    return _page(request, seat, brake, form)


def _page(request: HttpRequest, seat: Seat, brake: Brake, form: AppealForm) -> HttpResponse:
    appeals = list(brake.appeals.order_by("-id")[:20])
    (one,) = [Shown(brake, next((appeal for appeal in appeals if appeal.answered_at is None), None))]
    context = {
        "section": "brakes",
        "one": one,
        "appeals": appeals,
        "form": form,
        "samples": brake.evidence.get("samples", []),
    }
    return render(request, "console/brakes/page.html", context)


def _found(seat: Seat, brake_id: UUID) -> Brake:
    try:
        return pulling.find(brake_id, tenant=seat.tenant)
    except NotFound:
        raise Http404 from None
