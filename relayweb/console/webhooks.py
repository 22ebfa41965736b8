"""Webhooks: added, changed, tested, disabled and replayed. The log of their calls stands in webhook_calls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import Role, Tenant
from accounts.refusals import NotFound, Refused
from delivery.core.states import EVENT_TYPES, EventKind, TenantEventKind
from delivery.core.webhooks import secret_from
from delivery.models import Webhook, WebhookCall, WebhookFormat, WebhookOutcome, WebhookState
from delivery.models.webhook import MOST_IN_A_CALL, DisabledReason
from delivery.webhooks import endpoints, log, replay
from delivery.webhooks.formats import FORMATS
from delivery.webhooks.log import Backlog
from delivery.webhooks.told import Told, ToldMessage
from relayweb.console import moments, once, webhook_words, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm, tell, tell_refusal
from relayweb.console.messages import unchanged
from relayweb.console.words import Mark, Text

OVERLAPS = {"24": _("Signs on for 24 hours"), "168": _("Signs on for 7 days"), "0": _("Stops at once")}
LATEST_SHOWN = 10
USUAL_EVENTS = [kind.value for kind in (EventKind.DELIVERED, EventKind.BOUNCED, EventKind.RETURNED, EventKind.EXPIRED,
                                        EventKind.COMPLAINED, EventKind.UNSUBSCRIBED)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    kind: str
    label: Text
    is_chosen: bool


class WebhookForm(ConsoleForm):
    url = forms.CharField(
        label=_("URL"),
        max_length=2000,
        help_text=_("Called with POST and JSON. It must be reachable from the Internet, on port 443 or 80."),
        widget=forms.TextInput(
            attrs={"autocapitalize": "none", "autocomplete": "off", "spellcheck": "false", "inputmode": "url"}
        ),
    )
    name = forms.CharField(label=_("Name"), required=False, max_length=120, help_text=_("For yourself."))
    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(kind, kind) for kind in EVENT_TYPES],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one event.")},
    )
    format = forms.ChoiceField(
        label=_("Format"),
        choices=list(webhook_words.WEBHOOK_FORMATS.items()),
        initial=WebhookFormat.STANDARD,
        help_text=_("Postal has only some events of mail, and no batches. It cannot be changed later."),
    )
    most_in_a_call = forms.IntegerField(
        label=_("Events in a call, at most"),
        min_value=1,
        max_value=MOST_IN_A_CALL,
        initial=1,
        help_text=_("More than one makes batches where many events wait: fewer calls, another shape of the body."),
    )

    @property
    def of_mail(self) -> list[Choice]:
        return self._choices(kind.value for kind in EventKind)

    @property
    def of_tenant(self) -> list[Choice]:
        return self._choices(kind.value for kind in TenantEventKind)

    def _choices(self, kinds: Iterable[str]) -> list[Choice]:
        value = self["events"].value() or []
        return [Choice(kind, words.event_words(kind), kind in value) for kind in kinds]


class RotateForm(ConsoleForm):
    overlap = forms.ChoiceField(label=_("The present secret"), choices=list(OVERLAPS.items()))


class PeriodForm(ConsoleForm):
    """Local times of the reader."""

    since = forms.DateTimeField(
        label=_("From when"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "60"}, format="%Y-%m-%dT%H:%M"),
    )
    until = forms.DateTimeField(
        label=_("Until when"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "60"}, format="%Y-%m-%dT%H:%M"),
    )


@dataclass(frozen=True, slots=True)
class Line:
    webhook: Webhook
    mark: Mark
    backlog: Backlog
    last: Mark | None


@dataclass(frozen=True, slots=True)
class CallLine:
    call: WebhookCall
    mark: Mark
    event: Text
    more: int


# ---------------------------------------------------------------- pages


@tenant_page()
@require_safe
def webhook_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    found = endpoints.list_webhooks(seat.tenant)
    backlogs = log.backlogs(found) if found else {}
    removed = [
        (one, one.removed_at + endpoints.UNDO_WINDOW) for one in endpoints.list_removed(seat.tenant) if one.removed_at
    ]
    context = {
        "section": "webhooks",
        "lines": [_line(webhook, backlogs[webhook.id]) for webhook in found],
        "removed": removed,
        "failing": sum(1 for webhook in found if webhook.state != WebhookState.ACTIVE or webhook.failing_since),
        "example": None if found else _example(seat.tenant),
    }
    return render(request, "console/webhooks/list.html", context)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("made")
def add(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = WebhookForm(request.POST or None, initial={"events": USUAL_EVENTS, "most_in_a_call": 1})
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            made = endpoints.add_webhook(
                seat.tenant,
                url=given["url"],
                events=given["events"],
                name=given["name"],
                form=given["format"],
                most_in_a_call=given["most_in_a_call"],
                actor=seat.actor,
            )
        except Refused as refusal:
            form.refuse(refusal)
        else:
            once.put(request, made.webhook.id, made.secret)
            return redirect("webhook-secret", slug=seat.tenant.slug, webhook_id=made.webhook.id)
    return render(request, "console/webhooks/edit.html", {"section": "webhooks", "form": form, "webhook": None})


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    present = {name: getattr(webhook, name) for name in ("url", "name", "events", "most_in_a_call")}
    form = WebhookForm(request.POST or None, initial=present)
    del form.fields["format"]
    if request.method == "POST" and form.is_valid():
        try:
            endpoints.update_webhook(webhook, actor=seat.actor, **form.cleaned_data)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            tell(request, _("Saved."))
            return redirect("webhook", slug=seat.tenant.slug, webhook_id=webhook.id)
    return render(request, "console/webhooks/edit.html", {"section": "webhooks", "form": form, "webhook": webhook})


@tenant_page(Role.DEVELOPER)
@require_safe
@sensitive_variables("secret")
def secret_page(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    """The one look at a new secret. Afterwards this address leads to the webhook."""
    webhook = found(seat, webhook_id)
    secret = once.take(request, webhook_id) if request.method == "GET" else None
    if secret is None:
        tell_refusal(request, Refused(gettext("The secret was shown once and cannot be shown again."), reason="shown"))
        return redirect("webhook", slug=seat.tenant.slug, webhook_id=webhook_id)
    return render(
        request,
        "console/webhooks/secret.html",
        {
            "section": "webhooks",
            "webhook": webhook,
            "secret": secret,
            "is_public_key": webhook.format == WebhookFormat.POSTAL,
        },
    )


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    return render(request, "console/webhooks/webhook.html", _page_context(request, seat, found(seat, webhook_id)))


@tenant_page()
@require_safe
def live(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    """The part of the page that changes: how it does, the test that was asked for, the latest calls."""
    context = _page_context(request, seat, found(seat, webhook_id))
    if request.GET.get("seen") == context["seen"]:
        return unchanged(timezone.now())
    return render(request, "console/webhooks/_state.html", context)


@tenant_page(Role.DEVELOPER)
@require_POST
def test(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    address = reverse("webhook", kwargs={"slug": seat.tenant.slug, "webhook_id": webhook.id})
    try:
        test_id = endpoints.request_test(webhook, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
        return redirect(address)
    return redirect(f"{address}?test={test_id}#test")


@tenant_page(Role.DEVELOPER)
@require_POST
def switch(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    try:
        if request.POST.get("to") == "on":
            missed_since = webhook.disabled_at
            endpoints.enable_webhook(webhook, actor=seat.actor)
            tell(request, gettext("It is called again. What happened meanwhile can be replayed."))
            if missed_since is not None:
                address = reverse("webhook-replay", kwargs={"slug": seat.tenant.slug, "webhook_id": webhook.id})
                return redirect(f"{address}?since={missed_since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
        else:
            endpoints.disable_webhook(webhook, actor=seat.actor)
            tell(request, gettext("It is not called any more."))
    except Refused as refusal:
        tell_refusal(request, refusal)
    return redirect("webhook", slug=seat.tenant.slug, webhook_id=webhook.id)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("secret")
def rotate(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    form = RotateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        overlap = timedelta(hours=int(form.cleaned_data["overlap"]))
        try:
            secret = endpoints.rotate_secret(webhook, actor=seat.actor, overlap=overlap)
        except Refused as refusal:
            form.refuse(refusal)
        else:
            once.put(request, webhook.id, secret)
            return redirect("webhook-secret", slug=seat.tenant.slug, webhook_id=webhook.id)
    return render(request, "console/webhooks/rotate.html", {"section": "webhooks", "webhook": webhook, "form": form})


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    if request.method == "POST":
        try:
            endpoints.remove_webhook(webhook, actor=seat.actor)
        except Refused as refusal:
            tell_refusal(request, refusal)
        else:
            tell(request, gettext("The webhook is removed."))
        return redirect("webhooks", slug=seat.tenant.slug)
    context = {
        "section": "webhooks",
        "webhook": webhook,
        "backlog": log.backlog_of(webhook),
        "deadline": timezone.now() + endpoints.UNDO_WINDOW,
    }
    return render(request, "console/webhooks/remove.html", context)


@tenant_page(Role.DEVELOPER)
@require_POST
def restore(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    try:
        webhook = endpoints.find_webhook(webhook_id, tenant=seat.tenant, removed=True)
    except NotFound:
        raise Http404 from None
    try:
        endpoints.restore_webhook(webhook, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
    else:
        tell(request, gettext("The webhook is back."))
    return redirect("webhooks", slug=seat.tenant.slug)


@tenant_page(Role.DEVELOPER)
@require_http_methods(["GET", "HEAD", "POST"])
def replay_page(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    """What could not be told, and a period: both are told again from here."""
    webhook = found(seat, webhook_id)
    wants_dead = request.POST.get("which") == "dead"
    form = PeriodForm(request.POST if request.method == "POST" and not wants_dead else None, initial=_period(request))
    if request.method == "POST":
        try:
            if wants_dead:
                return _replayed(request, seat, webhook, replay.replay_dead(webhook, actor=seat.actor))
            if form.is_valid():
                count = replay.replay_period(webhook, **form.cleaned_data, actor=seat.actor)
                return _replayed(request, seat, webhook, count)
        except Refused as refusal:
            if wants_dead:
                tell_refusal(request, refusal)
                return redirect("webhook-replay", slug=seat.tenant.slug, webhook_id=webhook.id)
            form.refuse(refusal)
    dead = log.dead_events(webhook, before=_number(request.GET.get("before", "")))
    context = {
        "section": "webhooks",
        "webhook": webhook,
        "form": form,
        "most": replay.MOST_REPLAYED,
        "backlog": log.backlog_of(webhook),
        "dead": [(event, words.event_words(event.kind)) for event in dead[:50]],
        "older": dead[49].id if len(dead) > 50 else None,
        "is_active": webhook.state == WebhookState.ACTIVE,
    }
    return render(request, "console/webhooks/replay.html", context)


# ---------------------------------------------------------------- small parts


def found(seat: Seat, webhook_id: UUID) -> Webhook:
    try:
        return endpoints.find_webhook(webhook_id, tenant=seat.tenant)
    except NotFound:
        raise Http404 from None


def call_line(call: WebhookCall) -> CallLine:
    outcome = WebhookOutcome(call.outcome)
    return CallLine(
        call, webhook_words.WEBHOOK_OUTCOMES[outcome], words.event_words(call.kind), len(call.event_ids) - 1
    )


def mark_of(webhook: Webhook) -> Mark:
    if webhook.state == WebhookState.DISABLED:
        reason = "failing_for_good" if webhook.disabled_reason == DisabledReason.FAILING else webhook.disabled_reason
        return webhook_words.WEBHOOK_MARKS[reason or "person"]
    if webhook.failing_since is not None:
        return webhook_words.WEBHOOK_MARKS["failing"]
    return webhook_words.WEBHOOK_MARKS["active" if webhook.last_called_at else "new"]


def _line(webhook: Webhook, backlog: Backlog) -> Line:
    last = webhook_words.WEBHOOK_OUTCOMES[WebhookOutcome(webhook.last_outcome)] if webhook.last_outcome else None
    return Line(webhook, mark_of(webhook), backlog, last)


def _page_context(request: HttpRequest, seat: Seat, webhook: Webhook) -> dict[str, object]:
    calls = log.calls_of(webhook, most=LATEST_SHOWN)[:LATEST_SHOWN]
    test_id = _uuid(request.GET.get("test", ""))
    test_call = log.call_of_test(webhook, test_id) if test_id is not None else None
    is_testing = test_id is not None and test_call is None and webhook.test_id == test_id
    line = _line(webhook, log.backlog_of(webhook))
    seen = f"{calls[0].id if calls else ''} {webhook.state} {webhook.failures} {line.backlog} {is_testing}"
    return {
        "section": "webhooks",
        "webhook": webhook,
        "line": line,
        "events": [words.event_words(kind) for kind in webhook.events],
        "format": webhook_words.WEBHOOK_FORMATS[WebhookFormat(webhook.format)],
        "calls": [call_line(call) for call in calls],
        "test_id": test_id,
        "test_call": call_line(test_call) if test_call is not None else None,
        "test_body": test_call.response_body if test_call is not None else "",
        "is_testing": is_testing,
        "has_overlap": webhook.former_secret_until is not None and webhook.former_secret_until > timezone.now(),
        "story": _story(webhook),
        "seen": _digest(seen),
        "said": str(line.mark.label),
    }


def _story(webhook: Webhook) -> SafeString:
    if webhook.state == WebhookState.DISABLED and webhook.disabled_at is not None:
        return words.fill(
            _("Since {time} nothing is told. Events are kept for {days} days and can be replayed."),
            time=moments.time_tag(webhook.disabled_at, style="full"),
            days=webhook.tenant.log_retention_days,
        )
    if webhook.failing_since is not None and webhook.resting_until is not None:
        return words.fill(
            _("No good answer since {time}. Events wait, and the next try is at {next}."),
            time=moments.time_tag(webhook.failing_since, style="full"),
            next=moments.time_tag(webhook.resting_until),
        )
    if webhook.failing_since is not None:
        return words.fill(
            _("No good answer since {time}. Events wait and are told again, in order."),
            time=moments.time_tag(webhook.failing_since, style="full"),
        )
    if webhook.last_called_at is None:
        return words.fill(_("It is called as soon as one of its events happens. Try it with a test call."))
    return words.fill(_("Last called {time}."), time=moments.time_tag(webhook.last_called_at, style="full"))


def _replayed(request: HttpRequest, seat: Seat, webhook: Webhook, count: int) -> HttpResponse:
    tell(request, ngettext("{n} event is told again.", "{n} events are told again.", count).format(n=f"{count:,}"))
    return redirect("webhook", slug=seat.tenant.slug, webhook_id=webhook.id)


def _period(request: HttpRequest) -> dict[str, datetime]:
    """From the moment the address names, else the last hour."""
    now = timezone.localtime().replace(second=0, microsecond=0) + timedelta(minutes=1)
    try:
        since = datetime.fromisoformat(request.GET.get("since", ""))
    except ValueError:
        since = now - timedelta(hours=1)
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    return {"since": timezone.localtime(since), "until": now}


def _example(tenant: Tenant) -> tuple[dict[str, str], str]:
    """One call as it would be made: its header fields and its body."""
    at = datetime(2026, 4, 1, 0, 30, 12, 345678, tzinfo=UTC)
    keys = [UUID(f"019d46a4-1e20-7c3a-9f00-{number:012x}") for number in range(1, 4)]
    event = Told(
        id=keys[0],
        kind=EventKind.BOUNCED.value,
        occurred_at=at,
        tenant_id=tenant.id,
        tenant_slug=tenant.slug,
        subject_id=keys[1],
        data={"class": "bad_mailbox", "reply": "550 5.1.1 User unknown", "attempt": 1, "host": "mx.example.net"},
        message=ToldMessage(
            keys[2],
            "<order-1042@example.com>",
            "shop@example.com",
            gettext("Your order"),
            "transactional",
            None,
            ["order"],
            {"order": "1042"},
            False,
            at - timedelta(seconds=3),
        ),
        recipient="someone@example.net",
    )
    format_ = FORMATS["standard"]
    request = format_.request([event], secrets=[secret_from(bytes(32))], now=at)
    return request.headers, msgspec.json.format(request.body, indent=2).decode()


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
