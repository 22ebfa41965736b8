"""The log of a webhook's calls: each with its request, its answer and its time; each can be made again."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Role
from accounts.refusals import NotFound, Refused
from delivery.core import webhooks
from delivery.models import Webhook, WebhookCall, WebhookState
from delivery.webhooks import log
from delivery.webhooks import replay as replaying
from delivery.webhooks.log import CallFilter
from relayweb.console import words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import tell, tell_refusal
from relayweb.console.webhooks import call_line, found

PERIODS = {"": _("All that is kept"), "1": _("The last hour"), "24": _("The last 24 hours")}
ON_A_PAGE = 50


@tenant_page()
@require_safe
def calls(request: HttpRequest, seat: Seat, webhook_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    given = {name: request.GET.get(name, "") for name in ("failed", "event", "hours")}
    chosen = _filter(webhook, given)
    rows = log.calls_of(webhook, chosen, before=_key(request.GET.get("before", "")), most=ON_A_PAGE)
    shown = rows[:ON_A_PAGE]
    context = {
        "section": "webhooks",
        "webhook": webhook,
        "lines": [call_line(row) for row in shown],
        "given": given,
        "periods": PERIODS,
        "kinds": [(kind, words.event_words(kind)) for kind in (*webhook.events, webhooks.TEST)],
        "encoded": urlencode({name: value for name, value in given.items() if value}),
        "older": shown[-1].id if len(rows) > ON_A_PAGE else None,
        "is_filtered": any(given.values()),
        "is_later_page": "before" in request.GET,
    }
    return render(request, "console/webhooks/calls.html", context)


@tenant_page()
@require_safe
def call(request: HttpRequest, seat: Seat, webhook_id: UUID, call_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    made = _found(seat, webhook, call_id)
    context = {
        "section": "webhooks",
        "webhook": webhook,
        "line": call_line(made),
        "call": made,
        "method": "POST",
        "request_body": _indented(made.request_body),
        "response_body": _indented(made.response_body),
        "message_id": next((key for key in made.message_ids if key is not None), None),
        "may_replay": seat.may_set_up and webhook.state == WebhookState.ACTIVE and made.kind != webhooks.TEST,
    }
    return render(request, "console/webhooks/call.html", context)


@tenant_page(Role.DEVELOPER)
@require_POST
def replay(request: HttpRequest, seat: Seat, webhook_id: UUID, call_id: UUID) -> HttpResponse:
    webhook = found(seat, webhook_id)
    made = _found(seat, webhook, call_id)
    try:
        count = replaying.replay_call(made, webhook, actor=seat.actor)
    except Refused as refusal:
        tell_refusal(request, refusal)
        return redirect("webhook-call", slug=seat.tenant.slug, webhook_id=webhook.id, call_id=made.id)
    tell(request, ngettext("{n} event is told again.", "{n} events are told again.", count).format(n=f"{count:,}"))
    return redirect("webhook", slug=seat.tenant.slug, webhook_id=webhook.id)


def _found(seat: Seat, webhook: Webhook, call_id: UUID) -> WebhookCall:
    try:
        return log.find_call(seat.tenant, webhook, call_id)
    except NotFound:
        raise Http404 from None


def _filter(webhook: Webhook, given: dict[str, str]) -> CallFilter:
    hours = given["hours"] if given["hours"] in PERIODS else ""
    return CallFilter(
        failed=bool(given["failed"]),
        kind=given["event"] if given["event"] in (*webhook.events, webhooks.TEST) else "",
        since=timezone.now() - timedelta(hours=int(hours)) if hours else None,
    )


def _indented(text: str) -> str:
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text


def _key(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
